"""The demo's own issuer, for machines without Node: discovery, keys and the client_credentials grant, and no more.

A stage prop, started by `demo.issuer` with the settings that `issuer.mjs` reads too. Signs by PyJWT; SIGHUP makes it
read its settings again. Nothing of the gateway's is used here.
"""

from __future__ import annotations

import json
import secrets
import signal
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import jwt

PRIVATE_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi"})
MAX_FORM_BYTES = 64 * 1024


class _Handler(BaseHTTPRequestHandler):
    settings: ClassVar[dict[str, Any]] = {}
    timeout = 10

    def do_GET(self) -> None:
        issuer = self.settings["issuer"]
        match self.path:
            case "/.well-known/openid-configuration":
                self._answer(
                    200, {"issuer": issuer, "jwks_uri": f"{issuer}/jwks", "token_endpoint": f"{issuer}/token"}
                )
            case "/jwks":
                keys = [
                    {name: value for name, value in jwk.items() if name not in PRIVATE_PARTS}
                    for jwk in self.settings["keys"]
                ]
                self._answer(200, {"keys": keys})
            case _:
                self._answer(404, {"error": "not_found"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        if self.path != "/token" or length > MAX_FORM_BYTES:
            self._answer(404, {"error": "not_found"})
            return
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        client = next(
            (each for each in self.settings["clients"] if each["id"] == form.get("client_id")), None
        )
        is_known = client is not None and bool(client["secret"])
        if client is None or not is_known or not _equal(client["secret"], form.get("client_secret", "")):
            self._answer(401, {"error": "invalid_client"})
        elif form.get("grant_type") != "client_credentials":
            self._answer(400, {"error": "unsupported_grant_type"})
        else:
            self._answer(
                200,
                {
                    "access_token": self._token(client),
                    "token_type": "Bearer",
                    "expires_in": client["seconds"],
                },
            )

    def _token(self, client: dict[str, Any]) -> str:
        jwk = next(key for key in self.settings["keys"] if key["alg"] == client["algorithm"])
        now = int(time.time())
        claims = {
            **client["claims"],
            "iss": self.settings["issuer"],
            "aud": self.settings["audience"],
            "sub": client["id"],
            "client_id": client["id"],
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + client["seconds"],
        }
        key = jwt.PyJWK(jwk, algorithm=client["algorithm"])
        return jwt.encode(
            claims, key.key, algorithm=client["algorithm"], headers={"kid": jwk["kid"], "typ": "at+jwt"}
        )

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Its log says when it serves, and nothing of requests."""


def _equal(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def main(settings_file: Path) -> None:
    served = 0

    def read(*_: object) -> None:
        nonlocal served
        _Handler.settings = json.loads(settings_file.read_text())
        served += 1

    def read_again(*_: object) -> None:
        read()
        print(f"serving {served}", flush=True)

    read()
    settings = _Handler.settings
    server = ThreadingHTTPServer(("127.0.0.1", settings["port"]), _Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings["certificate"], settings["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    signal.signal(signal.SIGHUP, read_again)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"serving {served}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

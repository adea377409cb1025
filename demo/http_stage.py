"""What the demo has for its door for HTTP: an issuer of tokens, the shop's API, a model, and the ways to all of them.

Owns those three servers, the tokens and the files by which curl and the model's SDK reach the gateway. `stage` starts
it before the gateway and tears it down; `http_steps` shows it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.issuer import Client, LocalIssuer
from demo.model import Call as ModelCall
from demo.model import ModelServer
from demo.pki import DemoPki
from demo.shop import Shop
from demo.shop_api import Call, ShopApi

KEYS = ("api_key", "model_key")  # in the directory of secrets: what opens the two targets
INSPECTION = "inspection"
API_HOST = "api.shop.example"
TOKEN_SECONDS = 8 * 3600
ASK_MODEL = Path(__file__).parent / "ask_model.py"


class HttpStage:
    """`directory`: that of the demo. people: the group of each."""

    def __init__(self, directory: Path, shop: Shop, people: Mapping[str, str]) -> None:
        self._directory = directory
        self._shop = shop
        pki = directory / "pki"
        self.issuer = LocalIssuer(
            directory / "issuer",
            pki / "server.crt",
            pki / "server.key",
            pki / "ca.crt",
            tuple(
                Client(name, secrets.token_urlsafe(16), {"groups": [group]}, "ES256", TOKEN_SECONDS)
                for name, group in people.items()
            ),
        )
        self.api: ShopApi | None = None
        self.model: ModelServer | None = None

    @property
    def issuer_says(self) -> str:
        """What the issuer is, for a sentence."""
        if self.issuer.kind == "oidc-provider":
            return "a real one, oidc-provider on Node"
        return "the demo's own stand-in, as oidc-provider is not installed (.ci/node .node)"

    def api_calls(self) -> list[Call]:
        return [] if self.api is None else self.api.calls

    def model_calls(self) -> list[ModelCall]:
        return [] if self.model is None else self.model.calls

    @property
    def api_port(self) -> int:
        return 0 if self.api is None else self.api.server_port

    @property
    def model_port(self) -> int:
        return 0 if self.model is None else self.model.server_port

    def token_file(self, person: str) -> Path:
        return self._directory / "tokens" / person

    def curl_file(self, person: str) -> Path:
        return self._directory / f"{person}.curl"

    @property
    def ask(self) -> Path:
        return self._directory / "bin" / "ask"

    @property
    def askpass(self) -> Path:
        return self._directory / "bin" / "show-token"

    def start(self, keys: Mapping[str, str], pki: DemoPki) -> None:
        """keys: of KEYS. Raises IssuerFailed."""
        pki.issue_authority(INSPECTION, API_HOST)
        self.issuer.start()
        self.api = ShopApi(self._shop, keys["api_key"])
        self.api.start()
        self.model = ModelServer(keys["model_key"])
        self.model.__enter__()

    def stop(self) -> None:
        """Safe to call twice."""
        self.issuer.stop()
        api, self.api = self.api, None
        if api is not None:
            api.stop()
        model, self.model = self.model, None
        if model is not None:
            model.__exit__(None, None, None)

    def write_files(self, gateway_port: int) -> None:
        """The tokens, and how curl and the model's SDK come to the gateway with them."""
        for client in self.issuer.clients:
            token = self.issuer.token(client.id)
            _write_private(self.token_file(client.id), token + "\n")
            _write_private(
                self.curl_file(client.id),
                "# For curl -K: who the gateway is, and who you are.\n"
                f'silent\nshow-error\nnoproxy = "*"\ncacert = "{self._directory / "pki" / "ca.crt"}"\n'
                f'oauth2-bearer = "{token}"\n',
            )
        self._write_ask(gateway_port)
        self._write_askpass()

    def _write_askpass(self) -> None:
        """What ssh runs when it is asked for the token (SSH_ASKPASS)."""
        self.askpass.write_text(f"#!/bin/sh\nexec cat {shlex.quote(str(self.token_file('alice')))}\n")
        self.askpass.chmod(0o755)

    def _write_ask(self, gateway_port: int) -> None:
        url = f"https://localhost:{gateway_port}/t/model/v1"
        token, ca = self.token_file("alice"), self._directory / "pki" / "ca.crt"
        self.ask.parent.mkdir(exist_ok=True)
        self.ask.write_text(
            "#!/bin/sh\n"
            "# OpenAI's SDK as alice: all that it is told is where to go, what to show and whom to believe.\n"
            f"export OPENAI_BASE_URL={shlex.quote(url)}\n"
            f'export OPENAI_API_KEY="$(cat {shlex.quote(str(token))})"\n'
            f"export SSL_CERT_FILE={shlex.quote(str(ca))} NO_PROXY=localhost\n"
            f'exec {shlex.quote(sys.executable)} {shlex.quote(str(ASK_MODEL))} "$@"\n'
        )
        self.ask.chmod(0o755)


def has_curl() -> bool:
    return shutil.which("curl") is not None


def has_http2() -> bool:
    """Can the curl that is here speak HTTP/2?"""
    if not has_curl():
        return False
    said = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False).stdout
    return "HTTP2" in said


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)

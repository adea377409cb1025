"""An OpenID Connect issuer for the demo and the tests, on loopback over TLS, in a child process.

Owns the process, its keys and its settings. With Node and the certified package `oidc-provider` (which `.ci/node`
installs) it is that, by `issuer.mjs`; on machines without them it is a stand-in in Python (`issuer_stand_in`), which
knows the one grant that the demo needs. `kind` says which. It trusts nobody but the clients given, and gives them
access tokens (JWT) by client_credentials.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from demo.child_process import end, launch
from demo.postgres_server import free_port

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / ".node" / "node_modules"
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
_STEP_S = 0.01

Kind = Literal["oidc-provider", "stand-in"]


class IssuerFailed(RuntimeError):
    """The issuer did not start, or gave no token; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who may ask for tokens. `claims` go into them; without a secret it is a device of a person."""

    id: str
    secret: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    seconds: int = 3600


@dataclass(slots=True)
class LocalIssuer:
    """One issuer. `directory`: its files. `certificate`, `key`, `ca`: of its TLS, for localhost."""

    directory: Path
    certificate: Path
    key: Path
    ca: Path
    clients: tuple[Client, ...]
    audience: str = "proxyd"
    port: int = 0
    kind: Kind = "stand-in"
    keys: list[dict[str, Any]] = field(default_factory=list)
    _served: int = 0
    _process: Popen[bytes] | None = field(init=False, default=None)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "issuer.log"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, or start again as it was, and wait until it serves. Raises IssuerFailed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        self.port = self.port or free_port(HOST)
        self.keys = self.keys or new_keys("1")
        self._write_settings()
        command = self._command()
        with self.log.open("ab") as log:
            self._process = launch(command, log=log, cwd=ROOT, env=dict(os.environ))
        self._served = 0
        self._wait_until_served()

    def stop(self) -> None:
        """End it. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def rotate(self, keys: list[dict[str, Any]]) -> None:
        """Sign with `keys`, and publish no others, from now on."""
        self.keys = keys
        self._write_settings()
        if self._process is None:
            raise IssuerFailed("the issuer does not run")
        self._process.send_signal(signal.SIGHUP)
        self._wait_until_served()

    def token(self, client_id: str) -> str:
        """An access token for the client of that name. Raises IssuerFailed."""
        client = next(client for client in self.clients if client.id == client_id)
        form = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": client.secret}
        context = ssl.create_default_context(cafile=str(self.ca))
        with httpx.Client(verify=context, trust_env=False) as http:
            answer = http.post(f"{self.url}/token", data=form)
        if answer.status_code != 200:
            raise IssuerFailed(f"no token: {answer.text[:500]}")
        return str(answer.json()["access_token"])

    def _command(self) -> list[str]:
        node = shutil.which("node")
        if node is not None and (MODULES / "oidc-provider").is_dir():
            self.kind = "oidc-provider"
            return [node, str(ROOT / "demo" / "issuer.mjs"), str(MODULES), str(self._settings_file)]
        self.kind = "stand-in"
        return [sys.executable, "-m", "demo.issuer_stand_in", str(self._settings_file)]

    @property
    def _settings_file(self) -> Path:
        return self.directory / "issuer.json"

    def _write_settings(self) -> None:
        settings = {
            "issuer": self.url,
            "port": self.port,
            "certificate": str(self.certificate),
            "key": str(self.key),
            "keys": self.keys,
            "audience": self.audience,
            "clients": [asdict(client) for client in self.clients],
        }
        self._settings_file.touch(mode=0o600)
        self._settings_file.write_text(json.dumps(settings))

    def _wait_until_served(self) -> None:
        self._served += 1
        deadline = time.monotonic() + START_TIMEOUT_S
        while f"serving {self._served}\n" not in self.log_text():
            if not self.is_running or time.monotonic() > deadline:
                said = self.log_text()[-2000:]
                self.stop()
                raise IssuerFailed(f"the issuer does not serve; its log ends with:\n{said}")
            time.sleep(_STEP_S)


def new_keys(generation: str) -> list[dict[str, Any]]:
    """Private keys (JWK) for RS256, ES256 and EdDSA, named after their kind and `generation`."""
    made = {
        "rs": RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True) | {"alg": "RS256"},
        "es": ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True) | {"alg": "ES256"},
        "ed": OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True) | {"alg": "EdDSA"},
    }
    return [
        {name: value for name, value in jwk.items() if name != "key_ops"}
        | {"kid": f"{kind}-{generation}", "use": "sig"}
        for kind, jwk in made.items()
    ]

"""The ways to an HTTP target: through nginx as a reverse proxy, through mitmproxy in reverse mode, through proxyd.

Each ends TLS with the client and speaks HTTP/1.1 in clear to the same target, an nginx of its own (and, for events, a
small server of ours). Clients of proxyd show a token, since wrk has no certificates: its keys are served by the bench
itself. A way is started once and stays up while all are measured in turn.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from bench import documents
from bench.contestants import ContestantFailed
from bench.doors import HOST, Document, daemon
from bench.processes import cpu_s
from demo.child_process import end, launch
from demo.gateway import Gateway
from demo.pki import DemoPki
from demo.postgres_server import free_port

NGINX, MITMPROXY, PROXYD = "nginx", "mitmproxy", "proxyd"
NAMES = (NGINX, MITMPROXY, PROXYD)
START_TIMEOUT_S = 30.0
TARGET = "api"
AUDIENCE = "proxyd"


class Way(Protocol):
    """base: the URL of the target by this way. headers: what a request has to carry."""

    name: str

    @property
    def base(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def cpu_s(self) -> float: ...


class Served:
    """A program that listens on a port of loopback, for as long as the bench needs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port(HOST)
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        log_path = self.directory / "log"
        command = self.command()
        with log_path.open("ab") as log:
            self._process = launch(command, log=log, cwd=self.directory, env=dict(os.environ))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _listens(self.port):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise ContestantFailed(f"{command[0]} did not start:\n{log_path.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def cpu_s(self) -> float:
        """Of the process and, for nginx, of its one worker."""
        if self._process is None:
            return 0.0
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return sum(cpu_s(pid) for pid in (self._process.pid, *map(int, children)))


class Nginx(Served):
    """One worker. `site`: what stands in its http block."""

    def __init__(self, directory: Path, site: str) -> None:
        super().__init__(directory)
        self._site = site

    def command(self) -> list[str]:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        if not Path(program).exists():
            raise ContestantFailed("nginx is not installed: apt-get install nginx-light")
        settings = self.directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        text = documents.NGINX.format(user=user, directory=self.directory, site=self._site)
        settings.write_text(text.replace("@PORT@", str(self.port)))
        return [program, "-c", str(settings), "-e", str(self.directory / "error.log")]


class Events(Served):
    """The server of events: see `bench.http_events`."""

    def command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("http_events.py")), str(self.port)]


class NginxWay(Nginx):
    name = NGINX

    def __init__(self, directory: Path, pki: DemoPki, target: int, events: int) -> None:
        site = documents.NGINX_PROXY.format(
            certificate=pki.certificate("server"), key=pki.key("server"), target=target, events=events
        )
        super().__init__(directory, site)
        self.headers: Mapping[str, str] = {}

    @property
    def base(self) -> str:
        return f"https://localhost:{self.port}"


class MitmproxyWay(Served):
    """Debian's, in reverse mode. It does not record to a file: it does less than proxyd."""

    name = MITMPROXY

    def __init__(self, directory: Path, pki: DemoPki, target: int) -> None:
        super().__init__(directory)
        self._pki = pki
        self._target = target
        self.headers: Mapping[str, str] = {}

    @property
    def base(self) -> str:
        return f"https://localhost:{self.port}"

    def command(self) -> list[str]:
        program = shutil.which("mitmdump")
        if program is None:
            raise ContestantFailed("mitmproxy is not installed: apt-get install mitmproxy")
        both = self.directory / "server.pem"
        both.write_text(self._pki.key("server").read_text() + self._pki.certificate("server").read_text())
        both.chmod(0o600)
        return [
            *(program, "--quiet", "--mode", f"reverse:http://{HOST}:{self._target}"),
            *("--listen-host", HOST, "--listen-port", str(self.port), "--certs", f"*={both}"),
            *(
                "--set",
                f"confdir={self.directory}",
                "--set",
                "flow_detail=0",
                "--set",
                "stream_large_bodies=1m",
            ),
        ]


class ProxydWay:
    """With TLS, a token, a policy and tapes."""

    name = PROXYD

    def __init__(self, directory: Path, pki: DemoPki, target: int, events: int, issuer: Issuer) -> None:
        self._directory = directory
        self._port = free_port(HOST)
        self._pki = pki
        self._target = target
        self._events = events
        self._issuer = issuer
        self.gateway: Gateway = daemon(directory, self)
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {issuer.token()}"}

    @property
    def secrets(self) -> Mapping[str, str]:
        return {"api-token": "the-credential-of-the-target"}

    @property
    def base(self) -> str:
        return f"https://localhost:{self._port}/t/{TARGET}"

    @property
    def events_base(self) -> str:
        return f"https://localhost:{self._port}/t/events"

    def config(self) -> Document:
        return documents.parsed(
            documents.PROXYD_HTTP.format(
                port=self._port,
                pki=self._pki.directory,
                issuer=self._issuer.url,
                audience=AUDIENCE,
                target=self._target,
                events=self._events,
            )
        )

    def policy(self) -> Document:
        return documents.parsed(documents.POLICY_HTTP)

    def start(self) -> None:
        self.gateway.start()

    def stop(self) -> None:
        self.gateway.stop()

    def cpu_s(self) -> float:
        return cpu_s(self.gateway.pid)


class Issuer:
    """The smallest that discovery is content with: its documents, and tokens signed by its one key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        keys = {"keys": [{**public, "kid": "bench", "use": "sig", "alg": "ES256"}]}
        issuer = self

        class Documents(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_discovery = self.path.endswith("openid-configuration")
                document = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"} if is_discovery else keys
                data = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer((HOST, 0), Documents)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "bench",
            "groups": ["bench"],
            "iat": now,
            "exp": now + 86400,
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "bench"})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True

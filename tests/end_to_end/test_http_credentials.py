"""What real servers get in place of a client's own credential, through a running gateway."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.session
import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from demo.issuer import Client, LocalIssuer
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_servers import HttpServer, Hypercorn, Nginx
from tests.end_to_end.running import HOST, Document, wait_until
from tests.pki import CLIENT, SERVER, Authority

ISSUER_SECRET = "the-secret-of-the-gateway-at-the-issuer"
KEY = "the-key-of-the-target"
LOGINS = ["default", "basic", "field", "token", "brief", "signed", "mutual", "open", "broken"]
POLICY = EVERYTHING_BY_HTTP.replace("logins: [default]", f"logins: {LOGINS}").replace(
    '  - name: deletes-wait\n    effect: hold\n    http: {methods: [DELETE], paths: ["/**"]}\n'
    "    approval: {approvers: [ops], timeout: 5m}\n",
    "",
)


class S3(HttpServer):
    """`rclone serve s3`, which checks signatures, over TLS."""

    scheme = "https"

    def __init__(self, directory: Path, ca: Authority) -> None:
        super().__init__(directory)
        self._ca = ca

    def command(self) -> list[str]:
        (self.directory / "files" / "bucket").mkdir(parents=True)
        files = self._ca.issue("s3", dns=["localhost"], ips=[HOST], purpose=SERVER).write(self.directory)
        options = [
            "--config",
            "/dev/null",
            "--auth-key",
            f"AKIDEXAMPLE,{KEY}",
            "--addr",
            f"{HOST}:{self.port}",
        ]
        tls = ["--cert", str(files.certificate), "--key", str(files.key)]
        program = str(Path(sys.executable).parent / "rclone")
        return [program, "serve", "s3", *options, *tls, str(self.directory / "files")]


def write_secret(path: Path, value: str) -> Document:
    path.write_text(value)
    path.chmod(0o600)
    return {"file": str(path)}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGateway]:
    directory = tmp_path_factory.mktemp("credentials")
    servers = Authority.root("Servers")
    gates = Authority.root("Gates")
    ca = servers.write_bundle(directory / "servers.crt")
    files = servers.issue("issuer", dns=["localhost"], purpose=SERVER).write(directory)
    own = gates.issue("the gateway itself", purpose=CLIENT).write(directory, "own")
    clients = (
        Client("gate", ISSUER_SECRET, {"team": "blue"}, seconds=600),
        Client("brief", ISSUER_SECRET, seconds=5),
    )
    issuer = LocalIssuer(directory / "issuer", files.certificate, files.key, ca, clients, audience="api")
    key = write_secret(directory / "key", KEY)
    at_issuer = write_secret(directory / "at-issuer", ISSUER_SECRET)
    wants_certificate = (
        f"ssl_client_certificate {gates.write_bundle(directory / 'gates.crt')}; ssl_verify_client on;"
        "location / { return 200 $ssl_client_s_dn; }"
    )
    app = Hypercorn(directory / "app")
    strict = Nginx(directory / "strict", wants_certificate, servers)
    s3 = S3(directory / "s3", servers)
    issuer.start()
    aws: Document = {"region": "eu-central-1", "access_key": "AKIDEXAMPLE", "secret_key": key}
    at = {"client_id": "gate", "client_secret": at_issuer, "ca": str(ca), "scope": "openid"}
    logins: list[Document] = [
        {"name": "default", "bearer": key},
        {"name": "basic", "basic": {"user": "gate", "password": key}},
        {"name": "field", "header": {"name": "X-Api-Key", "value": key}},
        {"name": "token", "oauth2": {"token_url": f"{issuer.url}/token", **at}},
        {"name": "brief", "oauth2": {"token_url": f"{issuer.url}/token", **at, "client_id": "brief"}},
        {"name": "broken", "oauth2": {"token_url": f"{issuer.url}/token", **at, "client_secret": key}},
        {"name": "signed", "sigv4": {**aws, "service": "execute-api"}},
        {"name": "open", "none": True},
    ]
    certificate = {"certificate": str(own.certificate), "key": str(own.key)}
    targets: dict[str, Document] = {
        "app": {"url": app.url, "logins": logins, "forwarded": True},
        "strict": {
            "url": strict.url,
            "logins": [{"name": "mutual", "certificate": certificate}, {"name": "open", "none": True}],
        },
        "s3": {"url": s3.url, "logins": [{"name": "default", "sigv4": {**aws, "service": "s3"}}]},
    }
    written_out = json.loads(json.dumps(targets))  # YAML would have aliases where a value is used twice
    try:
        with (
            app,
            strict,
            s3,
            HttpGateway(directory / "gateway", written_out, policy=POLICY, ca=servers) as running,
        ):
            yield running
    finally:
        issuer.stop()


def echoed(gateway: HttpGateway, login: str, method: str = "GET", **settings: Any) -> dict[str, Any]:
    """What the application was asked, by that login."""
    with gateway.client() as client:
        answer = client.request(method, f"/t/{login}+app/echo", **settings)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return {**told, "headers": _single(told["headers"])}


def _single(headers: Any) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, dict) else headers
    found = {name.lower(): value for name, value in pairs}
    assert len(found) == len(headers)
    return found


SIMPLE = [
    ("default", "authorization", f"Bearer {KEY}"),
    ("basic", "authorization", f"Basic {base64.b64encode(f'gate:{KEY}'.encode()).decode()}"),
    ("field", "x-api-key", KEY),
]
OF_THE_CLIENT = {
    "Authorization": "Digest of-the-client",
    "X-Forwarded-For": "of-the-client",
    "Forwarded": "for=of-the-client",
    "X-HTTP-Method-Override": "of-the-client",
    "Proxyd-Login": "default",
    "Cookie": "kept=1",
}


@pytest.mark.parametrize(("login", "name", "value"), SIMPLE)
def test_the_targets_credential_takes_the_place_of_the_clients(
    gateway: HttpGateway, login: str, name: str, value: str
) -> None:
    sent = {key: of for key, of in OF_THE_CLIENT.items() if key != "Proxyd-Login"}
    headers = echoed(
        gateway, login, headers={**sent, "X-Api-Key": "kept" if name != "x-api-key" else "gone"}
    )["headers"]
    assert headers[name] == value
    assert "of-the-client" not in str(headers)
    assert headers["cookie"] == "kept=1"
    assert headers["forwarded"].startswith("for=127.0.0.1;")


def test_a_target_that_asks_for_nothing_gets_nothing(gateway: HttpGateway) -> None:
    headers = echoed(gateway, "open", headers={"Authorization": "Digest of-the-client"})["headers"]
    assert "authorization" not in headers


def test_a_token_of_the_gateways_own(gateway: HttpGateway) -> None:
    seen = {echoed(gateway, "token")["headers"]["authorization"] for _ in range(3)}
    assert len(seen) == 1
    claims = jwt.decode(seen.pop().removeprefix("Bearer "), options={"verify_signature": False})
    assert (claims["client_id"], claims["aud"], claims["team"]) == ("gate", "api", "blue")


def test_a_token_in_use_is_renewed_before_anybody_asks_again(gateway: HttpGateway) -> None:
    def fetched() -> float:
        return gateway.metrics()[
            'proxyd_target_token_fetches_total{login="brief",outcome="success",target="app"}'
        ]

    first = echoed(gateway, "brief")["headers"]["authorization"]
    assert fetched() == 1
    wait_until(lambda: fetched() == 2, "the next token")
    assert echoed(gateway, "brief")["headers"]["authorization"] != first
    assert fetched() == 2


def test_a_token_that_cannot_be_had(gateway: HttpGateway) -> None:
    with gateway.client() as client:
        answer = client.get("/t/broken+app/echo")
        assert answer.status_code == 502
        assert "could not get its own token" in answer.text
        assert client.get("/t/open+app/echo").status_code == 200
    log = str(gateway.log_lines())
    assert "status 401 (invalid_client)" in log
    assert KEY not in log
    assert KEY not in answer.text


def test_a_certificate_of_the_gateways_own(gateway: HttpGateway) -> None:
    with gateway.client() as client:
        assert client.get("/t/mutual+strict/").text == "CN=the gateway itself"
        assert client.get("/t/open+strict/").status_code == 400  # nginx: no required certificate was sent
        assert client.get("/t/mutual+strict/").text == "CN=the gateway itself"


def test_a_request_that_is_signed(gateway: HttpGateway) -> None:
    """botocore signs what the application has received, and comes to the same."""
    body = b'{"name": "ada"}'
    told = echoed(
        gateway, "signed", "POST", content=body, params={"b": "2", "a": "x y"}, headers={"x-amz-target": "T"}
    )
    headers = told["headers"]
    moment = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    request = AWSRequest("POST", f"http://{headers['host']}/echo?b=2&a=x%20y", data=body)
    for name in ("content-type", "x-amz-target"):
        if name in headers:
            request.headers[name] = headers[name]
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment):
        SigV4Auth(Credentials("AKIDEXAMPLE", KEY), "execute-api", "eu-central-1").add_auth(request)
    assert headers["authorization"] == request.headers["Authorization"]


def test_a_request_that_the_client_has_signed(gateway: HttpGateway) -> None:
    with gateway.client() as client:
        answer = client.get("/t/signed+app/echo", params={"X-Amz-Signature": "00"})
    assert answer.status_code == 400
    assert answer.json()["hint"] == "Send it without a signature in its query."


@pytest.fixture
def s3(gateway: HttpGateway, monkeypatch: pytest.MonkeyPatch) -> Any:
    """AWS's own client, with keys that no server knows: it is the gateway's that count."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    alice = gateway.people["alice"]
    settings = Config(
        s3={"addressing_style": "path"},
        client_cert=(str(alice.certificate), str(alice.key)),
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",  # rclone knows no checksums behind a body
        connect_timeout=60,
        read_timeout=60,
    )
    client = botocore.session.Session().create_client(
        "s3",
        region_name="eu-central-1",
        endpoint_url=f"{gateway.url}/t/s3",
        verify=str(gateway.ca),
        aws_access_key_id="NOBODY",
        aws_secret_access_key="nothing",
        config=settings,
    )
    yield client
    client.close()


@pytest.mark.parametrize("key", ["plain.txt", "with blank/ä+b (1).txt"])
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_awss_own_client_at_a_real_server(s3: Any, key: str, size: int) -> None:
    body = os.urandom(size)
    s3.put_object(Bucket="bucket", Key=key, Body=body, ContentType="text/plain", Metadata={"color": "blue"})
    found = s3.get_object(Bucket="bucket", Key=key)
    assert hashlib.sha256(found["Body"].read()).digest() == hashlib.sha256(body).digest()
    assert found["Metadata"] == {"color": "blue"}
    listed = s3.list_objects_v2(Bucket="bucket", Prefix=key[:4])
    assert [(one["Key"], one["Size"]) for one in listed["Contents"]] == [(key, size)]
    s3.delete_object(Bucket="bucket", Key=key)
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="bucket", Key=key)


def test_a_secret_that_is_changed_is_used_after_a_reload(gateway: HttpGateway) -> None:
    path = gateway.directory.parent / "key"
    try:
        write_secret(path, "another-key")
        assert echoed(gateway, "default")["headers"]["authorization"] == f"Bearer {KEY}"
        assert gateway.reload()
        assert echoed(gateway, "default")["headers"]["authorization"] == "Bearer another-key"
    finally:
        write_secret(path, KEY)
        gateway.reload()
    assert echoed(gateway, "default")["headers"]["authorization"] == f"Bearer {KEY}"


def test_no_credential_is_on_a_tape_or_in_the_log(gateway: HttpGateway) -> None:
    """What a target says of its own accord is another matter: so nothing is asked here that is told back."""
    before = len(gateway.logged("session opened"))
    logins = ("default", "basic", "field", "token", "signed")
    with gateway.client() as client:
        for login in logins:
            assert client.get(f"/t/{login}+app/people").status_code == 200
    gateway.last_session()
    opened = gateway.logged("session opened")[before:]
    assert len(opened) == len(logins)
    text = b"".join(Path(one["tape"]).read_bytes() for one in opened) + str(gateway.log_lines()).encode()
    assert b"/people" in text
    for secret in (KEY, ISSUER_SECRET, base64.b64encode(f"gate:{KEY}".encode()).decode()):
        assert secret.encode() not in text

"""Requests signed for AWS: what is signed, how the body is vouched for, and a real S3 server that believes it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from demo.child_process import end, launch
from policy.located_yaml import parse, validate
from protocols.http.messages import Headers, RequestHead
from proxyd.config import HttpSigV4
from proxyd.http_credentials import CredentialUnavailable
from proxyd.http_credentials.aws import REREAD_S, UNSIGNED, UNSIGNED_PIECES, AwsInjector
from proxyd.telemetry import Telemetry
from tests.pki import SERVER, Authority
from tests.proxyd.documents import write_secret

RCLONE = Path(sys.executable).parent / "rclone"
NOW = 1_800_000_000.0
HELLO = hashlib.sha256(b"hello").hexdigest()
EMPTY = hashlib.sha256(b"").hexdigest()


def injector_of(
    directory: Path, service: str = "s3", *, is_tls: bool = True, more: str = "", now: float = NOW
) -> AwsInjector:
    write_secret(directory / "secret", "SK")
    text = f"{{region: eu-central-1, service: {service}, access_key: AKIDEXAMPLE, secret_key: {{file: secret}}{more}}}"
    login = validate(HttpSigV4, parse(text, "login"), context={"directory": directory})
    return AwsInjector(login, frozenset(), lambda: now, is_tls=is_tls)


def put(headers: Headers = (), body_bytes: int | None = 5, target: str = "/bucket/key") -> RequestHead:
    return RequestHead("PUT", target, "https", "s3.example", headers, body_bytes=body_bytes)


def injected(injector: AwsInjector, request: RequestHead, digest: str | None = None) -> dict[str, str]:
    made = injector.ready(request, digest)
    assert made is not None
    assert len(made.headers) == len(dict(made.headers))
    return dict(made.headers)


BODIES = [
    ("s3", True, 5, None, UNSIGNED),  # it streams, and TLS keeps it whole
    ("s3", True, None, None, UNSIGNED),
    ("s3", True, 5, HELLO, HELLO),  # it had to be read anyway
    ("s3", True, 0, None, EMPTY),
    ("s3", False, 5, HELLO, HELLO),
    ("s3", False, 0, None, EMPTY),
]


@pytest.mark.parametrize(("service", "is_tls", "body_bytes", "digest", "claimed"), BODIES)
def test_how_the_body_is_vouched_for(
    tmp_path: Path, service: str, is_tls: bool, body_bytes: int | None, digest: str | None, claimed: str
) -> None:
    injector = injector_of(tmp_path, service, is_tls=is_tls)
    assert injected(injector, put(body_bytes=body_bytes), digest)["x-amz-content-sha256"] == claimed


@pytest.mark.parametrize(
    ("service", "is_tls", "needed"),
    [("s3", True, False), ("s3", False, True), ("execute-api", True, True), ("dynamodb", False, True)],
)
def test_whose_body_has_to_be_read_before(tmp_path: Path, service: str, is_tls: bool, needed: bool) -> None:
    injector = injector_of(tmp_path, service, is_tls=is_tls)
    assert injector.needs_body_hash is needed
    if needed:
        with pytest.raises(CredentialUnavailable, match="has not been read"):
            injector.ready(put())


def test_which_fields_are_signed(tmp_path: Path) -> None:
    sent: Headers = (
        ("accept", "*/*"),
        ("content-type", "text/plain"),
        ("x-amz-meta-color", "blue"),
        ("x-amz-target", "T"),
        ("x-amz-date", "of the client"),
        ("x-amz-security-token", "of the client"),
        ("authorization", "AWS4-HMAC-SHA256 of the client"),
    )
    made = injector_of(tmp_path).ready(put(sent))
    assert made is not None
    names = re.search(r"SignedHeaders=([^,]*),", dict(made.headers)["authorization"])
    assert names is not None
    assert names[1] == "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-color;x-amz-target"
    assert made.removed >= {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
    assert not made.removed & {"x-amz-target", "x-amz-meta-color", "content-type"}


def test_keys_that_last_for_a_session(tmp_path: Path) -> None:
    write_secret(tmp_path / "session", "SESSION")
    made = injected(injector_of(tmp_path, more=", session_token: {file: session}"), put())
    assert made["x-amz-security-token"] == "SESSION"
    assert "x-amz-security-token" in made["authorization"]


TEMPORARY = {
    "AccessKeyId": "ASIA1",
    "SecretAccessKey": "SK1",
    "SessionToken": "ST1",
    "Expiration": "2027-01-15T08:00:01Z",  # a second after NOW
}


def temporary(directory: Path, clock: Callable[[], float] = lambda: NOW, **changed: object) -> AwsInjector:
    write_secret(directory / "keys", json.dumps({"Version": 1, **TEMPORARY, **changed}, indent=1))
    text = "{region: eu-central-1, service: s3, credentials: {file: keys}}"
    login = validate(HttpSigV4, parse(text, "login"), context={"directory": directory})
    return AwsInjector(login, frozenset(), clock, is_tls=True)


@pytest.mark.parametrize(
    "document",
    [
        {"Version": 1, **TEMPORARY},  # credential_process
        {
            "Credentials": {**TEMPORARY, "Expiration": "2027-01-15T08:00:01+00:00"},
            "AssumedRoleUser": {},
        },  # sts
        {
            "Code": "Success",
            "Token": "ST1",
            **{k: v for k, v in TEMPORARY.items() if k != "SessionToken"},
        },  # IMDS
    ],
)
def test_temporary_keys_of_every_source(tmp_path: Path, document: object) -> None:
    injector = temporary(tmp_path)
    write_secret(tmp_path / "keys", json.dumps(document))
    injector.reload()
    made = injected(injector, put())
    assert made["x-amz-security-token"] == "ST1"
    assert "Credential=ASIA1/" in made["authorization"]


def test_temporary_keys_end(tmp_path: Path) -> None:
    now = NOW
    injector = temporary(tmp_path, lambda: now)
    assert injector.ready(put()) is not None
    now += 1
    with pytest.raises(CredentialUnavailable) as caught:
        injector.ready(put())
    assert "have ended" in caught.value.reason
    assert not caught.value.is_request
    write_secret(tmp_path / "keys", json.dumps({**TEMPORARY, "Expiration": None}))
    assert injector.reload()
    now += 1e9
    assert injector.ready(put()) is not None


@pytest.mark.parametrize("content", ["", "{}", "[]", "nonsense", '{"AccessKeyId": "a"}', "[" * 20_000])
async def test_keys_that_another_program_writes_anew(
    tmp_path: Path, content: str, autojump_clock: MockClock
) -> None:
    injector, said = temporary(tmp_path), StringIO()

    async def looked_at() -> None:
        """The file is read by a thread, which the clock does not wait for."""
        await trio.sleep(REREAD_S)
        await trio.testing.wait_all_tasks_blocked(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(injector.keep_fresh, Telemetry("info", said).log)
        write_secret(tmp_path / "keys", content)
        for _ in range(3):
            await looked_at()
        assert "Credential=ASIA1/" in injected(injector, put())["authorization"]
        write_secret(tmp_path / "keys", json.dumps({**TEMPORARY, "AccessKeyId": "ASIA2"}))
        for _ in range(2):
            await looked_at()
        assert "Credential=ASIA2/" in injected(injector, put())["authorization"]
        nursery.cancel_scope.cancel()
    log = said.getvalue()
    assert log.count("cannot be read anew") == 1
    assert log.count("other keys for a target") == 1
    assert "SK1" not in log and "ST1" not in log


def test_bodies_in_pieces_that_carry_no_signature(tmp_path: Path) -> None:
    request = put(
        (("x-amz-content-sha256", UNSIGNED_PIECES), ("x-amz-trailer", "x-amz-checksum-crc32")), None
    )
    made = injected(injector_of(tmp_path), request)
    assert made["x-amz-content-sha256"] == UNSIGNED_PIECES
    assert "x-amz-trailer" in made["authorization"]


@pytest.mark.parametrize(
    ("request_", "is_tls", "words"),
    [
        (
            put((("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),)),
            True,
            "Let the client send the body unsigned",
        ),
        (put((("x-amz-content-sha256", UNSIGNED_PIECES),)), False, "Let the client send the body unsigned"),
        (put(target="/b/k?X-Amz-Signature=00"), True, "without a signature in its query"),
        (put(target="/b/k?a=1&x-amz-credential=AK%2F"), True, "without a signature in its query"),
    ],
)
def test_what_the_client_has_signed_is_refused(
    tmp_path: Path, request_: RequestHead, is_tls: bool, words: str
) -> None:
    with pytest.raises(CredentialUnavailable) as caught:
        injector_of(tmp_path, is_tls=is_tls).ready(request_, HELLO)
    assert words in caught.value.hint
    assert caught.value.is_request


def test_a_reload(tmp_path: Path) -> None:
    injector = injector_of(tmp_path)
    before = injected(injector, put())
    assert not injector.reload()
    assert injected(injector, put()) == before
    write_secret(tmp_path / "secret", "another")
    assert injector.reload()
    assert injected(injector, put())["authorization"] != before["authorization"]


# --- a real server ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class S3:
    """`rclone serve s3`, which checks signatures. `trusted`: None in clear."""

    port: int
    trusted: ssl.SSLContext | None
    directory: Path

    def call(
        self, injector: AwsInjector, method: str, target: str, body: bytes = b"", headers: Headers = ()
    ) -> tuple[int, bytes]:
        """As the gateway sends it: the client's fields, less what is removed, and what is injected."""
        authority = f"localhost:{self.port}"
        head = RequestHead(method, target, "https", authority, headers, body_bytes=len(body))
        digest = hashlib.sha256(body).hexdigest() if injector.needs_body_hash else None
        made = injector.ready(head, digest)
        assert made is not None
        connection = (
            http.client.HTTPConnection("localhost", self.port, timeout=10)
            if self.trusted is None
            else http.client.HTTPSConnection("localhost", self.port, timeout=10, context=self.trusted)
        )
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("host", authority)
            for name, value in (*headers, *made.headers):
                connection.putheader(name, value)
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module", params=["https", "http"])
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    directory = tmp_path_factory.mktemp("s3")
    (directory / "files" / "bucket").mkdir(parents=True)
    trusted, options = None, []
    if request.param == "https":
        authority = Authority.root()
        files = authority.issue("s3", dns=["localhost"], purpose=SERVER).write(directory)
        trusted = ssl.create_default_context(cafile=str(authority.write_bundle(directory / "ca.crt")))
        options = ["--cert", str(files.certificate), "--key", str(files.key)]
    command = [
        str(RCLONE),
        "serve",
        "s3",
        "--config",
        "/dev/null",
        "--auth-key",
        "AKIDEXAMPLE,SK",
        "--addr",
        "127.0.0.1:0",
    ]
    log = directory / "log"
    with log.open("wb") as output:
        process = launch(
            [*command, *options, str(directory / "files")], log=output, cwd=directory, env=dict(os.environ)
        )
    try:
        yield S3(_port_in(process, log), trusted, directory / "files")
    finally:
        end(process)


def _port_in(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"://[^/:]*:(\d+)/", log.read_text())
        if found is not None:
            return int(found[1])
        time.sleep(0.02)
    raise RuntimeError(f"rclone does not serve: {log.read_text()}")


KEYS = ["plain.txt", "with%20blank.txt", "%C3%A9t%C3%A9/a%2Bb.txt", "odd%21%28name%29~.txt"]


@pytest.mark.parametrize("key", KEYS)
def test_a_real_server_believes_it(s3: S3, tmp_path: Path, key: str) -> None:
    injector = injector_of(tmp_path, is_tls=s3.trusted is not None, now=time.time())
    target = f"/bucket/{key}"
    sent: Headers = (("content-type", "text/plain"), ("x-amz-meta-color", "blue"))
    answer = s3.call(injector, "PUT", target, b"hello", sent)
    assert answer == (200, b""), answer
    assert s3.call(injector, "GET", target) == (200, b"hello")
    status, listing = s3.call(injector, "GET", "/bucket?list-type=2&prefix=&delimiter=%2F")
    assert status == 200
    assert b"<ListBucketResult" in listing
    assert s3.call(injector, "DELETE", target)[0] == 204
    assert s3.call(injector, "GET", target)[0] == 404


def test_a_real_server_does_not_believe_another_key(s3: S3, tmp_path: Path) -> None:
    injector = injector_of(tmp_path, is_tls=s3.trusted is not None, now=time.time())
    write_secret(tmp_path / "secret", "wrong")
    assert injector.reload()
    status, answer = s3.call(injector, "GET", "/bucket?list-type=2")
    assert status == 403
    assert b"SignatureDoesNotMatch" in answer

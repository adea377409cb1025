"""Tokens of a real OpenID provider at the SSH door: OpenSSH with SSH_ASKPASS, and clients that send a token whole."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from demo.issuer import LocalIssuer, new_keys
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.issuers import configured, running_issuer, take_tokens, token
from tests.end_to_end.running import HOST, wait_until
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_route import Finished, SshRoute
from tests.proxyd.identity.oidc.issuing import raw_token

ROOT = Path(__file__).resolve().parents[2]


def documented_askpass(directory: Path) -> Path:
    """The script that docs/config.md gives to people with long tokens."""
    (text,) = re.findall(
        r"^    #!/bin/sh\n(?:    .*\n)+", (ROOT / "docs/config.md").read_text(), re.MULTILINE
    )
    path = directory / "ssh-token"
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as made:
        yield made


@pytest.fixture(scope="module")
def tokens_gateway(
    sshd: SshServer, ssh_keys: SshKeys, issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    """Takes tokens alone."""
    directory = tmp_path_factory.mktemp("tokens_gateway")

    def adjust(config: Any) -> None:
        take_tokens(config, issuer, [["token"]])
        del config["listeners"][0]["client_ca"]

    with SshGateway(sshd, directory, ssh_keys, adjust=adjust) as gateway:
        yield gateway


def asking_route(gateway: SshGateway, directory: Path, methods: str = "keyboard-interactive") -> SshRoute:
    return gateway.route().with_options(
        directory,
        PreferredAuthentications=methods,
        BatchMode="no",
        NumberOfPasswordPrompts="1",
    )


def by_askpass(
    route: SshRoute, secret: str, command: str = "echo hello", *, status: int | None = 0, **more: str
) -> Finished:
    file = route.directory / "token"
    file.write_text(secret + "\n")
    asked = {
        "SSH_ASKPASS": str(documented_askpass(route.directory)),
        "SSH_ASKPASS_REQUIRE": "force",
        "TOKEN_FILE": str(file),
        **more,
    }
    return route.ssh(command, status=status, env=asked)


@pytest.mark.parametrize("name", ["alice", "long"])
def test_openssh_with_askpass(
    tokens_gateway: SshGateway, issuer: LocalIssuer, tmp_path: Path, name: str
) -> None:
    """The client reads 1,023 characters of an answer: a longer token comes in pieces."""
    secret = token(issuer, name)
    assert (len(secret) > 4 * 1023) == (name == "long")
    done = by_askpass(asking_route(tokens_gateway, tmp_path), secret)
    assert done.stdout == b"hello\n"
    session = tokens_gateway.last_session("alice")
    shown = tokens_gateway.proxyd("tape", "show", "--json", str(tokens_gateway.tape(session))).stdout
    assert issuer.url in shown
    everything = tokens_gateway.tape_bytes() + tokens_gateway.daemon.log_path.read_bytes() + shown.encode()
    for part in secret.split("."):
        assert part[:200].encode() not in everything


@pytest.mark.parametrize("name", ["alice", "long"])
def test_a_client_that_sends_a_token_whole(
    tokens_gateway: SshGateway, issuer: LocalIssuer, name: str
) -> None:
    secret = token(issuer, name)
    transport = paramiko.Transport((HOST, tokens_gateway.port))
    try:
        transport.start_client(timeout=60)
        transport.auth_interactive(tokens_gateway.user(), lambda title, instructions, prompts: [secret])
        channel = transport.open_session(timeout=60)
        channel.exec_command("echo hello")
        assert channel.makefile("rb").read() == b"hello\n"
    finally:
        transport.close()


def test_people_without_access_get_none(
    tokens_gateway: SshGateway, issuer: LocalIssuer, tmp_path: Path
) -> None:
    for name in ("dora", "eve"):
        done = by_askpass(asking_route(tokens_gateway, tmp_path / name), token(issuer, name), status=None)
        assert done.returncode != 0
        assert b"no access" in done.stderr, done.stderr


def test_the_client_is_told_what_is_wrong_with_its_token(
    tokens_gateway: SshGateway, issuer: LocalIssuer, tmp_path: Path
) -> None:
    """With the next question, in its instructions."""
    forged = raw_token({"alg": "none"}, {"iss": issuer.url}, b"")
    route = asking_route(tokens_gateway, tmp_path)
    once = by_askpass(route.with_options(tmp_path / "once", LogLevel="INFO"), forged, status=255)
    assert b"not signed" not in once.stderr
    options = {"LogLevel": "INFO", "NumberOfPasswordPrompts": "2"}
    twice = by_askpass(route.with_options(tmp_path / "twice", **options), forged, status=255)
    assert b"proxyd: the token is not signed: have the identity provider sign its tokens" in twice.stderr


@pytest.mark.parametrize("secret", ["", "a-password", "x" * 20_000])
def test_what_is_no_token(tokens_gateway: SshGateway, tmp_path: Path, secret: str) -> None:
    done = by_askpass(asking_route(tokens_gateway, tmp_path), secret, status=255)
    assert b"Permission denied" in done.stderr


def test_a_session_ends_with_its_token(
    tokens_gateway: SshGateway, issuer: LocalIssuer, tmp_path: Path
) -> None:
    route = asking_route(tokens_gateway, tmp_path)
    done = by_askpass(route, token(issuer, "brief"), "sleep 60", status=None)
    assert done.returncode != 0
    assert b"your token has expired; connect with a new one" in done.stderr
    session = tokens_gateway.last_session("alice")
    assert tokens_gateway.logged("session ended", session=session)[0]["reason"] == "token expired"


def test_a_certificate_and_a_token_of_one_person(
    make_ssh_gateway: SshGatewayFactory, issuer: LocalIssuer, tmp_path: Path
) -> None:
    gateway = make_ssh_gateway(adjust=lambda config: take_tokens(config, issuer, [["certificate", "token"]]))
    methods = "publickey,keyboard-interactive"
    done = by_askpass(asking_route(gateway, tmp_path / "both", methods), token(issuer, "alice"))
    assert done.stdout == b"hello\n"
    shown = gateway.proxyd("tape", "show", "--json", str(gateway.tape(gateway.last_session("alice")))).stdout
    assert '"factors"' in shown
    assert '"authority"' in shown
    other = by_askpass(asking_route(gateway, tmp_path / "other", methods), token(issuer, "dora"), status=255)
    assert b"Permission denied" in other.stderr
    alone = asking_route(gateway, tmp_path / "alone")
    assert b"Permission denied" in by_askpass(alone, token(issuer, "alice"), status=255).stderr
    certificate = gateway.route().ssh("echo hello", status=255)
    assert b"Permission denied" in certificate.stderr
    refused = [line["reason"] for line in gateway.logged("connection refused")]
    assert any("of 'dora', after a factor of 'alice'" in reason for reason in refused)


def test_a_new_key_is_asked_for_in_the_background(sshd: SshServer, ssh_keys: SshKeys, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as own:

        def adjust(config: Any) -> None:
            take_tokens(config, own, [["certificate"], ["token"]])
            config["identity"]["issuers"] = [configured(own, name_prefix="")]

        with SshGateway(sshd, tmp_path / "gateway", ssh_keys, adjust=adjust) as gateway:
            route = asking_route(gateway, tmp_path / "client")
            loaded = "issuer's keys loaded"
            wait_until(lambda: bool(gateway.logged(loaded)), "the keys")
            own.rotate(new_keys("2"))
            secret = token(own, "alice")
            wait_until(
                lambda: by_askpass(route, secret, status=None).returncode == 0, "the new key to be taken"
            )
            assert len(gateway.logged(loaded)) == 2
            refused = [line["reason"] for line in gateway.logged("connection refused")]
            assert any("a key that issuer company does not publish" in reason for reason in refused)

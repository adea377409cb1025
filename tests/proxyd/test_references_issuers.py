"""Issuers of tokens as `proxyd check` sees them: faults of files, warnings of what will not do what it looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from policy.located_yaml import DocumentError
from proxyd.cli.main import main
from proxyd.references import Material, read_documents
from tests.proxyd.documents import CONFIG, write_setup
from tests.proxyd.identity.oidc.issuing import document, jwk
from tests.proxyd.identity.oidc.web import ok, web

NOW = 1_800_000_000.0
ISSUER: dict[str, Any] = {
    "name": "company",
    "issuer": "https://login.example",
    "audiences": ["proxyd"],
    "ca": "pki/ca.crt",
}
OTHER = {**ISSUER, "name": "partner", "issuer": "https://partner.example"}
OPTIONAL = {"client_certificates": "optional"}


def setup(directory: Path, issuers: list[dict[str, Any]], **listener: Any) -> Path:
    found = yaml.safe_load(CONFIG)
    found["identity"]["issuers"] = issuers
    found["listeners"][0].update(factors=[["certificate"], ["token"]], **listener)
    found["listeners"][0]["tls"].update(OPTIONAL)
    return write_setup(directory, config=json.dumps(found))


def warnings(path: Path) -> list[str]:
    return [f"{fault.path}: {fault.message}" for fault in Material.read(path, NOW).warnings]


def test_a_sound_setup_has_no_warning(tmp_path: Path) -> None:
    assert warnings(setup(tmp_path, [ISSUER, {**OTHER, "name_prefix": "p:"}])) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("", "no readable PEM certificate"),
        ("nothing", "no readable PEM certificate"),
    ],
)
def test_files_of_authorities(tmp_path: Path, content: str | None, words: str) -> None:
    path = setup(tmp_path, [{**ISSUER, "ca": "issuer.crt"}])
    if content is not None:
        (tmp_path / "issuer.crt").write_text(content)
    with pytest.raises(DocumentError) as caught:
        Material.read(path, NOW)
    (fault,) = caught.value.faults
    assert fault.path == "identity.issuers[0].ca"
    assert words in fault.message


def test_two_issuers_of_the_same_names(tmp_path: Path) -> None:
    (warning,) = warnings(setup(tmp_path, [ISSUER, OTHER]))
    assert warning.startswith(
        "identity.issuers[1].name_prefix: `company` and `partner` may give the same name"
    )


def test_issuers_that_nobody_needs(tmp_path: Path) -> None:
    path = setup(tmp_path, [ISSUER])
    found = json.loads(path.read_text())
    del found["listeners"][0]["factors"]
    found["listeners"][0]["tls"]["client_certificates"] = "required"
    path.write_text(json.dumps(found))
    (warning,) = warnings(path)
    assert "no listener's `factors` ask for a token" in warning


def test_oauthbearer_tells_of_one_issuer(tmp_path: Path) -> None:
    issuers = [ISSUER, {**OTHER, "name_prefix": "p:"}]
    (warning,) = warnings(setup(tmp_path, issuers, token_method="oauthbearer"))
    assert "are told of `company` alone" in warning


def test_a_way_of_asking_for_nothing(tmp_path: Path) -> None:
    path = setup(tmp_path, [ISSUER], token_method="oauthbearer")
    found = json.loads(path.read_text())
    found["listeners"][0]["factors"] = [["certificate"]]
    path.write_text(json.dumps(found))
    assert any(
        "token_method: no combination of `factors` asks for a token" in line for line in warnings(path)
    )


# --- asked by `proxyd check` ------------------------------------------------------------------------------


def check(path: Path, *arguments: str) -> int:
    return main(["check", "--config", str(path), *arguments])


def test_an_issuer_that_cannot_be_reached_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = setup(tmp_path, [{**ISSUER, "issuer": "http://127.0.0.1:1"}])
    assert check(path) == 0
    said = capsys.readouterr()
    assert "sound" in said.out
    assert "identity.issuers[0].issuer: http://127.0.0.1:1 cannot be reached" in said.err
    assert check(path, "--strict") == 1
    capsys.readouterr()
    assert check(path, "--documents-only") == 0
    assert "cannot be reached" not in capsys.readouterr().err


async def test_issuers_are_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with web() as good, web() as bad:
        good.publish(document(jwk("rsa")))
        bad.answers["/.well-known/openid-configuration"] = ok(b"<html>")
        issuers = [{**ISSUER, "issuer": good.url}, {**OTHER, "issuer": bad.url, "name_prefix": "p:"}]
        path = setup(tmp_path, issuers)
        assert await trio.to_thread.run_sync(check, path) == 0
    said = capsys.readouterr().err
    assert "issuers[0]" not in said
    assert "identity.issuers[1].issuer: " in said
    assert "is not JSON" in said


async def test_an_issuer_that_is_written_otherwise_than_it_writes_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with web() as server:
        server.publish(document(jwk("rsa")))
        path = setup(tmp_path, [{**ISSUER, "issuer": f"{server.url}/"}])
        assert await trio.to_thread.run_sync(check, path) == 0
        assert f"write `issuer: {server.url}`, letter by letter" in capsys.readouterr().err


def test_a_start_asks_nobody(tmp_path: Path) -> None:
    """An issuer that hangs keeps no daemon from starting and no policy from being reloaded."""
    path = setup(tmp_path, [{**ISSUER, "issuer": "http://127.0.0.1:1"}])
    assert warnings(path) == []
    read_documents(path)

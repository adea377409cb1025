from __future__ import annotations

import copy
import json
import os
import pickle
import traceback
from pathlib import Path

import pytest

from proxyd.config import SecretSource
from proxyd.credentials import MAX_SECRET_BYTES, CredentialError, Secret, read_secret

VALUE = "swordfish-77"


def write(path: Path, content: bytes = VALUE.encode(), mode: int = 0o600) -> SecretSource:
    path.write_bytes(content)
    path.chmod(mode)
    return SecretSource(file=path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"swordfish", "swordfish"),
        (b"swordfish\n", "swordfish"),
        (b"swordfish\r\n", "swordfish"),
        (b"swordfish\n\n", "swordfish\n"),
        (b" sword fish \n", " sword fish "),
        ("gänse\n".encode(), "gänse"),
    ],
)
def test_file(content: bytes, value: str, tmp_path: Path) -> None:
    assert read_secret(write(tmp_path / "secret", content)).reveal() == value


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_modes_that_are_private(mode: int, tmp_path: Path) -> None:
    assert read_secret(write(tmp_path / "secret", mode=mode)).reveal() == VALUE


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o660, 0o620, 0o666, 0o777])
def test_modes_that_are_not(mode: int, tmp_path: Path) -> None:
    with pytest.raises(CredentialError) as caught:
        read_secret(write(tmp_path / "secret", mode=mode))
    assert f"{mode:04o}" in caught.value.why
    assert caught.value.remedy == f"run: chmod 600 {tmp_path / 'secret'}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"a\0b", "NUL"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * (MAX_SECRET_BYTES + 1), "longer"),
    ],
)
def test_contents_that_are_no_secret(content: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=why):
        read_secret(write(tmp_path / "secret", content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="No such file"):
        read_secret(SecretSource(file=tmp_path / "nothing"))


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="not a regular file"):
        read_secret(SecretSource(file=tmp_path))


def test_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(CredentialError, match="not a regular file"):
        read_secret(SecretSource(file=tmp_path / "fifo"))


def test_symbolic_link_is_judged_by_its_end(tmp_path: Path) -> None:
    write(tmp_path / "secret", mode=0o644)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(CredentialError, match="0644"):
        read_secret(SecretSource(file=tmp_path / "link"))


def test_rotation(tmp_path: Path) -> None:
    source = write(tmp_path / "secret", b"old")
    assert read_secret(source).reveal() == "old"
    (tmp_path / "new").write_text("new")
    (tmp_path / "new").chmod(0o600)
    (tmp_path / "new").rename(tmp_path / "secret")
    assert read_secret(source).reveal() == "new"


def test_environment() -> None:
    source = SecretSource(environment="SHOP_PASSWORD")
    assert read_secret(source, {"SHOP_PASSWORD": VALUE}).reveal() == VALUE
    with pytest.raises(CredentialError, match="SHOP_PASSWORD: is not set"):
        read_secret(source, {})
    with pytest.raises(CredentialError, match="empty"):
        read_secret(source, {"SHOP_PASSWORD": ""})


def test_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", VALUE)
    assert read_secret(SecretSource(environment="SHOP_PASSWORD")).reveal() == VALUE


def test_systemd_credential(tmp_path: Path) -> None:
    write(tmp_path / "shop", VALUE.encode() + b"\n", 0o400)
    source = SecretSource(credential="shop")
    assert read_secret(source, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).reveal() == VALUE
    with pytest.raises(CredentialError, match="LoadCredential=shop"):
        read_secret(source, {})


@pytest.mark.parametrize("name", [".", ".."])
def test_systemd_credential_is_a_name(name: str, tmp_path: Path) -> None:
    source = SecretSource.model_construct(credential=name)
    with pytest.raises(CredentialError, match="a path"):
        read_secret(source, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(VALUE)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{[secret]}"]
    assert not [text for text in shown if VALUE in text]
    for store in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            store(secret)
    assert secret != Secret(VALUE)
    with pytest.raises(TypeError):
        hash(secret)


def test_errors_do_not_hold_the_value(tmp_path: Path) -> None:
    for content in (VALUE.encode() + b"\0", VALUE.encode() + b"\xff"):
        with pytest.raises(CredentialError) as caught:
            read_secret(write(tmp_path / "secret", content))
        assert VALUE not in "".join(traceback.format_exception(caught.value))

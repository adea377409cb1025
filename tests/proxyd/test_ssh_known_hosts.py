"""OpenSSH's known_hosts: names, patterns, hashes and markers, and agreement with ssh-keygen -F."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from proxyd.ssh_known_hosts import KnownKeys, read_known_hosts
from proxyd.ssh_public_keys import SshSettingsError
from tests.ssh_pki import Authority, Key, Keygen, line

KEY, OTHER = Key.new(), Key.new()
PUBLIC = " ".join(KEY.line.split()[:2])
OTHER_PUBLIC = " ".join(OTHER.line.split()[:2])
DSA = Key.new("ssh-dss", 1024).line


def known(tmp_path: Path, content: str, host: str, port: int = 22) -> KnownKeys:
    path = tmp_path / "known_hosts"
    path.write_text(content)
    return read_known_hosts(path).of(host, port)


def blobs(keys: KnownKeys) -> tuple[list[bytes], list[bytes], list[bytes]]:
    groups = (keys.keys, keys.authorities, keys.revoked)
    trusted, authorities, revoked = ([key.blob for key in group] for group in groups)
    return trusted, authorities, revoked


@pytest.mark.parametrize(
    ("names", "host", "port", "is_known"),
    [
        ("web1", "web1", 22, True),
        ("web1", "WEB1", 22, True),
        ("WEB1", "web1", 22, True),
        ("web1", "web2", 22, False),
        ("web1", "web1.internal", 22, False),
        ("web1,web2", "web2", 22, True),
        ("*.internal", "web1.internal", 22, True),
        ("*.internal", "internal", 22, False),
        ("*.internal", "web1.internal.example.com", 22, False),
        ("web?", "web1", 22, True),
        ("web?", "web12", 22, False),
        ("*", "anything", 22, True),
        ("*", "anything", 2222, True),
        ("*.internal,!bad.internal", "web1.internal", 22, True),
        ("*.internal,!bad.internal", "bad.internal", 22, False),
        ("!bad.internal", "web1.internal", 22, False),
        ("[web1]:2222", "web1", 2222, True),
        ("[web1]:2222", "web1", 22, False),
        ("[web1]:2222", "web1", 2223, False),
        ("web1", "web1", 2222, True),  # as ssh, which looks again without the port
        ("[192.0.2.1]:22", "192.0.2.1", 22, False),
        ("192.0.2.1", "192.0.2.1", 22, True),
        ("192.0.2.*", "192.0.2.7", 22, True),
        ("192.0.2.1", "web1", 22, False),
        ("2001:db8::1", "2001:db8::1", 22, True),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222, True),
        ("[w-z]eb1", "web1", 22, False),  # brackets are brackets
        ("web.internal", "webxinternal", 22, False),  # dots are dots
        ("********************************************b", "a" * 200, 22, False),
    ],
)
def test_names(names: str, host: str, port: int, is_known: bool, tmp_path: Path) -> None:
    content = f"{names} {PUBLIC} a comment\nunrelated {OTHER_PUBLIC}\n"
    assert blobs(known(tmp_path, content, host, port))[0] == ([KEY.blob] if is_known else [])


@pytest.mark.parametrize(("name", "host", "port"), [("web1", "web1", 22), ("[web1]:2222", "web1", 2222)])
def test_hashed_names(name: str, host: str, port: int, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"{name} {PUBLIC}\n")
    Keygen(tmp_path).run("-q", "-H", "-f", path)
    assert "web1" not in path.read_text()
    assert [key.blob for key in read_known_hosts(path).of(host, port).keys] == [KEY.blob]
    assert not read_known_hosts(path).of("web2", port).keys


def test_markers(tmp_path: Path) -> None:
    content = (
        f"@cert-authority *.internal {PUBLIC}\nweb1.internal {OTHER_PUBLIC}\n@revoked * {OTHER_PUBLIC}\n"
    )
    assert blobs(known(tmp_path, content, "web1.internal")) == ([OTHER.blob], [KEY.blob], [OTHER.blob])
    assert blobs(known(tmp_path, content, "web2.internal")) == ([], [KEY.blob], [OTHER.blob])
    assert blobs(known(tmp_path, content, "elsewhere")) == ([], [], [OTHER.blob])


def test_a_key_revoked_without_its_port_is_revoked_at_every_port(tmp_path: Path) -> None:
    content = f"[web1]:2222 {PUBLIC}\n@revoked web1 {PUBLIC}\n"
    assert blobs(known(tmp_path, content, "web1", 2222)) == ([KEY.blob], [], [KEY.blob])


def test_the_entry_with_the_port_goes_before_the_one_without(tmp_path: Path) -> None:
    content = f"web1 {OTHER_PUBLIC}\n[web1]:2222 {PUBLIC}\n"
    assert blobs(known(tmp_path, content, "web1", 2222))[0] == [KEY.blob]
    assert blobs(known(tmp_path, content, "web1", 22))[0] == [OTHER.blob]


def test_several_keys_and_passed_over_kinds(tmp_path: Path) -> None:
    content = f"# by ssh-keyscan\nweb1 {PUBLIC}\nweb1 {OTHER_PUBLIC}\nweb1 {DSA}\nweb1 {PUBLIC}\n"
    assert blobs(known(tmp_path, content, "web1"))[0] == [KEY.blob, OTHER.blob]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "knows no host"),
        ("# nothing\n\n", "knows no host"),
        (f"web1 {DSA}\n", "knows no host"),
        (f"@revoked * {PUBLIC}\n", "knows no host"),
        (f"web1 {PUBLIC}\nweb2\n", "line 2"),
        (f"web1 {PUBLIC}\nweb2 ssh-ed25519\n", "line 2"),
        (f"web1 {PUBLIC}\nweb2 ssh-ed25519 !!\n", "line 2"),
        (f"web1 {PUBLIC}\n@revoked {PUBLIC}\n", "line 2"),
        (f"web1 {PUBLIC}\n@frobnicate * {PUBLIC}\n", "line 2.*marker"),
        (f"web1 {PUBLIC[:-8]}\n", "line 1"),
        (f"web1 {line(Authority.new().certify(KEY, kind=2))}\n", "line 1.*cert-authority"),
        (f"|1|xx {PUBLIC}\n", "line 1.*hashed"),
        (f"|2|AAAA|AAAA {PUBLIC}\n", "line 1.*hashed"),
        (f"web1,,web2 {PUBLIC}\n", "line 1.*empty"),
        (f"web1,! {PUBLIC}\n", "line 1.*empty"),
    ],
)
def test_files_that_are_refused(content: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SshSettingsError, match=why) as caught:
        known(tmp_path, content, "web1")
    assert caught.value.remedy
    assert str(tmp_path / "known_hosts") in str(caught.value)


@pytest.mark.parametrize("host", ["web1", "web1.internal", "bad.internal", "[web1]:2222", "192.0.2.9", "x"])
def test_agreement_with_ssh_keygen(host: str, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(
        f"web1 {PUBLIC}\n*.internal,!bad.internal {PUBLIC}\n[web1]:2222 {PUBLIC}\n192.0.2.? {PUBLIC}\n"
    )
    done = subprocess.run(["ssh-keygen", "-F", host, "-f", path], capture_output=True, check=False)
    name, _, port = host.strip("[").partition("]:")
    found = read_known_hosts(path).of(name, int(port or 22))
    assert bool(found.keys) is (done.returncode == 0)

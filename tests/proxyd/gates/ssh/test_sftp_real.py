"""The sftp gate between real clients (OpenSSH's sftp, paramiko) and OpenSSH's sftp-server."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shlex
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import paramiko
import pytest

from proxyd.gates.files import FileContents
from proxyd.gates.sftp import SftpGate
from proxyd.gates.sftp_path_requests import SymlinkOrder
from tests.proxyd.gates.ssh.sftp_bridge import SFTP_SERVER, Bridge, fileno, judge_by_prefix

ROOT = Path(__file__).parents[4]
BIG = bytes(range(256)) * 20_000  # 5 MB


@dataclass
class Seen:
    """What the gate saw of one run."""

    judged: list[tuple[str, str, str, str]] = field(default_factory=list)
    files: list[dict[str, object]] = field(default_factory=list)
    close: str | None = None
    output: str = ""

    def effects(self, verb: str) -> list[tuple[str, str]]:
        return [(effect, path) for effect, found, path, _ in self.judged if found == verb]


@dataclass
class Place:
    """A directory for the target, with a part that is allowed (`www`) and one that is not (`private`)."""

    root: Path
    resolves_paths: bool = True

    @property
    def www(self) -> Path:
        return self.root / "www"

    @property
    def private(self) -> Path:
        return self.root / "private"

    def allow(self) -> list[tuple[str, str]]:
        return [("*", str(self.www))]

    def sftp(self, *commands: str, read_bytes: int = 65536) -> Seen:
        """Run OpenSSH's client with these commands (a `-` before one: it may fail)."""
        batch = self.root / "batch"
        batch.write_text("\n".join(commands) + "\n")
        seen, code = self._run(["sftp", "-b", str(batch)], read_bytes)
        assert code == 0, seen.output
        return seen

    def scp(self, *arguments: str) -> tuple[Seen, int]:
        return self._run(["scp"], 65536, *arguments)

    def _run(self, command: list[str], read_bytes: int, *arguments: str) -> tuple[Seen, int]:
        """Both clients run with `-D` what else would be a server: the bridge."""
        settings = self.root / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "server": [SFTP_SERVER, "-e"],
                    "directory": str(self.root),
                    "allow": self.allow(),
                    "resolves_paths": self.resolves_paths,
                    "read_bytes": read_bytes,
                }
            )
        )
        log, script = self.root / "log", self.root / "bridge"
        log.unlink(missing_ok=True)
        module = "tests.proxyd.gates.ssh.sftp_bridge"
        bridge = shlex.join([sys.executable, "-m", module, str(settings), str(log)])
        script.write_text(f"#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {bridge}\n")
        script.chmod(0o755)
        run = subprocess.run(
            [*command, "-D", str(script), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        seen = Seen(output=run.stdout + run.stderr)
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if "judged" in entry:
                seen.judged.append(tuple(entry["judged"]))
            elif "file" in entry:
                seen.files.append(entry["file"])
            else:
                seen.close = entry["close"]
        return seen, run.returncode


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path.resolve())
    found.www.mkdir()
    found.private.mkdir()
    (found.www / "a.txt").write_text("hello\n")
    (found.private / "s.txt").write_text("secret\n")
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("resolves_paths", [True, False])
@pytest.mark.parametrize("read_bytes", [100, 65536])
def test_what_people_do(place: Place, resolves_paths: bool, read_bytes: int) -> None:
    place.resolves_paths = resolves_paths
    local = place.root / "local"
    local.write_bytes(BIG)
    seen = place.sftp(
        "pwd",
        "cd www",
        "ls -la",
        f"put {local} big",
        f"get big {place.root}/back",
        f"get a.txt {place.root}/a",
        "mkdir d",
        "rename a.txt d/b.txt",
        "symlink d/b.txt l",
        "ln d/b.txt h",
        f"get l {place.root}/l",
        "chmod 600 h",
        "ls -l l",
        "df .",
        "rm h",
        "rm l",
        "rm d/b.txt",
        "rmdir d",
        read_bytes=read_bytes if read_bytes > 100 else 4099,
    )
    assert seen.close is None
    assert f"Remote working directory: {place.root}" in seen.output
    assert (place.root / "back").read_bytes() == BIG == (place.www / "big").read_bytes()
    assert (place.root / "a").read_text() == (place.root / "l").read_text() == "hello\n"
    assert sorted(path.name for path in place.www.iterdir()) == ["big"]
    assert {effect for effect, _, _, _ in seen.judged} == {"allow"}
    verbs = {"stat", "list", "write", "read", "mkdir", "rename", "link", "setstat", "remove", "rmdir"}
    assert {verb for _, verb, _, _ in seen.judged} == verbs
    files = [(entry["path"], entry["verb"], entry["bytes"], entry["sha256"]) for entry in seen.files]
    linked = "d/b.txt" if resolves_paths else "l"
    assert files == [
        (str(place.www / "big"), "write", len(BIG), sha256(BIG)),
        (str(place.www / "big"), "read", len(BIG), sha256(BIG)),
        (str(place.www / "a.txt"), "read", 6, sha256(b"hello\n")),
        (str(place.www / linked), "read", 6, sha256(b"hello\n")),
    ]
    assert all(entry["is_complete"] and entry["is_in_order"] for entry in seen.files)


def test_ways_to_what_is_not_allowed(place: Place) -> None:
    (place.www / "out").symlink_to(place.private)
    (place.www / "file").symlink_to(place.private / "s.txt")
    (place.www / "dangling").symlink_to(place.private / "new.txt")
    (place.www / "up").symlink_to("../private")
    local = place.root / "local"
    local.write_text("planted\n")
    got = place.root / "got"
    seen = place.sftp(
        f"-get private/s.txt {got}",
        "cd www",
        f"-get out/s.txt {got}",
        f"-get file {got}",
        f"-get up/s.txt {got}",
        f"-get ../private/s.txt {got}",
        f"-get out/../private/s.txt {got}",
        "-ls out/",
        "-ls -l ../private",
        f"-put {local} dangling",
        f"-put {local} out/x",
        f"-put {local} file",
        "-symlink ../private evil",
        "-symlink ../private/s.txt evil",
        "-symlink out/s.txt evil",
        "-ln file evil",
        "-ln out/s.txt evil",
        "-rename a.txt out/a.txt",
        "-rename out/s.txt mine.txt",
        "-chmod 777 file",
        "-rm out/s.txt",
        "-mkdir out/d",
        "-rmdir out",
        "-df out",
        "-cd out",
    )
    assert not got.exists()
    assert sorted(path.name for path in place.private.iterdir()) == ["s.txt"]
    assert (place.private / "s.txt").read_text() == "secret\n"
    assert not os.path.lexists(place.www / "evil")
    assert not (place.www / "mine.txt").exists()
    assert (place.www / "a.txt").exists()
    assert seen.close is None
    assert seen.files == []
    assert ("deny", str(place.private / "s.txt")) in seen.effects("stat")
    assert ("deny", str(place.private / "new.txt")) in seen.effects("write")
    assert ("deny", str(place.private / "x")) in seen.effects("write")
    allowed = [path for effect, _, path, _ in seen.judged if effect == "allow"]
    assert all(path.startswith(str(place.www)) for path in allowed)


def test_more_links_than_the_target_resolves(place: Place) -> None:
    """OpenSSH's REALPATH gives up after 32 links, open(2) after 40: between them a file can be opened unresolved."""
    (place.www / "l0").symlink_to(place.private / "s.txt")
    for index in range(36):
        (place.www / f"l{index + 1}").symlink_to(f"l{index}")
    assert (place.www / "l36").read_text() == "secret\n"
    local = place.root / "local"
    local.write_text("planted\n")
    seen = place.sftp(f"-get www/l36 {place.root}/got", f"-put {local} www/l36", "-chmod 777 www/l36")
    assert not (place.root / "got").exists()
    assert (place.private / "s.txt").read_text() == "secret\n"
    assert stat.S_IMODE((place.private / "s.txt").stat().st_mode) != 0o777
    assert seen.files == []


def test_a_link_may_be_removed_and_renamed_though_what_it_leads_to_may_not(place: Place) -> None:
    for name in ("one", "two"):
        (place.www / name).symlink_to(place.private / "s.txt")
    place.sftp("rm www/one", "rename www/two www/three", "ls -l www/three")
    assert sorted(path.name for path in place.www.iterdir()) == ["a.txt", "three"]
    assert (place.private / "s.txt").exists()


def test_trees(place: Place) -> None:
    tree = place.root / "tree"
    for name in ("a/b/c", "a/d"):
        (tree / name).mkdir(parents=True)
        for index in range(5):
            (tree / name / f"f{index}").write_bytes(os.urandom(index * 20_000))
    seen = place.sftp("cd www", f"put -R {tree}", f"get -R tree {place.root}/copy")
    for found in tree.rglob("*"):
        if found.is_file():
            assert (place.root / "copy" / found.relative_to(tree)).read_bytes() == found.read_bytes()
    assert len(seen.files) == 20
    assert all(entry["is_complete"] for entry in seen.files)


def test_names_that_are_no_text(place: Place) -> None:
    (place.www / os.fsdecode(b"\xff\xfe")).write_text("bytes\n")
    seen = place.sftp(f"get www/* {place.root}")
    assert (place.root / os.fsdecode(b"\xff\xfe")).read_text() == "bytes\n"
    assert str(place.www) + "/\udcff\udcfe" in [entry["path"] for entry in seen.files]


def test_resuming(place: Place) -> None:
    local = place.root / "local"
    local.write_bytes(BIG)
    (place.www / "big").write_bytes(BIG[:1_000_000])
    seen = place.sftp("cd www", f"reput {local} big")
    assert (place.www / "big").read_bytes() == BIG
    (found,) = seen.files
    assert found["bytes"] == len(BIG) - 1_000_000
    assert not found["is_complete"]


# paramiko: relative paths, prefetch, and another way to ask


@dataclass
class Joined:
    client: paramiko.SFTPClient
    bridge: Bridge


class Wire:
    """A socket as paramiko wants its channels."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.send = end.send
        self.recv = end.recv

    def recv_ready(self) -> bool:
        return bool(select.select([self._end], [], [], 0)[0])

    def get_name(self) -> str:
        return "the gate"

    def close(self) -> None:
        self._end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def joined(place: Place) -> Iterator[Joined]:
    gate = SftpGate(
        judge_by_prefix(place.allow()),
        resolves_paths=lambda: True,
        contents=FileContents(5),
        symlink_order=SymlinkOrder.OPENSSH,
    )
    near, far = socket.socketpair()
    server = subprocess.Popen(
        [SFTP_SERVER], cwd=place.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    ends = fileno(server.stdout), fileno(server.stdin)
    bridge = Bridge(gate, (far.fileno(), far.fileno()), ends, 65536)
    thread = threading.Thread(target=bridge.run)
    with near, far, server:
        thread.start()
        try:
            yield Joined(paramiko.SFTPClient(Wire(near)), bridge)  # type: ignore[arg-type]
        finally:
            near.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=30)
    assert not thread.is_alive()
    assert bridge.close is None


def test_paramiko(place: Place, joined: Joined) -> None:
    client = joined.client
    local = place.root / "local"
    local.write_bytes(BIG)
    client.put(str(local), "www/big")
    client.get("www/big", str(place.root / "back"))
    assert (place.root / "back").read_bytes() == BIG
    assert sorted(client.listdir("www")) == ["a.txt", "big"]
    client.symlink("a.txt", "www/link")
    assert client.readlink("www/link") == "a.txt"
    assert client.normalize("www/link") == str(place.www / "a.txt")
    with client.open("www/a.txt", "r+") as file:
        assert file.read() == b"hello\n"
        file.truncate(3)
    assert (place.www / "a.txt").read_text() == "hel"
    with pytest.raises(PermissionError, match=r"rule outside\)\. Stay in\."):
        client.open("private/s.txt")
    with pytest.raises(PermissionError):
        client.listdir("private")
    with pytest.raises(FileNotFoundError):
        client.stat("www/none")
    with pytest.raises(PermissionError):
        client.stat("none")
    files = [
        (entry["verb"], entry["bytes"], entry["sha256"], entry["content"]) for entry in joined.bridge.files
    ]
    whole = (len(BIG), sha256(BIG), BIG[:5].decode("latin-1"))
    assert files[0] == ("write", *whole)
    assert joined.bridge.files[0]["is_complete"]
    # paramiko asks a second time for what is slow to come. Then more than the file has passed, and the record says so.
    assert files[1][0] == "read"
    assert joined.bridge.files[1]["is_complete"] == (files[1] == ("read", *whole))
    assert files[1][1] >= len(BIG)


def test_a_hundred_requests_at_once_keep_their_order(place: Place, joined: Joined) -> None:
    client = joined.client
    with client.open("www/log", "w") as file:
        file.set_pipelined(True)
        for index in range(500):
            file.write(b"%d\n" % index)
    assert (place.www / "log").read_text() == "".join(f"{index}\n" for index in range(500))


def test_scp_over_sftp(place: Place) -> None:
    """To write and to stat is all that an upload needs; the size that it sets at the end is part of the write."""
    local = place.root / "local"
    local.write_bytes(BIG)
    (place.www / "longer").write_bytes(BIG + b"more")
    rights = [("write", str(place.www)), ("stat", str(place.www))]
    with mock.patch.object(place, "allow", return_value=rights):
        seen, code = place.scp(str(local), "host:www/longer")
        assert code == 0, seen.output
        assert (place.www / "longer").read_bytes() == BIG
        assert [(entry["verb"], entry["sha256"], entry["is_complete"]) for entry in seen.files] == [
            ("write", sha256(BIG), True)
        ]
        seen, code = place.scp("host:www/a.txt", str(place.root / "got"))
        assert code != 0
        assert seen.effects("read") == [("deny", str(place.www / "a.txt"))]
    assert not (place.root / "got").exists()
    seen, code = place.scp("host:~root/x", str(place.root / "got"))
    assert code != 0
    assert "rule outside" in seen.output

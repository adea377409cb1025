"""Files to the target and back: sftp, scp by both of its protocols, rsync, git. What arrives is what was sent."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.ssh_route import SshRoute

BIG = 12_000_000
PROTOCOLS = [pytest.param(False, id="sftp-protocol"), pytest.param(True, id="scp-protocol")]
ODD_NAMES = ["with blank", "ümläut-€", "semi;colon", "quo'te", "-dash", "star*", "new\nline", "dollar$HOME"]


@pytest.fixture
def remote(route: SshRoute) -> Iterator[Path]:
    """A new directory on the target."""
    path = route.server.home / "files"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.bin"
    path.write_bytes(os.urandom(BIG))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Directories, an empty file, modes, names that shells would take apart, links."""
    top = tmp_path / "tree"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "empty").touch()
    (top / "deep" / "er" / "data").write_bytes(os.urandom(70_000))
    for number, name in enumerate(ODD_NAMES):
        (top / "deep" / name).write_text(f"content {number}\n")
    script = top / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o750)
    (top / "readonly").write_text("x")
    (top / "readonly").chmod(0o440)
    os.utime(top / "readonly", (1_000_000_000, 1_000_000_000))
    return top


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(top: Path) -> dict[str, tuple[str, int]]:
    """Every file below `top`: its hash and mode, by its relative path."""
    return {
        str(path.relative_to(top)): (digest(path), stat.S_IMODE(path.stat().st_mode))
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


class TestSftp:
    def test_up_and_down(self, route: SshRoute, remote: Path, big: Path, tmp_path: Path) -> None:
        route.sftp(f"put {big} {remote}/up\nget {remote}/up {tmp_path}/down")
        assert digest(remote / "up") == digest(big) == digest(tmp_path / "down")

    def test_empty_and_odd_names(self, route: SshRoute, remote: Path, tmp_path: Path) -> None:
        names = [name for name in ODD_NAMES if "\n" not in name]
        for name in names:
            (tmp_path / name).write_text(name)
        (tmp_path / "empty").touch()
        quoted = [_sftp_word(name) for name in names]
        batch = [f"lcd {tmp_path}", f"cd {remote}", *(f"put ./{name}" for name in quoted), "put empty"]
        batch += [f"lmkdir {tmp_path}/back", f"lcd {tmp_path}/back", *(f"get ./{name}" for name in quoted)]
        route.sftp("\n".join(batch))
        assert {path.name for path in remote.iterdir()} == {*names, "empty"}
        assert {name: (tmp_path / "back" / name).read_text() for name in names} == {
            name: name for name in names
        }

    def test_trees_with_modes_and_times(
        self, route: SshRoute, remote: Path, tree: Path, tmp_path: Path
    ) -> None:
        (tree / "deep" / "new\nline").unlink()  # sftp's own batches cannot say it
        route.sftp(f"put -Rp {tree} {remote}/\nget -Rp {remote}/tree {tmp_path}/back")
        assert contents(remote / "tree") == contents(tree) == contents(tmp_path / "back")
        assert (remote / "tree" / "readonly").stat().st_mtime == 1_000_000_000

    def test_what_one_does_in_a_directory(self, route: SshRoute, remote: Path, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("a\n")
        shown = route.sftp(
            f"cd {remote}\npwd\nput {tmp_path}/a a\nmkdir d\nrename a d/b\nln -s d/b link\nln d/b hard\n"
            f"chmod 600 d/b\nls -l d\nls -1\nget link {tmp_path}/got\ndf -h\n"
            "rm hard\n-rm nosuch\nrm link\nrm d/b\nrmdir d\nls -a"
        )
        out = shown.stdout.decode()
        assert f"Remote working directory: {remote}" in out
        assert re.search(r"^-rw------- .* 2 .* (d/)?b$", out, re.MULTILINE)
        assert "%Capacity" in out
        assert b"No such file or directory" in shown.stderr
        assert (tmp_path / "got").read_text() == "a\n"
        assert list(remote.iterdir()) == []

    def test_a_long_directory(self, route: SshRoute, remote: Path) -> None:
        names = [f"file-{number:05}-{'x' * 80}" for number in range(3000)]
        for name in names:
            (remote / name).touch()
        out = route.sftp(f"cd {remote}\nls -1").stdout.decode()
        assert [line for line in out.splitlines() if line.startswith("file-")] == names

    def test_links_are_shown_and_followed_as_the_target_has_them(
        self, route: SshRoute, remote: Path, tmp_path: Path
    ) -> None:
        (remote / "real").mkdir()
        (remote / "real" / "f").write_text("through the link")
        (remote / "link").symlink_to("real")
        (remote / "dangling").symlink_to("nowhere")
        out = route.sftp(
            f"cd {remote}/link\npwd\nget ../link/../real/f {tmp_path}/f\nls -l .."
        ).stdout.decode()
        assert (tmp_path / "f").read_text() == "through the link"
        assert re.search(r"^l.*dangling", out, re.MULTILINE)

    @pytest.mark.parametrize("offset", [0, 1_000_000])
    def test_resuming(self, route: SshRoute, remote: Path, big: Path, tmp_path: Path, offset: int) -> None:
        part = big.read_bytes()[:offset]
        (remote / "up").write_bytes(part)
        (tmp_path / "down").write_bytes(part)
        route.sftp(f"reput {big} {remote}/up\nreget {remote}/up {tmp_path}/down")
        assert digest(remote / "up") == digest(big) == digest(tmp_path / "down")

    def test_one_that_fails_ends_the_batch_and_says_why(self, route: SshRoute, remote: Path) -> None:
        done = route.sftp(f"get {remote}/nosuch\nmkdir {remote}/never", status=1)
        assert b"not found" in done.stderr
        assert list(remote.iterdir()) == []

    def test_reads_far_ahead(self, route: SshRoute, remote: Path, big: Path, tmp_path: Path) -> None:
        """Many requests under way at a time, of a size that nobody takes by default."""
        shutil.copy(big, remote / "up")
        route.sftp(f"get {remote}/up {tmp_path}/down\nput {big} {remote}/again", "-R", "200", "-B", "200000")
        assert digest(tmp_path / "down") == digest(remote / "again") == digest(big)


class TestScp:
    @pytest.mark.parametrize("is_legacy", PROTOCOLS)
    def test_up_and_down(
        self, route: SshRoute, remote: Path, big: Path, tmp_path: Path, *, is_legacy: bool
    ) -> None:
        up, down = remote / "up", tmp_path / "down"
        route.scp(str(big), f"{route.name}:{up}", is_legacy=is_legacy)
        route.scp(f"{route.name}:{up}", str(down), is_legacy=is_legacy)
        assert digest(up) == digest(big) == digest(down)

    @pytest.mark.parametrize("is_legacy", PROTOCOLS)
    def test_trees_with_modes_and_times(
        self, route: SshRoute, remote: Path, tree: Path, tmp_path: Path, *, is_legacy: bool
    ) -> None:
        if is_legacy:
            (tree / "deep" / "new\nline").unlink()  # its own protocol is made of lines
        route.scp("-rp", str(tree), f"{route.name}:{remote}/", is_legacy=is_legacy)
        route.scp("-rp", f"{route.name}:{remote}/tree", str(tmp_path / "back"), is_legacy=is_legacy)
        assert contents(remote / "tree") == contents(tree) == contents(tmp_path / "back")
        assert (tmp_path / "back" / "readonly").stat().st_mtime == 1_000_000_000

    @pytest.mark.parametrize("is_legacy", PROTOCOLS)
    def test_many_small_files(
        self, route: SshRoute, remote: Path, tmp_path: Path, *, is_legacy: bool
    ) -> None:
        sources = [tmp_path / f"small-{number}" for number in range(100)]
        for source in sources:
            source.write_text(source.name * 10)
        route.scp(*map(str, sources), f"{route.name}:{remote}/", is_legacy=is_legacy)
        assert {path.name: path.read_text() for path in remote.iterdir()} == {
            source.name: source.read_text() for source in sources
        }

    @pytest.mark.parametrize("is_legacy", PROTOCOLS)
    def test_a_file_that_is_not_there_is_said(
        self, route: SshRoute, remote: Path, tmp_path: Path, *, is_legacy: bool
    ) -> None:
        (tmp_path / "good").write_text("good")
        (remote / "good").write_text("good")
        places = [f"{route.name}:{remote}/nosuch", f"{route.name}:{remote}/good"]
        (tmp_path / "back").mkdir()
        done = route.scp(*places, str(tmp_path / "back"), is_legacy=is_legacy, status=1)
        assert b"No such file or directory" in done.stderr
        assert [path.name for path in (tmp_path / "back").iterdir()] == ["good"]

    def test_globs_of_the_target(self, route: SshRoute, remote: Path, tmp_path: Path) -> None:
        for name in ("one.log", "two.log", "three.txt"):
            (remote / name).write_text(name)
        for is_legacy in (False, True):
            back = tmp_path / f"back-{is_legacy}"
            back.mkdir()
            route.scp(f"{route.name}:{remote}/*.log", str(back), is_legacy=is_legacy)
            assert sorted(path.name for path in back.iterdir()) == ["one.log", "two.log"]


class TestRsync:
    def test_up_down_and_again(
        self, route: SshRoute, remote: Path, tree: Path, big: Path, tmp_path: Path
    ) -> None:
        shutil.copy(big, tree / "big")
        route.rsync("-a", f"{tree}/", f"{route.name}:{remote}/tree/")
        route.rsync("-az", f"{route.name}:{remote}/tree/", f"{tmp_path}/back/")
        assert contents(remote / "tree") == contents(tree) == contents(tmp_path / "back")
        again = route.rsync("-a", "--stats", f"{tree}/", f"{route.name}:{remote}/tree/").stdout.decode()
        assert "Number of regular files transferred: 0" in again

    def test_only_what_changed_travels(self, route: SshRoute, remote: Path, big: Path) -> None:
        data = bytearray(big.read_bytes())
        data[10_000_000:10_000_010] = b"0123456789"
        (remote / "old").write_bytes(data)
        done = route.rsync(
            "--stats", "--no-whole-file", str(big), f"{route.name}:{remote}/old"
        ).stdout.decode()
        assert digest(remote / "old") == digest(big)
        found = re.search(r"Literal data: ([\d,]+)", done)
        assert found
        assert int(found[1].replace(",", "")) < 100_000

    def test_delete_and_names(self, route: SshRoute, remote: Path, tree: Path) -> None:
        (remote / "stale").touch()
        route.rsync("-a", "--delete", "-s", f"{tree}/", f"{route.name}:{remote}/")
        assert contents(remote) == contents(tree)


class TestGit:
    def test_clone_commit_push_fetch(self, route: SshRoute, remote: Path, tmp_path: Path) -> None:
        origin, one, two = remote / "origin.git", tmp_path / "one", tmp_path / "two"
        route.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=tmp_path)
        (one / "sub").mkdir(parents=True)
        (one / "sub" / "file").write_bytes(os.urandom(3_000_000))
        for words in (
            ["init", "-q", "-b", "main"],
            ["add", "."],
            ["commit", "-q", "-m", "first"],
            ["push", "-q", f"{route.name}:{origin}", "main"],
        ):
            route.git(*words, cwd=one)
        route.git("clone", "-q", f"{route.name}:{origin}", str(two), cwd=tmp_path)
        assert digest(two / "sub" / "file") == digest(one / "sub" / "file")
        (two / "more").write_text("more\n")
        for words in (["add", "."], ["commit", "-q", "-m", "second"], ["push", "-q", "origin", "main"]):
            route.git(*words, cwd=two)
        route.git("pull", "-q", "--ff-only", f"ssh://{route.name}{origin}", "main", cwd=one)
        assert (one / "more").read_text() == "more\n"
        head = route.git("ls-remote", f"{route.name}:{origin}", "main", cwd=one).stdout.split()[0]
        assert head == route.git("rev-parse", "HEAD", cwd=two).stdout.strip()

    def test_a_repository_that_is_not_there(self, route: SshRoute, remote: Path, tmp_path: Path) -> None:
        done = route.git("clone", "-q", f"{route.name}:{remote}/nosuch.git", "x", cwd=tmp_path, status=128)
        assert b"does not appear to be a git repository" in done.stderr

    def test_what_the_servers_hook_says_is_shown(self, route: SshRoute, remote: Path, tmp_path: Path) -> None:
        origin = remote / "origin.git"
        route.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=tmp_path)
        hook = origin / "hooks" / "pre-receive"
        hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
        hook.chmod(0o755)
        for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "first"]):
            route.git(*words, cwd=tmp_path)
        done = route.git("push", f"{route.name}:{origin}", "main", cwd=tmp_path, status=1)
        assert b"not on a Friday" in done.stderr
        assert b"pre-receive hook declined" in done.stderr


def _sftp_word(name: str) -> str:
    """As one word of an sftp batch: in quotes nothing has a meaning but these two."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

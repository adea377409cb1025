"""Requests that name paths: what each needs, where paths lead, and the ways round that were thought of."""

from __future__ import annotations

import msgspec
import pytest

from protocols.ssh.fields import string, uint32
from protocols.ssh.sftp import Kind, packet
from protocols.ssh.sftp_attributes import Attributes
from protocols.ssh.sftp_replies import StatusCode, name, single_name, status
from protocols.ssh.sftp_requests import (
    EXPAND_PATH,
    HARDLINK,
    LSETSTAT,
    POSIX_RENAME,
    STATVFS,
    ExtendedOnPath,
    ExtendedOnTwoPaths,
    OnPath,
    OnTwoPaths,
    Open,
    OpenFlag,
    Request,
)
from proxyd.gates.sftp_path_requests import SymlinkOrder
from proxyd.gates.sftp_paths import directory_and_name, normalised
from tests.proxyd.gates.ssh.sftp_scene import FILE, LINK, START, Scene

SIZE = Attributes(size=0)
MODE = Attributes(permissions=0o600)
BOTH = Attributes(size=0, times=(1, 2))
READ, WRITE, APPEND = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.APPEND
CREAT, TRUNC, EXCL = OpenFlag.CREAT, OpenFlag.TRUNC, OpenFlag.EXCL


# Without resolving: which verbs a request needs


@pytest.mark.parametrize(
    ("request_", "verbs"),
    [
        (Open(1, "/x", READ), ["read"]),
        (Open(1, "/x", 0), ["read"]),  # OpenSSH opens it for reading
        (Open(1, "/x", WRITE), ["write"]),
        (Open(1, "/x", READ | WRITE), ["read", "write"]),
        (Open(1, "/x", WRITE | CREAT | TRUNC), ["write"]),
        (Open(1, "/x", CREAT), ["read", "write"]),
        (Open(1, "/x", TRUNC), ["read", "write"]),
        (Open(1, "/x", APPEND), ["read", "write"]),
        (Open(1, "/x", READ | TRUNC), ["read", "write"]),
        # What a file is made with is what a new file usually has, or it is set.
        (Open(1, "/x", WRITE | CREAT, Attributes(permissions=0o101777)), ["write"]),
        (Open(1, "/x", WRITE | CREAT, Attributes(permissions=0o4755)), ["write", "setstat"]),
        (Open(1, "/x", WRITE | CREAT, Attributes(permissions=0o2755)), ["write", "setstat"]),
        (Open(1, "/x", WRITE | CREAT, Attributes(owners=(0, 0))), ["write", "setstat"]),
        (Open(1, "/x", WRITE | CREAT, Attributes(times=(0, 0))), ["write", "setstat"]),
        (Open(1, "/x", READ, Attributes(size=0)), ["read", "write"]),
        (Open(1, "/x", READ, Attributes(extended=((b"a", b"b"),))), ["read", "setstat"]),
        (OnPath(Kind.MKDIR, 1, "/x", Attributes(permissions=0o1777)), ["mkdir"]),
        (OnPath(Kind.MKDIR, 1, "/x", Attributes(permissions=0o2777)), ["mkdir", "setstat"]),
        (OnPath(Kind.OPENDIR, 1, "/x"), ["list"]),
        (OnPath(Kind.STAT, 1, "/x"), ["stat"]),
        (OnPath(Kind.LSTAT, 1, "/x"), ["stat"]),
        (OnPath(Kind.READLINK, 1, "/x"), ["stat"]),
        (OnPath(Kind.MKDIR, 1, "/x", Attributes()), ["mkdir"]),
        (OnPath(Kind.RMDIR, 1, "/x"), ["rmdir"]),
        (OnPath(Kind.REMOVE, 1, "/x"), ["remove"]),
        (OnPath(Kind.SETSTAT, 1, "/x", MODE), ["setstat"]),
        (OnPath(Kind.SETSTAT, 1, "/x", Attributes()), ["setstat"]),
        (OnPath(Kind.SETSTAT, 1, "/x", SIZE), ["write"]),  # a truncation
        (OnPath(Kind.SETSTAT, 1, "/x", BOTH), ["setstat", "write"]),
        (ExtendedOnPath(LSETSTAT, 1, "/x", BOTH), ["setstat", "write"]),
        (ExtendedOnPath(STATVFS, 1, "/x"), ["stat"]),
    ],
)
def test_verbs_of_one_path(request_: Request, verbs: list[str]) -> None:
    scene = Scene()
    scene.ask(request_)
    asked = scene.asked()
    assert msgspec.structs.replace(asked, id=1) == request_
    assert [scene.judged() for _ in verbs] == [("allow", verb, "/x", "") for verb in verbs]
    scene.done()
    denied = Scene()
    denied.ask(msgspec.structs.replace(request_, path="/secret/x"))
    assert [denied.judged() for _ in verbs] == [("deny", verb, "/secret/x", "") for verb in verbs]
    denied.refused(1)
    denied.done()


@pytest.mark.parametrize(
    ("request_", "verb", "path", "other"),
    [
        (OnTwoPaths(Kind.RENAME, 1, "/a", "/b"), "rename", "/a", "/b"),
        (ExtendedOnTwoPaths(POSIX_RENAME, 1, "/a", "/b"), "rename", "/a", "/b"),
        (ExtendedOnTwoPaths(HARDLINK, 1, "/a", "/b"), "link", "/b", "/a"),
        (OnTwoPaths(Kind.SYMLINK, 1, "/a", "/b"), "link", "/b", "/a"),
    ],
)
def test_verbs_of_two_paths(
    request_: OnTwoPaths | ExtendedOnTwoPaths, verb: str, path: str, other: str
) -> None:
    scene = Scene()
    scene.ask(request_)
    assert msgspec.structs.replace(scene.asked(), id=1) == request_
    assert scene.judged() == ("allow", verb, path, other)
    scene.done()
    for change in ({"first": "/secret/x"}, {"second": "/secret/x"}):
        denied = Scene()
        denied.ask(msgspec.structs.replace(request_, **change))
        assert denied.judged()[:2] == ("deny", verb)
        denied.refused(1)
        denied.done()


def test_what_a_symlink_points_to_is_relative_to_it_and_passed_as_written() -> None:
    scene = Scene()
    scene.ask(OnTwoPaths(Kind.SYMLINK, 1, "../b/./x", "a/l"))
    asked = scene.asked()
    assert isinstance(asked, OnTwoPaths)
    assert (asked.first, asked.second) == ("../b/./x", f"{START}/a/l")
    assert scene.judged() == ("allow", "link", f"{START}/a/l", f"{START}/b/x")
    scene.ask(OnTwoPaths(Kind.SYMLINK, 2, "../../secret", "/srv/www/l"))
    assert scene.judged() == ("deny", "link", "/srv/www/l", "/secret")
    scene.refused(2)
    scene.done()


def test_a_symlink_is_judged_in_both_readings_where_the_order_is_not_known() -> None:
    scene = Scene(symlink_order=SymlinkOrder.EITHER)
    scene.ask(OnTwoPaths(Kind.SYMLINK, 1, "/a/x", "/b/l"))
    assert isinstance(scene.asked(), OnTwoPaths)
    assert scene.judged() == ("allow", "link", "/b/l", "/a/x")
    assert scene.judged() == ("allow", "link", "/a/x", "/b/l")
    scene.ask(
        OnTwoPaths(Kind.SYMLINK, 2, "/srv/l", "../secret")
    )  # the second is what it points to, by the draft
    assert scene.judged() == ("allow", "link", "/home/secret", "/srv/l")
    assert scene.judged() == ("deny", "link", "/srv/l", "/secret")
    scene.refused(2)
    scene.done()


# Where paths lead


def test_a_path_is_asked_for_as_the_target_resolves_it() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "link/../x", READ))
    scene.resolve(
        f"{START}/link/../x", "/srv/real/x"
    )  # unnormalised: only the target knows where `link` leads
    asked = scene.asked()
    assert isinstance(asked, Open)
    assert asked.path == "/srv/real/x"
    assert scene.judged() == ("allow", "read", "/srv/real/x", "")
    scene.done()


def test_a_link_to_what_is_denied_is_denied() -> None:
    scene = Scene(resolves_paths=True)
    for identity, request in enumerate(
        [
            Open(0, "l", READ),
            Open(0, "l", WRITE | CREAT | TRUNC),
            OnPath(Kind.STAT, 0, "l"),
            OnPath(Kind.OPENDIR, 0, "l"),
            OnPath(Kind.SETSTAT, 0, "l", MODE),
            ExtendedOnPath(STATVFS, 0, "l"),
            OnPath(Kind.REALPATH, 0, "l"),
            OnPath(Kind.LSTAT, 0, "l/"),
        ]
    ):
        scene.ask(msgspec.structs.replace(request, id=identity))
        scene.resolve(f"{START}/l" + "/" * request.path.endswith("/"), "/secret/x")
        assert scene.judged()[::2] == ("deny", "/secret/x")
        scene.refused(identity)
    scene.done()


@pytest.mark.parametrize(
    "request_",
    [
        OnPath(Kind.LSTAT, 1, "d/l"),
        OnPath(Kind.READLINK, 1, "d/l"),
        OnPath(Kind.REMOVE, 1, "d/l"),
        OnPath(Kind.RMDIR, 1, "d/l"),
        OnPath(Kind.MKDIR, 1, "d/l", Attributes()),
        ExtendedOnPath(LSETSTAT, 1, "d/l", MODE),
    ],
)
def test_what_acts_on_a_link_itself_resolves_the_directory_alone(request_: OnPath | ExtendedOnPath) -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(request_)
    scene.resolve(f"{START}/d", "/srv/d")
    asked = scene.asked()
    assert isinstance(asked, OnPath | ExtendedOnPath)
    assert asked.path == "/srv/d/l"
    assert scene.judged()[2] == "/srv/d/l"
    scene.ask(msgspec.structs.replace(request_, id=2))
    scene.resolve(f"{START}/d", "/secret")
    assert scene.judged()[::2] == ("deny", "/secret/l")
    scene.refused(2)
    scene.done()


@pytest.mark.parametrize("written", ["/d/..", "/d/.", "/", "/d/../"])
def test_a_last_part_that_cannot_be_a_link_is_resolved_whole(written: str) -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnPath(Kind.REMOVE, 1, written))
    scene.resolve(written, "/srv")
    asked = scene.asked()
    assert isinstance(asked, OnPath)
    assert asked.path == "/srv"
    assert scene.judged()[2] == "/srv"
    scene.done()


def test_a_new_file_is_judged_by_its_directory_where_the_target_does_not_resolve_it() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "/d/new", WRITE | CREAT))
    scene.resolve("/d/new", None)
    scene.resolve("/d", "/srv/d")
    scene.look_up("/srv/d/new", None)
    asked = scene.asked()
    assert isinstance(asked, Open)
    assert asked.path == "/srv/d/new"
    assert scene.judged() == ("allow", "write", "/srv/d/new", "")
    scene.done()


@pytest.mark.parametrize("what", [LINK, FILE])
def test_what_the_target_does_not_resolve_though_it_is_there_is_refused(what: Attributes) -> None:
    """A link to nothing, or more links than REALPATH follows and open(2) does: a create would go through."""
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "/d/l", WRITE | CREAT))
    scene.resolve("/d/l", None)
    scene.resolve("/d", "/d")
    scene.look_up("/d/l", what)
    assert "does not say where this path leads" in scene.refused(1, StatusCode.FAILURE)
    assert scene.judged() == ("allow", "write", "/d/l", "")
    scene.done()


@pytest.mark.parametrize("code", [StatusCode.PERMISSION_DENIED, StatusCode.FAILURE, StatusCode.BAD_MESSAGE])
def test_only_no_such_file_makes_a_path_new(code: StatusCode) -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "/d/l", WRITE | CREAT))
    scene.resolve("/d/l", None, code)
    assert scene.refused(1, code) == "no"
    assert scene.judged()[0] == "allow"
    scene.done()


def test_the_targets_error_reaches_only_those_who_may_ask() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnPath(Kind.STAT, 1, "/secret/d/x"))
    scene.resolve("/secret/d/x", None)
    scene.resolve("/secret/d", None)
    assert "off limits" in scene.refused(1)  # is there anything? It is not said.
    assert scene.judged() == ("deny", "stat", "/secret/d/x", "")
    scene.ask(OnPath(Kind.REALPATH, 2, "/d/../secret/y"))
    scene.resolve("/d/../secret/y", None)
    scene.refused(2)
    assert scene.judged() == ("deny", "stat", "/secret/y", "")
    scene.ask(OnPath(Kind.STAT, 3, "/srv/d/x"))
    scene.resolve("/srv/d/x", None)
    scene.resolve("/srv/d", None)
    assert scene.refused(3, StatusCode.NO_SUCH_FILE) == "no"
    assert scene.judged()[0] == "allow"
    scene.done()


def test_an_exclusive_create_never_goes_through_a_link() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "/d/new", WRITE | CREAT | EXCL))
    scene.resolve("/d", "/srv")
    scene.look_up("/srv/new", LINK)
    assert "symbolic link" in scene.refused(1, StatusCode.FAILURE)
    scene.judged()
    for found in (None, FILE):
        scene.ask(Open(1, "/d/new", WRITE | CREAT | EXCL))
        scene.resolve("/d", "/srv")
        scene.look_up("/srv/new", found)
        asked = scene.asked()
        assert isinstance(asked, Open)
        assert (asked.path, asked.flags) == ("/srv/new", WRITE | CREAT | EXCL)
        assert scene.judged()[2] == "/srv/new"
    scene.done()


def test_a_target_that_gives_no_absolute_path() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "/x", READ))
    scene.resolve("/x", "srv/x")
    assert "not absolute" in scene.refused(1, StatusCode.FAILURE)
    assert scene.judged()[2] == "/x"
    scene.done()


def test_what_the_target_says_is_normalised_too() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(Open(1, "/x", READ))
    scene.resolve("/x", "//srv/../secret/x")
    assert scene.judged() == ("deny", "read", "/secret/x", "")
    scene.refused(1)
    scene.done()


def test_rename_resolves_both_directories() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnTwoPaths(Kind.RENAME, 1, "/a/x", "/b/y"))
    scene.resolve("/a", "/srv/a")
    scene.resolve("/b", "/srv/b")
    asked = scene.asked()
    assert isinstance(asked, OnTwoPaths)
    assert (asked.first, asked.second) == ("/srv/a/x", "/srv/b/y")
    assert scene.judged() == ("allow", "rename", "/srv/a/x", "/srv/b/y")
    scene.done()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rename_whose_directory_is_not_there(lost: int) -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnTwoPaths(Kind.RENAME, 1, "/a/x", "/b/y"))
    scene.resolve("/a", None if lost == 0 else "/srv/a")
    scene.resolve("/b", None if lost == 1 else "/srv/b")
    assert scene.refused(1, StatusCode.NO_SUCH_FILE) == "no"
    assert scene.judged()[0] == "allow"
    scene.done()


def test_a_hard_link_is_made_to_the_file_and_not_to_a_link_to_it() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(ExtendedOnTwoPaths(HARDLINK, 1, "/a/l", "/b/new"))
    scene.resolve("/b", "/srv/b")
    scene.resolve("/a/l", "/srv/a/file")
    asked = scene.asked()
    assert isinstance(asked, ExtendedOnTwoPaths)
    assert (asked.first, asked.second) == ("/srv/a/file", "/srv/b/new")
    assert scene.judged() == ("allow", "link", "/srv/b/new", "/srv/a/file")
    scene.target(status(asked.id, 0, ""))
    scene.refused(1, StatusCode.OK)
    scene.ask(ExtendedOnTwoPaths(HARDLINK, 2, "/a/l", "/b/new"))
    scene.resolve("/b", "/srv/b")
    scene.resolve("/a/l", "/secret/s")
    assert scene.judged() == ("deny", "link", "/srv/b/new", "/secret/s")
    scene.refused(2)
    scene.done()


def test_a_symlink_by_way_of_another_link() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnTwoPaths(Kind.SYMLINK, 1, "other/s", "/d/l"))
    scene.resolve("/d", "/srv/d")
    scene.resolve("/srv/d/other/s", "/secret/s")
    assert scene.judged() == ("deny", "link", "/srv/d/l", "/secret/s")
    scene.refused(1)
    scene.ask(OnTwoPaths(Kind.SYMLINK, 2, "none/../../x", "/d/l"))
    scene.resolve("/d", "/srv/d")
    scene.resolve("/srv/d/none/../../x", None)  # a link may lead to nothing
    asked = scene.asked()
    assert isinstance(asked, OnTwoPaths)
    assert (asked.first, asked.second) == ("none/../../x", "/srv/d/l")
    assert scene.judged() == ("allow", "link", "/srv/d/l", "/srv/x")
    scene.done()


def test_no_path_is_resolved_while_the_target_still_moves_things() -> None:
    """A target that works on several requests at once could answer a question before an earlier rename is done."""
    scene = Scene(resolves_paths=True)
    scene.ask(OnTwoPaths(Kind.RENAME, 1, "/a/x", "/a/y"))
    scene.resolve("/a", "/a")
    scene.resolve("/a", "/a")
    moved = scene.asked()
    assert isinstance(moved, OnTwoPaths)
    scene.judged()
    scene.ask(Open(2, "/a/y", READ))
    scene.ask(OnPath(Kind.STAT, 3, "/a/y"))
    assert scene.asked_nothing()
    assert scene.gate.has_backlog
    scene.target(status(moved.id, 0, ""))
    scene.refused(1, StatusCode.OK)
    scene.resolve("/a/y", "/a/y")
    assert isinstance(scene.asked(), Open)
    scene.resolve("/a/y", "/a/y")
    assert isinstance(scene.asked(), OnPath)
    assert [scene.judged()[1] for _ in "12"] == ["read", "stat"]
    scene.done()


def test_nothing_of_the_client_passes_while_a_path_is_resolved() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnPath(Kind.STAT, 1, "/a"))
    question = scene.question(Kind.REALPATH, "/a")
    scene.ask(OnPath(Kind.REMOVE, 2, "/a"))
    assert scene.asked_nothing()
    scene.target(name(question.id, "/a"))
    assert isinstance(scene.asked(), OnPath)
    scene.resolve("/", "/")
    assert isinstance(scene.asked(), OnPath)
    scene.judged(), scene.judged()
    scene.done()


@pytest.mark.parametrize(
    "answer",
    [
        status(1, StatusCode.OK, ""),
        packet(Kind.ATTRS, 1, uint32(0)),
        packet(Kind.NAME, 1, uint32(0)),
        packet(Kind.NAME, 1, uint32(2) + (string(b"/a") + string(b"/a") + uint32(0)) * 2),
        packet(Kind.NAME, 1, uint32(1) + string(b"/a\0b") + string(b"") + uint32(0)),
        name(1, "/" * 5000),
    ],
)
def test_answers_to_the_gates_own_questions_that_make_no_sense(answer: bytes) -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnPath(Kind.STAT, 1, "/a"))
    assert scene.question(Kind.REALPATH, "/a").id == 1
    scene.target(answer)
    assert scene.close is not None


# REALPATH and expand-path


@pytest.mark.parametrize("resolves_paths", [True, False])
@pytest.mark.parametrize("written", [".", "", START, "x/.."])
def test_the_start_directory_is_told_to_all(resolves_paths: bool, written: str) -> None:
    scene = Scene(resolves_paths=resolves_paths)
    scene.ask(OnPath(Kind.REALPATH, 1, written))
    question = scene.asked()
    assert isinstance(question, OnPath)
    scene.target(name(question.id, START))
    assert single_name(scene.reply().rest) == START
    scene.done()


@pytest.mark.parametrize("resolves_paths", [True, False])
def test_what_only_looks_like_the_start_directory_is_judged(resolves_paths: bool) -> None:
    scene = Scene(resolves_paths=resolves_paths)
    scene.ask(OnPath(Kind.REALPATH, 1, "link/.."))
    question = scene.asked()
    assert isinstance(question, OnPath)
    scene.target(name(question.id, "/secret"))
    assert scene.judged() == ("deny", "stat", "/secret", "")
    scene.refused(1)
    scene.done()


def test_realpath_without_resolving() -> None:
    scene = Scene()
    scene.ask(OnPath(Kind.REALPATH, 1, "/a/../b"))
    scene.resolve("/b", "/c")
    assert single_name(scene.reply().rest) == "/c"
    assert scene.judged() == ("allow", "stat", "/b", "")
    scene.ask(OnPath(Kind.REALPATH, 2, "/b"))
    scene.resolve("/b", None)
    scene.refused(2, StatusCode.NO_SUCH_FILE)
    scene.judged()
    scene.ask(OnPath(Kind.REALPATH, 3, "/secret"))
    scene.refused(3)
    assert scene.judged()[0] == "deny"
    scene.done()


@pytest.mark.parametrize("resolves_paths", [True, False])
def test_expand_path_is_judged_by_where_it_leads(resolves_paths: bool) -> None:
    scene = Scene(resolves_paths=resolves_paths)
    for identity, (found, is_told) in enumerate([("/home/bob/x", True), ("/secret", False), (START, True)]):
        scene.ask(ExtendedOnPath(EXPAND_PATH, identity, "~bob/x"))
        question = scene.asked()
        assert isinstance(question, ExtendedOnPath)
        assert question.path == "~bob/x"
        scene.target(name(question.id, found))
        if is_told:
            assert single_name(scene.reply().rest) == found
        else:
            scene.refused(identity)
    assert [scene.judged()[::2] for _ in "12"] == [("allow", "/home/bob/x"), ("deny", "/secret")]
    scene.done()


def test_expand_path_is_no_way_to_ask_what_exists() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(ExtendedOnPath(EXPAND_PATH, 1, "~/../../../secret/x"))
    question = scene.asked()
    assert isinstance(question, ExtendedOnPath)
    scene.target(status(question.id, StatusCode.NO_SUCH_FILE, "no"))
    assert scene.judged() == ("deny", "stat", "/secret/x", "")
    scene.refused(1)
    scene.done()


# Text


@pytest.mark.parametrize(
    ("written", "directory", "last"),
    [
        ("/a/b", "/a", "b"),
        ("/a", "/", "a"),
        ("/a/b/", "/a", "b"),
        ("/a//b", "/a/", "b"),
        ("/a/../b", "/a/..", "b"),
        ("/a/..", "/a/..", ""),
        ("/a/.", "/a/.", ""),
        ("/", "/", ""),
        ("///", "///", ""),
        ("/a/...", "/a", "..."),
    ],
)
def test_the_last_part(written: str, directory: str, last: str) -> None:
    assert directory_and_name(written) == (directory, last)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("//", "/"), ("//a", "/a"), ("", "/"), (".", "/"), ("a", "/a"), ("/../..", "/"), ("/a/b/../", "/a")],
)
def test_normalised(written: str, expected: str) -> None:
    assert normalised(written) == expected

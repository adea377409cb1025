"""File operations against rules: verbs, paths, and what moves a file into or out of a rule's paths."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.facts import SshFacts
from policy.ssh.evaluate import depends_on_paths
from tests.policy.ssh.operations import OPS, WEB, A, D, H, document, file, judged, subsystem, verdict

ANY = 'allow files: ["*"], agent: true'


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/srv/www", "/srv/www", True),
        ("/srv/www", "/srv/www/x", False),
        ("/srv/www", "/srv", False),
        ("/srv/www/*", "/srv/www/x", True),
        ("/srv/www/*", "/srv/www", False),
        ("/srv/www/*", "/srv/www/x/y", False),
        ("/srv/www/**", "/srv/www", True),
        ("/srv/www/**", "/srv/www/x/y/z", True),
        ("/srv/www/**", "/srv/www2", False),
        ("/srv/www/**", "/srv/www2/x", False),
        ("/home/*/notes", "/home/ann/notes", True),
        ("/home/*/notes", "/home/notes", False),
        ("/home/*/notes", "/home/a/b/notes", False),
        ("/**/.env", "/.env", True),
        ("/**/.env", "/srv/a/b/.env", True),
        ("/**/.env", "/srv/x.env", False),
        ("/**/.env", "/srv/.env/x", False),
        ("/**/.ssh/**", "/root/.ssh", True),
        ("/**/.ssh/**", "/home/a/.ssh/id", True),
        ("/a/**/b/**/c", "/a/b/c", True),
        ("/a/**/b/**/c", "/a/x/b/b/x/c", True),
        ("/a/**/b/**/c", "/a/x/c", False),
        ("/a/**/b/*/c", "/a/b/b/x/c", True),
        ("/a/**/b/*/c", "/a/b/x/b/c", False),
        ("/srv/*.log", "/srv/a.log", True),
        ("/srv/*.log", "/srv/a.log.gz", False),
        ("/srv/a*b*c", "/srv/aXbXc", True),
        ("/srv/a*b*c", "/srv/aXc", False),
        ("/", "/", True),
        ("/", "/srv", False),
        ("/**", "/", True),
        ("/**", "/srv", True),
        ("/srv/[a]", "/srv/[a]", True),
        ("/srv/?", "/srv/a", False),
        ("/srv/Www", "/srv/www", False),
    ],
)
def test_what_a_path_pattern_means(pattern: str, path: str, expected: bool) -> None:
    for verb in ("read", "write", "list", "stat", "mkdir"):
        assert verdict(file(verb, path), f'allow paths: ["{pattern}"]') is (A if expected else D)
        assert verdict(file(verb, path), ANY, f'deny paths: ["{pattern}"]') is (D if expected else A)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "srv/www",
        "/srv/../etc",
        "/srv/./www",
        "/srv//www",
        "/srv/www/",
        "//srv",
        "/a\0b",
        "/" + "x" * 4096,
    ],
)
def test_a_path_that_could_be_any(path: str) -> None:
    facts = file("read", path)
    assert verdict(facts, 'allow paths: ["/srv/**"]') is D
    assert verdict(facts, 'allow paths: ["/**"]') is A
    assert verdict(facts, ANY) is A
    assert verdict(facts, ANY, 'deny paths: ["/nowhere/at/all"]') is D


@pytest.mark.parametrize(
    ("rules", "facts", "expected"),
    [
        (("allow files: [read, list]",), file("read", "/x"), A),
        (("allow files: [read, list]",), file("list", "/x"), A),
        (("allow files: [read, list]",), file("write", "/x"), D),
        (('allow files: ["*"]',), file("link", "/x", "/y"), A),
        (('allow files: ["*"]',), file("frobnicate", "/x"), D),
        (('allow files: ["*"]', "deny files: [remove]"), file("remove", "/x"), D),
        (('allow files: ["*"]', "deny files: [remove]"), file("rename", "/x", "/y"), A),
        (('allow files: ["*"]', "deny files: [remove]"), file("rmdir", "/x"), A),
        (('allow files: [read], paths: ["/srv/**"]',), file("read", "/srv/x"), A),
        (('allow files: [read], paths: ["/srv/**"]',), file("write", "/srv/x"), D),
        (('allow files: [read], paths: ["/srv/**"]',), file("read", "/etc/x"), D),
        (
            ('allow paths: ["/srv/**"]', 'deny files: [write], paths: ["/srv/etc/**"]'),
            file("read", "/srv/etc/x"),
            A,
        ),
        (
            ('allow paths: ["/srv/**"]', 'deny files: [write], paths: ["/srv/etc/**"]'),
            file("write", "/srv/etc/x"),
            D,
        ),
        (("allow shell: true", 'allow exec: ["*"]'), file("read", "/x"), D),
        (('hold files: [write], paths: ["/srv/**"]',), file("write", "/srv/x"), H),
        (('hold files: [write], paths: ["/srv/**"]',), file("read", "/srv/x"), D),
        (('hold files: [write], paths: ["/srv/**"]', ANY), file("read", "/srv/x"), A),
        (('hold paths: ["/srv/**"]', ANY), file("rename", "/srv/x", "/tmp/x"), H),
        (('hold paths: ["/srv/**"]',), file("rename", "/srv/x", "/tmp/x"), D),
        (('hold paths: ["/srv/**"]',), file("rename", "/srv/x", "/srv/y"), H),
    ],
)
def test_verbs(rules: tuple[str, ...], facts: SshFacts, expected: Effect) -> None:
    assert verdict(facts, *rules) is expected


@pytest.mark.parametrize("verb", ["rename", "link"])
@pytest.mark.parametrize(
    ("path", "other", "expected"),
    [
        ("/srv/a", "/srv/b", A),
        ("/srv/a", "/etc/b", D),
        ("/etc/a", "/srv/b", D),
        ("/srv/a", "", D),
        ("/srv/a", "b", D),
    ],
)
def test_both_names_are_covered_by_one_rule(verb: str, path: str, other: str, expected: Effect) -> None:
    assert verdict(file(verb, path, other), 'allow paths: ["/srv/**"]') is expected
    assert (
        verdict(file(verb, path, other), 'allow paths: ["/srv/**"]', 'allow paths: ["/etc/**"]') is expected
    )


@pytest.mark.parametrize(
    ("pattern", "facts", "expected"),
    [
        ("/srv/secret/**", file("rename", "/srv/secret/k", "/tmp/k"), D),
        ("/srv/secret/**", file("rename", "/tmp/k", "/srv/secret/k"), D),
        ("/srv/secret/**", file("rename", "/srv/secret", "/srv/open"), D),
        ("/srv/secret/**", file("rename", "/srv", "/srv2"), D),
        ("/srv/secret/**", file("rename", "/srv2", "/srv"), D),
        ("/srv/secret/**", file("rename", "/srv/a", "/srv/b"), A),
        ("/srv/secret/**", file("rename", "/srv/a", "b"), D),
        ("/srv/secret/**", file("link", "/tmp/l", "/srv"), D),
        ("/srv/secret/**", file("link", "/tmp/l", "/srv/secret/k"), D),
        ("/srv/secret/**", file("link", "/srv/secret/l", "/tmp/k"), D),
        ("/srv/secret/**", file("link", "/tmp/l", "/srv/a"), A),
        ("/srv/secret/**", file("rmdir", "/srv"), D),
        ("/srv/secret/**", file("remove", "/srv"), D),
        ("/srv/secret/**", file("setstat", "/srv"), D),
        ("/srv/secret/**", file("setstat", "/srv/a"), A),
        ("/srv/secret/**", file("list", "/srv"), A),
        ("/srv/secret/**", file("mkdir", "/srv"), A),
        ("/srv/secret", file("rename", "/srv", "/x"), D),
        ("/srv/secret/k", file("rename", "/srv/secret/k/x", "/x"), A),
        ("/home/*/.ssh/**", file("rename", "/home/ann", "/home/bob"), D),
        ("/home/*/.ssh/**", file("rename", "/home/ann/a", "/home/ann/b"), A),
        # `**` may stand for any directory: what it finds below one of them it finds below another.
        ("/**/.env", file("rename", "/srv/a", "/srv/b"), A),
        ("/**/.env", file("rename", "/srv/.env", "/srv/b"), D),
        ("/**/.env", file("rename", "/srv/a", "/srv/.env"), D),
        ("/**/.env", file("setstat", "/srv/a"), A),
        ("/**/.env", file("rmdir", "/srv/a"), A),
        ("/srv/**/.env", file("rename", "/srv/a", "/srv/b"), A),
        ("/srv/**/.env", file("rename", "/srv/a", "/tmp/b"), D),
        ("/srv/**/.env", file("rename", "/tmp/b", "/srv/a"), D),
        ("/srv/**/.env", file("rename", "/srv", "/srv2"), D),
        ("/srv/**/.env", file("rename", "/tmp/a", "/tmp/b"), A),
        # The end of the path is a part of what the pattern names.
        ("/srv/**/.git/config", file("rename", "/srv/a/.git", "/srv/a/git"), D),
        ("/srv/**/.git/config", file("rename", "/srv/a/git", "/srv/a/.git"), D),
        ("/srv/**/.git/config", file("rmdir", "/srv/a/.git"), D),
        ("/srv/**/.git/config", file("rename", "/srv/a/x", "/srv/a/y"), A),
    ],
)
def test_what_moves_a_denied_file(pattern: str, facts: SshFacts, expected: Effect) -> None:
    assert verdict(facts, ANY, f'deny paths: ["{pattern}"]') is expected
    if facts.verb in ("rename", "link"):  # whatever verbs the rule lists
        assert verdict(facts, ANY, f'deny files: [read], paths: ["{pattern}"]') is expected
        assert verdict(facts, ANY, "deny files: [read]") is A


def test_the_sftp_subsystem() -> None:
    assert verdict(subsystem("sftp")) is D
    assert verdict(subsystem("sftp"), "allow files: [read]") is A
    assert verdict(subsystem("sftp"), 'allow paths: ["/srv/**"]') is A
    assert verdict(subsystem("sftp"), "allow subsystems: [sftp]") is A
    assert verdict(subsystem("sftp"), 'hold paths: ["/srv/**"]') is A
    assert verdict(subsystem("sftp"), 'allow exec: ["*"]', "allow shell: true") is D
    assert verdict(subsystem("SFTP"), "allow files: [read]") is D
    assert verdict(subsystem("sftp "), "allow files: [read]") is D
    assert verdict(subsystem("sftp"), "allow files: [read]", 'deny files: ["*"], paths: ["/etc/**"]') is A
    assert verdict(subsystem("sftp"), "allow files: [read]", "deny subsystems: [sftp]") is D
    assert verdict(subsystem("sftp"), "allow files: [read]", "hold subsystems: [s*]") is H
    assert verdict(file("read", "/x"), "allow subsystems: [sftp]") is D  # opens it, and no more


def test_reasons() -> None:
    def reason(facts: SshFacts, *rules: str) -> str:
        (only,) = judged(facts, *rules).reasons
        return f"{only.rule}: {only.message}"

    assert (
        reason(file("write", "/etc/x"), ANY, 'deny paths: ["/etc/**"]')
        == "deny-1: `write` of /etc/x is denied"
    )
    assert (
        reason(file("rename", "/a", "/b"), "allow files: [read]") == ": no rule allows `rename` of /a to /b"
    )
    assert reason(file("link", "/a", "/b"), "allow files: [read]") == (
        ": no rule allows `link` of /a pointing to /b"
    )
    assert (
        reason(file("read", "/\x1b]0;x\a"), "allow files: [list]")
        == r": no rule allows `read` of /\x1b]0;x\x07"
    )
    assert reason(file("read", "/x"), "allow files: [read]") == "allow-0: allowed"
    assert reason(subsystem("sftp"), "allow files: [read]") == "allow-0: allowed"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('allow paths: ["/srv/**"]', True),
        ('deny files: [read], paths: ["/srv/*"]', True),
        ('hold paths: ["/srv"]', True),
        ('allow files: ["*"]', False),
        ('allow paths: ["/**"]', False),
        ('allow exec: ["*"], redirects: ["/tmp/*"]', False),
        ('allow forward: ["unix:/run/x"]', False),
    ],
)
def test_whether_paths_must_be_resolved(rule: str, expected: bool) -> None:
    assert depends_on_paths(document(rule), OPS, WEB) is expected

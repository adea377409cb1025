"""What must hold for every document and every operation: more denials never allow more, fewer permissions neither."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.document import DocumentError, PolicyDocument, load_document
from policy.facts import Redirect, SimpleCommand, SshFacts, SshOperation, Word
from policy.ssh.evaluate import judge_ssh
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import PathPattern, normal_parts
from tests.policy.ssh.operations import HEAD, OPS, WEB, A, D

WORDS = st.sampled_from(["rm", "/bin/rm", "ls", "sh", "-c", "-rf", "a", "/srv/x", "/srv/../x", "", "sudo"])
PATHS = st.sampled_from(["/", "/srv", "/srv/x", "/srv/x/y", "/etc/y", "x", "/srv/../etc", ""])
HOSTS = st.sampled_from(["db", "a.db", "localhost", "127.0.0.1", "127.1", "", "::1", "10.0.0.1", "*"])
PORTS = st.sampled_from([0, 22, 80, 65558])

words = st.builds(Word, WORDS, st.booleans())
redirects = st.builds(Redirect, st.just(">"), st.builds(Word, PATHS, st.booleans()))


def _commands(inner: st.SearchStrategy[tuple[SimpleCommand, ...]]) -> st.SearchStrategy[SimpleCommand]:
    return st.builds(
        SimpleCommand,
        st.lists(words, max_size=4).map(tuple),
        st.lists(st.just("A"), max_size=1).map(tuple),
        st.lists(redirects, max_size=1).map(tuple),
        inner,
        st.booleans(),
        st.booleans(),
    )


commands = st.recursive(
    _commands(st.just(())), lambda inner: _commands(st.lists(inner, max_size=2).map(tuple)), max_leaves=4
)
facts = st.one_of(
    st.sampled_from([SshOperation.SHELL, SshOperation.AGENT, SshOperation.X11]).map(SshFacts),
    st.builds(SshFacts, st.just(SshOperation.SUBSYSTEM), st.sampled_from(["sftp", "netconf", ""])),
    st.builds(
        lambda commands, unresolved: SshFacts(
            SshOperation.EXEC, "text", tuple(commands), ("why",) if unresolved else ()
        ),
        st.lists(commands, max_size=3),
        st.booleans(),
    ),
    st.builds(
        lambda verb, path, other: SshFacts(SshOperation.FILE, verb=verb, path=path, other_path=other),
        st.sampled_from(["read", "write", "rename", "link", "rmdir", "setstat", "what"]),
        PATHS,
        PATHS,
    ),
    st.builds(
        lambda operation, host, port: SshFacts(operation, host=host, port=port),
        st.sampled_from([SshOperation.FORWARD, SshOperation.LISTEN]),
        HOSTS,
        PORTS,
    ),
    st.builds(
        lambda operation, path: SshFacts(operation, path=path or "/"),
        st.sampled_from([SshOperation.FORWARD, SshOperation.LISTEN]),
        PATHS,
    ),
)

COMMAND_PATTERNS = ["*", "rm *", "rm", "/bin/rm *", "* a", "rm -rf *", "l* *", "sh -c *", "sudo * *"]
PATH_PATTERNS = ["/**", "/srv/**", "/srv/*", "/**/y", "/srv/x", "/*/x/**"]
ADDRESS_PATTERNS = [
    "*:*",
    "*:22",
    "db:22",
    "*.db:*",
    "localhost:22",
    "127.*:*",
    "10.0.0.1:80",
    "unix:/srv/**",
]


def _keys(key: str, values: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(
        lambda chosen: f"{key}: [{', '.join(repr(each) for each in chosen)}]"
    )


def _pair(one: st.SearchStrategy[str], other: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda first, second: f"{first}, {second}", one, other)


exec_key = _keys("exec", COMMAND_PATTERNS)
path_key = _keys("paths", PATH_PATTERNS)
file_key = _keys("files", ["read", "write", "rename", "*"])
sections = st.one_of(
    st.sampled_from(["shell: true", "agent: true", "x11: true"]),
    exec_key,
    _pair(exec_key, _keys("redirects", PATH_PATTERNS)),
    path_key,
    file_key,
    _pair(file_key, path_key),
    _keys("subsystems", ["sftp", "*", "net*"]),
    _keys("forward", ADDRESS_PATTERNS),
    _keys("listen", ADDRESS_PATTERNS),
)
rules = st.tuples(st.sampled_from(["allow", "deny", "hold"]), sections)


def document(chosen: list[tuple[str, str]]) -> PolicyDocument | None:
    """None for rules that make each other void: such a document does not load."""
    lines = [
        f"  - {{name: r{number}, effect: {effect}, ssh: {{{section}}}"
        + (", approval: {approvers: [x]}}\n" if effect == "hold" else "}\n")
        for number, (effect, section) in enumerate(chosen)
    ]
    try:
        return load_document(HEAD + ("rules:\n" + "".join(lines) if lines else ""), "p.yaml")
    except DocumentError as error:
        assert all("can never match" in fault.message for fault in error.faults), error
        return None


RANK = {"deny": 0, "hold": 1, "allow": 2}


@settings(max_examples=500, deadline=None)
@given(st.lists(rules, min_size=1, max_size=6), facts)
def test_a_deny_rule_never_allows_more_and_an_allow_rule_never_less(
    chosen: list[tuple[str, str]], operation: SshFacts
) -> None:
    policy = document(chosen)
    if policy is None:
        return
    rank = RANK[judge_ssh(policy, OPS, WEB, "deploy", operation).effect.value]
    for removed in policy.ssh_rules:
        rest = replace(
            policy, ssh_rules=tuple(rule for rule in policy.ssh_rules if rule is not removed), views={}
        )
        without = RANK[judge_ssh(rest, OPS, WEB, "deploy", operation).effect.value]
        if removed.effect is D:
            assert without >= rank
        elif removed.effect is A:
            assert without <= rank
        elif operation.operation is not SshOperation.SUBSYSTEM:
            assert rank < 2 or without == 2  # (a hold on files lets sftp start, where it holds them)
    assert judge_ssh(policy, OPS, WEB, "root", operation).effect is D


@settings(max_examples=500, deadline=None)
@given(sections, facts)
def test_what_a_rule_covers_it_touches(section: str, operation: SshFacts) -> None:
    """So that no allow rule permits what the same words in a deny rule would leave alone."""
    allowing = document([("allow", section)])
    denying = document([("allow", EVERYTHING), ("deny", section)])
    if allowing is None or denying is None:
        return
    if judge_ssh(allowing, OPS, WEB, "deploy", operation).effect is A:
        effect = judge_ssh(denying, OPS, WEB, "deploy", operation).effect
        opens_sftp = operation.operation is SshOperation.SUBSYSTEM and "subsystems" not in section
        around = "redirects" in section  # it denies what is redirected there, and allows also what is not
        assert effect is D or opens_sftp or around


EVERYTHING = (
    "shell: true, agent: true, x11: true, exec: ['*'], files: ['*'], subsystems: ['*'], "
    "forward: ['*:*', 'unix:/**'], listen: ['*:*', 'unix:/**']"
)


@given(st.sampled_from(COMMAND_PATTERNS), st.sampled_from(COMMAND_PATTERNS), commands)
def test_a_wider_command_pattern_touches_what_the_narrower_covers(
    wide: str, narrow: str, one: SimpleCommand
) -> None:
    outer, inner = CommandPattern(wide), CommandPattern(narrow)
    if outer.is_wider(inner) and inner.covers(one):
        assert outer.touches(one)
    if inner.covers(one):
        assert inner.touches(one)


PARTS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=5)
PATTERN_PARTS = st.lists(st.sampled_from(["a", "b", "*", "a*", "**"]), min_size=1, max_size=5)


def naive(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        return naive(rest, path) or (bool(path) and naive(pattern, path[1:]))
    if not path:
        return False
    is_same = first in ("*", path[0]) or (first == "a*" and path[0].startswith("a"))
    return is_same and naive(rest, path[1:])


@settings(max_examples=1000)
@given(PATTERN_PARTS, PARTS)
def test_paths_match_as_defined(pattern: list[str], path: list[str]) -> None:
    parts = normal_parts("/" + "/".join(path))
    assert parts == tuple(path)
    assert PathPattern("/" + "/".join(pattern)).matches(parts) is naive(pattern, path)


@settings(max_examples=1000)
@given(PATTERN_PARTS, PATTERN_PARTS, PARTS)
def test_a_wider_path_pattern_matches_what_the_narrower_matches(
    wide: list[str], narrow: list[str], path: list[str]
) -> None:
    outer, inner = PathPattern("/" + "/".join(wide)), PathPattern("/" + "/".join(narrow))
    if outer.is_wider(inner) and inner.matches(tuple(path)):
        assert outer.matches(tuple(path))


@settings(max_examples=1000)
@given(PATTERN_PARTS, PARTS, PARTS, PARTS)
def test_no_rename_takes_a_file_out_of_a_denied_path(
    pattern: list[str], source: list[str], destination: list[str], below: list[str]
) -> None:
    """A file that a pattern means, below a directory that is renamed: its new name is meant too, or the rename is not
    allowed."""
    text = "/" + "/".join(pattern)
    if not source or not PathPattern(text).matches((*source, *below)):
        return
    policy = document([("allow", "files: ['*']"), ("deny", f"paths: ['{text}']")])
    if policy is None:
        return
    rename = SshFacts(
        SshOperation.FILE, verb="rename", path="/" + "/".join(source), other_path="/" + "/".join(destination)
    )
    if judge_ssh(policy, OPS, WEB, "deploy", rename).effect is A:
        assert PathPattern(text).matches((*destination, *below))

"""Forwards and listeners against rules: hosts and addresses in all their forms, ports, sockets."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.facts import SshFacts, SshOperation
from tests.policy.ssh.operations import A, D, H, forward, judged, listen, verdict

ANYWHERE = 'allow forward: ["*:*", "unix:/**"]'
ANY_LISTENER = 'allow listen: ["*:*", "unix:/**"]'


@pytest.mark.parametrize(
    ("pattern", "where", "expected"),
    [
        ("db.internal:5432", "db.internal:5432", True),
        ("db.internal:5432", "DB.Internal.:5432", True),
        ("DB.Internal.:5432", "db.internal:5432", True),
        ("db.internal:5432", "db.internal:5433", False),
        ("db.internal:5432", "xdb.internal:5432", False),
        ("db.internal:5432", "db.internal.evil.com:5432", False),
        ("db.internal:*", "db.internal:1", True),
        ("*.internal:443", "a.b.internal:443", True),
        ("*.internal:443", "internal:443", False),
        ("*.internal:443", "a.internal.evil:443", False),
        ("*:443", "anything:443", True),
        ("*:443", "10.1.2.3:443", True),
        ("*:443", "fd00::1:443", True),
        ("10.0.0.5:22", "10.0.0.5:22", True),
        ("10.0.0.5:22", "::ffff:10.0.0.5:22", True),
        ("10.0.0.5:22", "::ffff:a00:5:22", True),
        ("10.0.0.5:22", "10.0.0.50:22", False),
        ("10.*:22", "10.1.2.3:22", True),
        ("10.0.0.*:22", "10.0.0.7:22", True),
        ("*1:22", "10.0.0.1:22", True),
        ("[fd00::1]:22", "fd00::1:22", True),
        ("[fd00::1]:22", "fd00:0:0::0001:22", True),
        ("[fd00::1]:22", "[fd00::1]:22", True),
        ("[FD00::1]:22", "fd00::1:22", True),
        ("[fd00::1]:22", "fd00::2:22", False),
        ("[::ffff:10.0.0.5]:22", "10.0.0.5:22", True),
        ("unix:/run/x.sock", "unix:/run/x.sock", True),
        ("unix:/run/*.sock", "unix:/run/y.sock", True),
        ("unix:/run/*.sock", "unix:/run/a/y.sock", False),
        ("unix:/run/**", "unix:/run/a/y.sock", True),
        ("unix:/run/x.sock", "x.sock:1", False),
        ("*:*", "unix:/run/x.sock", False),
        ("unix:/**", "localhost:80", False),
    ],
)
def test_what_a_pattern_means(pattern: str, where: str, expected: bool) -> None:
    assert verdict(forward(where), f'allow forward: ["{pattern}"]') is (A if expected else D)
    assert verdict(forward(where), ANYWHERE, f'deny forward: ["{pattern}"]') is (D if expected else A)
    assert verdict(forward(where), f'hold forward: ["{pattern}"]') is (H if expected else D)


@pytest.mark.parametrize(("pattern", "where"), [("10.*:22", "10.evil.com:22"), ("db*:22", "db8::1:22")])
def test_a_glob_of_addresses_covers_no_name_and_the_other_way_round(pattern: str, where: str) -> None:
    assert verdict(forward(where), f'allow forward: ["{pattern}"]') is D
    assert verdict(forward(where), ANYWHERE, f'deny forward: ["{pattern}"]') is D


@pytest.mark.parametrize(
    "host",
    ["0177.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "010.0.0.5", "1.2.3.4.5", "0x",
     "x.1", "10.0.0.256", "10.0.0.5%x", "127.1%lo", "", "*",
     "\uff11\uff10.0.0.5", "b\u00fccher.example", "10.0.0.5.0x1"],
)  # fmt: skip
def test_an_odd_host_could_be_any_address(host: str) -> None:
    facts = SshFacts(SshOperation.FORWARD, host=host, port=80)
    for rule in ('"10.0.0.5:80"', '"10.*:80"', '"[fd00::1]:*"', '"localhost:80"'):
        assert verdict(facts, ANYWHERE, f"deny forward: [{rule}]") is D
    assert verdict(facts, ANYWHERE, 'deny forward: ["10.0.0.5:81"]') is A
    assert verdict(facts, ANYWHERE, 'deny forward: ["db.internal:80"]') is A
    assert (
        verdict(facts, 'allow forward: ["10.0.0.5:80", "10.*:80", "b*:80", "localhost:80", "*.0.*:80"]') is D
    )
    assert verdict(facts, 'allow forward: ["*:80"]') is A


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "x.localhost", "127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1", "0.0.0.0", "::",  # noqa: S104
     "::ffff:127.0.0.1", "ip6-localhost", "localhost.localdomain", "", "::1%lo"],
)  # fmt: skip
@pytest.mark.parametrize("named", ["localhost", "127.0.0.1", "127.*", "[::1]", "0.0.0.0", "local*"])  # noqa: S104
def test_a_deny_rule_on_this_machine_means_all_its_names(host: str, named: str) -> None:
    facts = SshFacts(SshOperation.FORWARD, host=host, port=80)
    assert verdict(facts, ANYWHERE, f'deny forward: ["{named}:80"]') is D
    assert verdict(facts, ANYWHERE, f'deny forward: ["{named}:81"]') is A
    assert verdict(facts, ANYWHERE, 'deny forward: ["db.internal:80"]') is A


def test_an_allow_rule_means_one_name_of_this_machine() -> None:
    rule = 'allow forward: ["localhost:80"]'
    assert verdict(forward("localhost:80"), rule) is A
    assert verdict(forward("127.0.0.1:80"), rule) is D
    assert verdict(forward("::1:80"), rule) is D
    assert verdict(forward("127.0.0.1:80"), 'allow forward: ["127.0.0.1:80"]') is A


@pytest.mark.parametrize(("host", "port"), [("a b", 80), ("a\0b", 80), ("a\nb", 80), ("x" * 256, 80), ("db", 0),
                                            ("db", 65536), ("db", 65536 + 22), ("db", -1)])  # fmt: skip
def test_what_is_no_address_is_never_allowed(host: str, port: int) -> None:
    decision = judged(SshFacts(SshOperation.FORWARD, host=host, port=port), ANYWHERE)
    assert decision.effect is D
    assert decision.reasons[0].message.isprintable()
    assert len(decision.reasons[0].message) < 250


@pytest.mark.parametrize(
    "path", ["run/x.sock", "/run/../run/x.sock", "/run//x.sock", "@abstract", "\0abstract"]
)
def test_a_socket_that_could_be_any(path: str) -> None:
    facts = SshFacts(SshOperation.FORWARD, path=path)
    assert verdict(facts, 'allow forward: ["unix:/run/**"]') is D
    assert verdict(facts, ANYWHERE) is A
    assert verdict(facts, ANYWHERE, 'deny forward: ["unix:/var/run/docker.sock"]') is D
    assert verdict(facts, ANYWHERE, 'deny forward: ["*:*"]') is A


@pytest.mark.parametrize(
    ("pattern", "where", "allowed", "denied"),
    [
        ("localhost:8080", "localhost:8080", True, True),
        ("localhost:8080", "127.0.0.1:8080", False, True),
        ("localhost:8080", ":8080", False, True),
        ("localhost:8080", "*:8080", False, True),
        ("localhost:8080", "0.0.0.0:8080", False, True),
        ("localhost:8080", ":::8080", False, True),
        ("localhost:8080", "10.0.0.1:8080", False, False),
        ("localhost:8080", "localhost:8081", False, False),
        ("localhost:8080", "localhost:0", False, True),
        ("localhost:0", "localhost:0", True, True),
        ("localhost:*", "localhost:0", True, True),
        ("*:8080", ":8080", True, True),
        ("*:8080", "*:8080", True, True),
        ("*:8080", "localhost:8080", True, True),
        ("10.0.0.1:8080", ":8080", False, True),
        ("10.0.0.1:8080", "0.0.0.0:8080", False, True),
        ("10.0.0.1:8080", "web1.internal:8080", False, True),
        ("10.0.0.1:8080", "localhost:8080", False, False),
        ("0.0.0.0:8080", "0.0.0.0:8080", True, True),
        ("0.0.0.0:8080", ":8080", False, True),
        ("web1.internal:8080", "web1.internal:8080", True, True),
        ("unix:/tmp/*.sock", "unix:/tmp/x.sock", True, True),
        ("unix:/tmp/*.sock", "unix:/tmp/../x.sock", False, True),
    ],
)
def test_listeners(pattern: str, where: str, allowed: bool, denied: bool) -> None:
    assert verdict(listen(where), f'allow listen: ["{pattern}"]') is (A if allowed else D)
    assert verdict(listen(where), ANY_LISTENER, f'deny listen: ["{pattern}"]') is (D if denied else A)
    assert verdict(forward("db:1"), ANY_LISTENER) is D
    assert verdict(listen("localhost:1"), ANYWHERE) is D


def test_a_port_that_is_none_is_not_listened_on() -> None:
    assert verdict(SshFacts(SshOperation.LISTEN, host="localhost", port=65536), ANY_LISTENER) is D


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (forward("db.internal:5432"), "forwarding to db.internal:5432"),
        (forward("fd00::1:22"), "forwarding to [fd00::1]:22"),
        (forward("unix:/run/x"), "forwarding to the socket /run/x"),
        (forward(":22"), "forwarding to no host, port 22"),
        (listen(":8080"), "listening on every address, port 8080"),
        (listen("localhost:0"), "listening on localhost, a port of the target's choice"),
        (listen("unix:/run/x"), "listening on the socket /run/x"),
    ],
)
def test_reasons(facts: SshFacts, message: str) -> None:
    (reason,) = judged(facts).reasons
    assert reason.message == f"no rule allows {message}"


def effect_of_both(where: str) -> Effect:
    return verdict(forward(where), 'allow forward: ["a:1"], listen: ["b:2"]')


def test_a_rule_with_both_keys_is_about_each() -> None:
    assert effect_of_both("a:1") is A
    assert effect_of_both("b:2") is D

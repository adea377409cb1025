"""What the bench makes of its measurements over SSH: ratios within rounds, what is added, verdicts."""

from __future__ import annotations

import pytest

from bench import ssh_report
from bench.processes import Growth
from bench.report import Line
from bench.ssh_sessions import Idle
from bench.ssh_transfers import Mixed, Transfer
from bench.ssh_ways import Algorithms, agreed

ALGORITHMS = {
    "direct": Algorithms("sntrup", "chacha"),
    "direct-alike": Algorithms("curve", "aes"),
    "jump": Algorithms("sntrup in sntrup", "chacha in chacha"),
    "jump-alike": Algorithms("curve in curve", "aes in aes"),
    "proxyd": Algorithms("curve", "aes"),
}


def line(lines: list[Line], what: str) -> Line:
    (found,) = [one for one in lines if one.what == what]
    return found


def test_logins_are_compared_within_rounds() -> None:
    # The machine was slow in the second round, for everybody.
    lines = ssh_report.login_lines({"direct": [0.1, 1.0, 0.1], "proxyd": [0.14, 1.4, 0.14]}, ALGORITHMS)
    found = line(lines, "login, ssh HOST true, curve: proxyd")
    assert (found.measured, found.compared, found.is_reached) == ("140 ms", "1.40 x direct", True)
    direct = line(lines, "login, ssh HOST true, sntrup: direct")
    assert (direct.compared, direct.wanted, direct.is_reached) == ("", "", None)


def test_a_login_that_takes_too_long_is_said() -> None:
    lines = ssh_report.login_lines({"direct": [0.1], "jump": [0.9], "proxyd": [0.16]}, ALGORITHMS)
    assert line(lines, "login, ssh HOST true, curve: proxyd").is_reached is False
    jump = line(lines, "login, ssh HOST true, sntrup in sntrup: jump")
    assert (jump.compared, jump.is_reached) == ("9.00 x direct", None)


def test_a_login_is_also_compared_with_one_by_the_same_algorithms() -> None:
    seconds = {"direct": [0.2], "direct-alike": [0.1], "proxyd": [0.16]}
    lines = ssh_report.login_lines(seconds, ALGORITHMS)
    found = line(lines, "login, ssh HOST true, curve: proxyd")
    assert found.compared == "0.80 x direct, 1.60 x direct-alike"
    assert (found.wanted, found.is_reached) == ("< 1.5 x direct", True)
    alike = line(lines, "login, ssh HOST true, curve: direct-alike")
    assert (alike.compared, alike.is_reached) == ("", None)


def test_without_a_direct_way_there_is_nothing_to_compare_with() -> None:
    (login,) = ssh_report.login_lines({"proxyd": [0.16]}, ALGORITHMS)
    assert (login.compared, login.wanted, login.is_reached) == ("", "", None)
    median, late = ssh_report.echo_lines({"proxyd": [0.001]})
    assert (median.measured, median.is_reached, late.is_reached) == ("1.00 ms", None, None)


def test_added_echo_is_taken_key_by_key() -> None:
    direct = [0.001, 0.009, 0.001]
    lines = ssh_report.echo_lines({"direct": direct, "proxyd": [key + 0.0015 for key in direct]})
    found = line(lines, "echo of a key, median: proxyd")
    assert (found.measured, found.compared, found.is_reached) == ("2.50 ms", "adds 1.50 ms", True)


def test_late_echoes_are_judged_by_themselves() -> None:
    direct = [0.001] * 500
    own = [0.002] * 490 + [0.020] * 10
    lines = ssh_report.echo_lines({"direct": direct, "proxyd": own})
    assert line(lines, "echo of a key, median: proxyd").is_reached is True
    late = line(lines, "echo of a key, p99: proxyd")
    assert (late.compared, late.is_reached) == ("adds 19.00 ms", False)
    assert [one.what.split(",")[1].split(":")[0].strip() for one in lines] == [
        "median",
        "median",
        "p99",
        "p99",
    ]


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (100, 99), (500, 495), (50, 49)])
def test_p99_is_a_value_that_was_measured(count: int, expected: int) -> None:
    assert ssh_report.p99([float(number) for number in reversed(range(count))]) == expected


def transfers(**seconds: list[float]) -> list[Transfer]:
    return [
        Transfer(name, direction, 1_000_000_000, one, 2.0 if name == "proxyd" else 0.0)
        for direction in ("up", "down")
        for name, own in seconds.items()
        for one in own
    ]


def of(*names: str) -> dict[str, Algorithms]:
    return {name: ALGORITHMS[name] for name in names}


def test_transfers_are_compared_with_a_jump_and_name_their_cipher() -> None:
    measured = transfers(direct=[2.0, 4.0], jump=[4.0, 8.0], proxyd=[5.0, 10.0])
    lines = ssh_report.transfer_lines(measured, of("direct", "jump", "proxyd"))
    found = line(lines, "scp of 1,000 MB up, aes: proxyd")
    assert found.measured == "7.5 s, 133 MB/s, 2.0 s CPU"
    assert (found.compared, found.is_reached) == ("1.25 x jump", True)
    jump = line(lines, "scp of 1,000 MB down, chacha in chacha: jump")
    assert (jump.measured, jump.compared, jump.is_reached) == ("6.0 s, 167 MB/s", "", None)
    assert line(lines, "scp of 1,000 MB up, chacha: direct").compared == "0.50 x jump"


def test_a_transfer_is_also_compared_with_one_by_the_same_cipher() -> None:
    measured = transfers(**{"jump": [4.0], "proxyd": [4.0], "jump-alike": [2.0]})
    lines = ssh_report.transfer_lines(measured, of("jump", "proxyd", "jump-alike"))
    found = line(lines, "scp of 1,000 MB up, aes: proxyd")
    assert (found.compared, found.is_reached) == ("1.00 x jump, 2.00 x jump-alike", True)


def test_a_slow_transfer_is_said_and_one_without_a_jump_is_not_judged() -> None:
    lines = ssh_report.transfer_lines(transfers(jump=[4.0], proxyd=[6.1]), of("jump", "proxyd"))
    assert line(lines, "scp of 1,000 MB up, aes: proxyd").is_reached is False
    (up, _down) = ssh_report.transfer_lines(transfers(proxyd=[6.1]), of("proxyd"))
    assert up.is_reached is None


def test_growth_while_files_pass_has_its_limit() -> None:
    assert ssh_report.growth_line("up", Growth(80 * 1024, 110 * 1024, 1, 1.0)).is_reached is True
    assert ssh_report.growth_line("up", Growth(80 * 1024, 112 * 1024, 1, 1.0)).is_reached is False


def test_idle_memory_is_of_a_session_in_thousands_of_bytes() -> None:
    found = ssh_report.idle_line(Idle(200, 100_000, 100_000 + 19_000))
    assert (found.compared, found.is_reached) == ("97 KB a session", True)
    assert ssh_report.idle_line(Idle(200, 0, 20_000)).is_reached is False


def test_mixed_load_is_compared_within_rounds_and_only_one_process_is_judged() -> None:
    measured = [
        Mixed("proxyd", "up", 1.0, 2.9, 5.0),
        Mixed("proxyd", "up", 0.1, 0.32, 0.5),
        Mixed("proxyd", "up", 1.0, 2.8, 5.0),
        Mixed("apart", "up", 1.0, 4.0, 5.0),
    ]
    lines = ssh_report.mixed_lines(measured)
    found = line(lines, "SELECT 1 while scp up goes through the same process")
    assert (found.compared, found.is_reached) == ("2.90 x alone", True)
    apart = line(lines, "SELECT 1 while scp up goes through another process")
    assert (apart.compared, apart.wanted, apart.is_reached) == ("4.00 x alone", "", None)
    (slow,) = ssh_report.mixed_lines([Mixed("proxyd", "down", 1.0, 3.1, 5.0)])
    assert slow.is_reached is False


def test_algorithms_are_found_in_what_the_client_says() -> None:
    def said(kex: str, cipher: str) -> str:
        text = "debug1: kex: {} cipher: {} MAC: <implicit> compression: none\r\n"
        both = text.format("server->client", cipher) + text.format("client->server", cipher)
        return f"debug1: kex: algorithm: {kex}\r\n{both}"

    one = said("curve25519-sha256", "aes128-gcm@openssh.com")
    two = said("sntrup761x25519-sha512@openssh.com", "chacha20-poly1305@openssh.com")
    assert agreed(one) == Algorithms("curve25519-sha256", "aes128-gcm@openssh.com")
    assert agreed(two + one).short == Algorithms(
        "sntrup761x25519-sha512 in curve25519-sha256", "chacha20-poly1305 in aes128-gcm"
    )
    assert agreed(two + two).short == Algorithms("sntrup761x25519-sha512 twice", "chacha20-poly1305 twice")
    assert agreed("Connection refused") == Algorithms("unknown", "unknown")

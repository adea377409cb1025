"""The demo: its pieces alone, how the tour judges its steps, and the whole of it as a newcomer runs it."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from cryptography import x509

from demo import documents, shop
from demo.child_process import end, launch
from demo.http_stage import INSPECTION, KEYS
from demo.stage import PEOPLE, Stage, StageBusy
from demo.steps import scene_of, steps_for
from demo.terminal import Terminal, Typed
from demo.tour import Check, Outcome, Scene, Step, Style, ends_with, hides, run_tour, shell_line, shows

ROOT = Path(__file__).parent.parent


def test_the_shop_is_the_same_every_time() -> None:
    assert shop.make_shop() == shop.make_shop()
    assert shop.make_shop() != shop.make_shop(seed=2)


def test_the_shops_private_values_are_each_somebodys_own() -> None:
    customers = shop.make_shop().customers
    for column in ("email", "card_number"):
        assert len({getattr(customer, column) for customer in customers}) == len(customers)


def test_card_numbers_pass_the_check_digit_of_real_ones() -> None:
    for customer in shop.make_shop().customers:
        digits = [int(character) for character in reversed(customer.card_number)]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
        assert (sum(digits[::2]) + sum(doubled)) % 10 == 0


def test_every_private_value_is_known_to_the_checks() -> None:
    made = shop.make_shop()
    private = made.private_values()
    for customer in made.customers:
        assert {customer.email, customer.phone, customer.ssn, customer.card_number} <= private
    assert not any(customer.name in private for customer in made.customers)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["psql", "service=alice"], "psql service=alice"),
        (["psql", "-c", "SELECT 1"], "psql -c 'SELECT 1'"),
        (["psql", "-c", "a = 'x'"], """psql -c "a = 'x'\""""),
        (["psql", "-c", "a = '$x'"], """psql -c 'a = '"'"'$x'"'"''"""),
        (["psql", ""], "psql ''"),
    ],
)
def test_commands_are_shown_as_a_shell_takes_them(words: list[str], line: str) -> None:
    assert shell_line(words) == line
    shown = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines() == words


def tour(tmp_path: Path, *steps: Step) -> tuple[bool, str]:
    out = io.StringIO()
    tapes = tmp_path / "tapes"
    tapes.mkdir(exist_ok=True)
    is_right = run_tour(steps, Scene(tmp_path, tapes), out)
    return is_right, out.getvalue()


def step(script: str, *checks: Check, name: str = "one") -> Step:
    return Step(name, f"Title of {name}", "What it is about.", ("/bin/sh", "-c", script), checks)


def test_a_step_shows_its_command_and_its_output(tmp_path: Path) -> None:
    is_right, text = tour(tmp_path, step("echo out; echo err >&2", ends_with(0), shows("out", "err")))
    assert is_right
    assert "$ echo out; echo err >&2\nout\nerr\n" in text
    assert "Title of one" in text
    assert "What it is about." in text
    assert "DIFFERS" not in text


@pytest.mark.parametrize(
    ("script", "check"),
    [
        ("exit 3", ends_with(0)),
        ("exit 0", ends_with(1)),
        ("echo something", shows("else")),
        ("echo carla@example.net", hides(["x", "carla@example.net"], "addresses")),
        ("kill -9 $$", ends_with(0)),
    ],
)
def test_a_step_that_differs_fails_the_tour_and_the_others_still_run(
    tmp_path: Path, script: str, check: Check
) -> None:
    is_right, text = tour(tmp_path, step(script, check), step("echo second", ends_with(0), name="two"))
    assert not is_right
    assert "DIFFERS" in text
    assert "\nsecond\n" in text
    assert "1 of 2 steps differ: 'Title of one'" in text


def test_a_program_that_is_not_there_fails_the_tour(tmp_path: Path) -> None:
    lost = Step("lost", "Lost", "Nothing.", (str(tmp_path / "no-such-program"),), (ends_with(0),))
    is_right, text = tour(tmp_path, lost)
    assert not is_right
    assert "No such file" in text


def test_a_step_can_speak_of_the_tape_of_an_earlier_one(tmp_path: Path) -> None:
    recorded = step("echo recorded > tapes/session", name="first")
    played = Step("second", "Play", "Again.", ("/bin/cat", "{tape_first}"), (shows("recorded"),))
    assert tour(tmp_path, recorded, played)[0]
    (tmp_path / "tapes" / "session").unlink()
    is_right, text = tour(tmp_path, played)
    assert not is_right
    assert "there is no 'tape_first'" in text


ECHO_SIZES = "stty -echo; trap 'stty size' WINCH; echo ready; while :; do read -r line; echo got $line; done"


def in_terminal(
    script: str, *typed: Typed, name: str = "one", stays: bool = False, watches: str = ""
) -> Step:
    command = ("/bin/sh", "-c", script)
    return Step(name, name, "What it is about.", command, (shows("got"),), typed, stays, watches)


def test_a_step_can_type_at_a_terminal(tmp_path: Path) -> None:
    typed = (Typed("ready", "one\n"), Typed("got one", "two\n"))
    is_right, text = tour(
        tmp_path, in_terminal("echo ready; read -r a; echo got $a; read -r b; echo $b", *typed)
    )
    assert is_right
    assert "\nready\none\ngot one\ntwo\ntwo\n" in text


def test_a_step_can_leave_its_terminal_open_for_a_later_one(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; trap 'echo got a signal; exit' USR1; echo ready; echo got; while :; do sleep 0.1; done"
    first = in_terminal(script, Typed("got"), name="first", stays=True)
    second = Step(
        "second",
        "Second",
        "x",
        ("/bin/sh", "-c", f"kill -USR1 $(cat {pid})"),
        (shows("a signal"),),
        watches="first",
    )
    is_right, text = tour(tmp_path, first, second)
    assert is_right
    assert "(and on the other terminal)\ngot a signal\n" in text


def test_a_terminal_that_nobody_came_back_to_is_hung_up(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; echo ready; echo got; exec sleep 600"
    assert tour(tmp_path, in_terminal(script, Typed("got"), stays=True))[0]
    _wait_until_gone(int(pid.read_text()))


def test_a_program_that_does_not_say_what_is_waited_for_fails_its_step(tmp_path: Path) -> None:
    is_right, text = tour(tmp_path, in_terminal("echo got something else", Typed("never", "x")))
    assert is_right  # its check holds; and the tour did not wait
    assert "got something else" in text


def test_a_terminal_changes_its_size(tmp_path: Path) -> None:
    terminal = Terminal(["/bin/sh", "-c", ECHO_SIZES], tmp_path, dict(os.environ), (80, 20))
    try:
        assert terminal.play([Typed("ready", size=(96, 30)), Typed("30 96", "x\n"), Typed("got x")], 10)
    finally:
        terminal.close()


def test_what_fills_the_screen_is_left_out_of_the_text(tmp_path: Path) -> None:
    script = r"printf 'before\r\n\033[?1049h\033[Hfull\033[?1049lafter\r\n'"
    terminal = Terminal(["/bin/sh", "-c", script], tmp_path, dict(os.environ))
    assert terminal.finish(10) == 0
    assert terminal.new_text() == "before\n(a program that fills the screen)\nafter\n"
    assert terminal.new_text() == ""


def test_output_has_no_colours_where_nobody_sees_them() -> None:
    assert not Style.of(io.StringIO()).is_coloured
    assert Style(is_coloured=False).good("fine") == "fine"
    assert Style(is_coloured=True).bad("wrong") == "\033[1;31mwrong\033[0m"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything but the gateway."""
    made = Stage(tmp_path_factory.mktemp("demo") / ".demo")
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


def test_the_stages_database_holds_the_shop_behind_passwords(stage: Stage) -> None:
    password = (stage.directory / "secrets" / "gateway_reader").read_text().strip()
    with psycopg.connect(stage.server.dsn("shop", "gateway_reader", password=password)) as connection:
        rows = connection.execute("SELECT name, email FROM shop.customers ORDER BY id").fetchall()
    assert rows == [(customer.name, customer.email) for customer in stage.shop.customers]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stage.server.dsn("shop", "gateway_reader", password="guessed"))


def test_the_stages_secrets_are_their_owners_alone(stage: Stage) -> None:
    keys = [*(stage.directory / "secrets").iterdir(), *(stage.directory / "pki").glob("*.key")]
    assert len(keys) == len(shop.ACCOUNTS) + 1 + len(KEYS) + len(PEOPLE) + len(("server", INSPECTION))
    tokens = [*(stage.directory / "tokens").iterdir(), *stage.directory.glob("*.curl")]
    assert len(tokens) == 2 * len(PEOPLE)
    ssh = [path for path in (stage.directory / "ssh").iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert len(ssh) >= len(PEOPLE) + 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*keys, *tokens, *ssh)} == {0o600}
    for directory in (stage.tapes, stage.directory / "ssh", stage.directory / "tokens"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_stages_certificates_are_of_its_authority(stage: Stage) -> None:
    authority = x509.load_pem_x509_certificate((stage.directory / "pki" / "ca.crt").read_bytes())
    for name in ("server", *PEOPLE):
        certificate = x509.load_pem_x509_certificate((stage.directory / "pki" / f"{name}.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)


def test_the_stages_documents_are_yaml_with_a_word_to_the_reader(stage: Stage) -> None:
    for path in (stage.config, stage.policy):
        text = path.read_text()
        assert yaml.safe_load(text)["version"] == 1
        assert text.count("#") > 5


def test_the_stages_psql_speaks_tls(stage: Stage) -> None:
    done = subprocess.run(
        [str(stage.psql), f"host=127.0.0.1 port={stage.server.port} user=postgres sslmode=require"],
        capture_output=True,
        text=True,
        check=False,
    )
    # This server has no TLS; what matters is who says so.
    assert "server does not support SSL" in done.stderr


def test_a_machine_without_ssh_and_curl_gets_the_rest_of_the_tour(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [one.name for one in steps_for(stage)]
    monkeypatch.setenv("PATH", "/nonexistent")
    rest = [one.name for one in steps_for(stage)]
    assert rest == [name for name in whole if name in rest]
    assert {"ssh", "shell", "sessions", "http", "http_held", "http_har"} <= set(whole) - set(rest)
    assert {"masked", "forged", "token", "model", "model_denied", "budgets"} <= set(rest)


def test_two_demos_do_not_share_a_directory(stage: Stage) -> None:
    second = Stage(stage.directory)
    with pytest.raises(StageBusy, match="another demo is running"):
        second.set_up()
    second.tear_down()


def test_a_policy_edited_by_hand_is_put_aside(tmp_path: Path) -> None:
    stage = Stage(tmp_path / ".demo")
    stage.directory.mkdir()
    stage.policy.write_text(documents.POLICY.format(config=".demo/proxyd.yaml"))
    assert stage.put_aside_edited_policy() is None
    stage.policy.write_text(stage.policy.read_text().replace("redact", "'null'"))
    edited = stage.policy.read_text()
    aside = stage.put_aside_edited_policy()
    assert aside is not None
    assert aside.read_text() == edited
    assert not stage.policy.exists()


def test_a_step_names_only_what_the_scene_or_an_earlier_step_gives(stage: Stage) -> None:
    known = set(scene_of(stage).names)
    terminals = set()
    for one in steps_for(stage):
        for word in one.command:
            word.format_map(dict.fromkeys(known, ""))
        known |= {f"tape_{one.name}", f"session_{one.name}"}
        assert not one.watches or one.watches in terminals
        terminals |= {one.name} if one.stays else set()
        assert one.checks
        assert not all(check.holds(Outcome(0, "")) for check in one.checks), "a check that cannot fail"


def test_a_child_process_ends_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from demo.child_process import launch\n"
            "log = open('/dev/null', 'wb')\n"
            "child = launch(['/bin/sleep', '600'], log=log, cwd=Path('/'), env={})\n"
            f"Path({str(pid_file)!r}).write_text(str(child.pid))\n"
            "time.sleep(600)",
        ],
        cwd=ROOT,
    )
    child = _wait_for_pid(pid_file)
    assert _is_alive(child)
    owner.kill()
    owner.wait()
    _wait_until_gone(child)


def test_a_child_process_is_ended_by_the_first_signal_that_works(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    log_path = tmp_path / "log"
    with log_path.open("wb") as log:
        child = launch(["/bin/sh", "-c", script], log=log, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    while not log_path.read_text():
        time.sleep(0.01)
    assert end(child, (signal.SIGTERM, signal.SIGKILL), step_timeout_s=0.2) == -signal.SIGKILL


def test_make_demo_shows_the_whole_tour_and_leaves_nothing(tmp_path: Path) -> None:
    """On a machine without an sshd."""
    directory = tmp_path / ".demo"
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--tour-only", "--no-sshd", "--directory", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_whole(done.stdout, "the demo's own SSH host")
    _wait_until_nothing_names(str(directory))


def test_the_demo_stays_up_after_its_tour_until_it_is_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / ".demo"
    with (tmp_path / "output").open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo", "--directory", str(directory)],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while "Ctrl-C ends it." not in (tmp_path / "output").read_text() and demo.poll() is None:
                time.sleep(0.1)
            shown = (tmp_path / "output").read_text()
            assert demo.poll() is None, shown
            assert_whole(shown, "a real sshd")
            query = [
                str(directory / "bin" / "psql"),
                "service=alice",
                "-Atc",
                "SELECT count(*) FROM shop.orders",
            ]
            answered = subprocess.run(query, capture_output=True, text=True, check=False)
            assert answered.stdout.strip() == str(shop.ORDERS), answered.stderr
            ssh = ["ssh", "-F", str(directory / "ssh_config"), "dora.web1", "cat www/prices.csv"]
            listed = subprocess.run(ssh, capture_output=True, text=True, check=False)
            assert listed.stdout.startswith("product,price\n"), listed.stderr
        finally:
            demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    _wait_until_nothing_names(str(directory))


def assert_whole(shown: str, host: str) -> None:
    """The tour was shown whole, and every step of it was right."""
    assert "steps showed what they should." in shown, shown
    assert "DIFFERS" not in shown
    assert f"web1 is {host}" in shown


def _wait_for_pid(path: Path) -> int:
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    return int(path.read_text())


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait_until_gone(pid: int) -> None:
    while _is_alive(pid):
        time.sleep(0.01)


def _wait_until_nothing_names(text: str) -> None:
    """What watches over child processes hears of their end, and ends a moment later."""
    deadline = time.monotonic() + 60
    while found := _processes_that_name(text):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


def _processes_that_name(text: str) -> list[str]:
    """Command lines of processes that speak of `text`, our own left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found

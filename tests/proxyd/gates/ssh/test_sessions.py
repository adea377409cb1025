"""What clients ask on a session's channel: terminal, variables, commands, signals; allowed, denied and refused."""

from __future__ import annotations

import pytest

from policy.decision import SessionLimits
from policy.patterns import Glob
from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.requests import (
    BreakRequest,
    EnvRequest,
    ExecRequest,
    ExitSignal,
    SignalRequest,
    X11Request,
    XonXoff,
)
from proxyd.gates.ssh.channel import MAX_REPLIES_OWED
from proxyd.gates.ssh.judge import Permits
from proxyd.gates.ssh.sessions import MAX_ENVIRONMENT
from proxyd.gates.ssh.state import GateSettings
from proxyd.gates.ssh.windows import MAX_QUEUED_MESSAGES
from tests.proxyd.gates.ssh.playbook import (
    CLIENT,
    NOTHING,
    POLICY,
    PTY,
    TARGET,
    TTY_OF_0,
    WITHOUT_WAYS,
    Playbook,
    adjust,
    asking,
    close,
    data,
    document,
    eof,
    exec_of,
    exit_status,
    failure,
    pty,
    refused,
    resize,
    said,
    shell,
    stderr,
    subsystem,
    success,
)

ALLOWED_EXEC = ("judged", 0, "exec", "allow")
DENIED_EXEC = ("judged", 0, "exec", "deny")
NO_RULE = "no rule allows `rm -r /`"


def refusal(play: Playbook) -> str:
    """What the last refused command was told, and nothing else to check."""
    message = next(m for m in map(wire.parse, play.actions.to_client) if isinstance(m, wire.ExtendedData))
    return message.data.decode().removesuffix("\r\n")


# --- starts ---


@pytest.mark.parametrize("reply", [True, False])
def test_an_allowed_command(reply: bool) -> None:
    play = Playbook().opened()
    # The target is always asked for an answer: only then is it known what runs.
    play.client(exec_of("ls /srv", reply=reply), to_target=[exec_of("ls /srv", TARGET)], tape=[ALLOWED_EXEC])
    play.target(success(), to_client=[success(CLIENT)] if reply else [])
    play.target(data(b"x\n"), to_client=[data(b"x\n", CLIENT)], tape=[("output", 0, 1, b"x\n")])
    play.target(stderr(b"y\n"), to_client=[stderr(b"y\n", CLIENT)], tape=[("output", 0, 2, b"y\n")])


@pytest.mark.parametrize("reply", [True, False])
def test_a_denied_command_never_reaches_the_target(reply: bool) -> None:
    play = Playbook().opened()
    play.gate.from_client(exec_of("rm -r /", reply=reply))
    text = refusal(play)
    assert text.startswith(f"proxyd: {NO_RULE}")
    play.gives(
        to_client=[*([success(CLIENT)] if reply else []), *refused(text)],
        to_target=[close(TARGET)],
        tape=[DENIED_EXEC, said(text)],
    )
    # What is on its way is dropped, and the connection stays usable.
    play.client(data(b"yes\n"), adjust(10), eof(), close())
    play.target(close(), tape=[("closed", 0, "exit_status=126")])
    assert play.gate.channels == 0


def test_a_denial_names_its_rule_and_a_hold_says_what_is_missing() -> None:
    play = Playbook().opened()
    play.gate.from_client(exec_of("cat /etc/shadow"))
    assert "secrets stay where they are (rule no-secrets)." in refusal(play)
    play = Playbook().opened()
    play.gate.from_client(exec_of("reboot now"))
    assert "careful" in refusal(play)
    assert "This version cannot ask for an approval yet." in refusal(play)
    assert ("judged", 0, "exec", "hold") in play.taped()


def test_a_denial_waits_for_the_answers_before_it() -> None:
    play = Playbook().opened()
    play.client(pty(), exec_of("rm -r /"), to_target=[pty(TARGET)], tape=[TTY_OF_0, DENIED_EXEC])
    play.client(asking("env"))  # a no that has to wait, too
    play.gate.from_target(success())
    text = refusal(play)
    play.gives(
        to_client=[success(CLIENT), success(CLIENT), *refused(text)],
        to_target=[close(TARGET)],
        tape=[said(text)],
    )


def test_an_answer_that_waits_behind_a_denial_is_not_given_after_the_end() -> None:
    play = Playbook().opened()
    play.after_client(pty(), exec_of("rm -r /"), exec_of("ls /"), shell())
    play.gate.from_target(success())
    last = [wire.parse(payload).__class__ for payload in play.actions.to_client][-2:]
    assert last == [wire.Eof, wire.Close]


def test_a_shell() -> None:
    play = Playbook().opened()
    play.client(pty(), to_target=[pty(TARGET)], tape=[TTY_OF_0])
    play.client(shell(), to_target=[shell(TARGET)], tape=[("judged", 0, "shell", "allow")])
    play.target(success(), success(), to_client=[success(CLIENT)] * 2)
    play.client(data(b"ls\r"), to_target=[data(b"ls\r", TARGET)], tape=[("input", 0, b"ls\r")])


def test_a_shell_that_the_policy_does_not_allow() -> None:
    play = Playbook(policy=NOTHING).opened()
    play.gate.from_client(shell())
    assert "shell" in refusal(play)
    assert play.actions.to_target == [close(TARGET)]


def test_subsystems_go_by_their_names() -> None:
    play = Playbook().opened()
    play.client(
        subsystem("netconf"),
        to_target=[subsystem("netconf", TARGET)],
        tape=[("judged", 0, "subsystem", "allow")],
    )
    play = Playbook().opened()
    play.gate.from_client(subsystem("powershell"))
    assert "powershell" in refusal(play)


def test_the_tape_has_an_scp_as_files() -> None:
    play = Playbook().opened()
    command = "scp -f /srv/x"
    play.client(exec_of(command), to_target=[exec_of(command, TARGET)], tape=[ALLOWED_EXEC])
    play.target(success(), to_client=[success(CLIENT)], tape=[("counted", 0)])
    play.client(data(b"\0"), to_target=[data(b"\0", TARGET)], tape=[("input", 0, b"\0")])
    head = b"C0644 2 x\n"
    play.target(data(head), to_client=[data(head, CLIENT)], tape=[("output", 0, 1, head)])
    play.client(data(b"\0"), to_target=[data(b"\0", TARGET)], tape=[("input", 0, b"\0")])
    play.target(data(b"hi\0"), to_client=[data(b"hi\0", CLIENT)], tape=[("output", 0, 1, b"hi\0")])
    play.client(
        data(b"\0"),
        to_target=[data(b"\0", TARGET)],
        tape=[("input", 0, b"\0"), ("file", 0, "x", "read", 2)],
    )


def test_an_scp_that_is_cut_off_is_on_the_tape() -> None:
    play = Playbook().running("scp -t /srv")
    play.target(data(b"\0"), to_client=[data(b"\0", CLIENT)], tape=[("output", 0, 1, b"\0")])
    head = b"C0644 9 x\n"
    play.client(data(head), to_target=[data(head, TARGET)], tape=[("input", 0, head)])
    play.target(data(b"\0"), to_client=[data(b"\0", CLIENT)], tape=[("output", 0, 1, b"\0")])
    play.after_client(data(b"half"), close())
    play.target(close(), to_client=[close(CLIENT)], tape=[("file", 0, "x", "write", 4), ("closed", 0)])


def test_an_scp_that_cannot_be_followed_is_said_on_the_tape() -> None:
    play = Playbook().running("scp -t /srv")
    play.target(data(b"\0"), to_client=[data(b"\0", CLIENT)], tape=[("output", 0, 1, b"\0")])
    odd = b"T1 -0 1 0\n"
    why = "a line is not one of the scp protocol"
    play.client(
        data(odd),
        to_target=[data(odd, TARGET)],
        tape=[("event", "scp not followed", 0, why), ("kept", 0), ("input", 0, odd)],
    )
    play.client(data(b"more"), to_target=[data(b"more", TARGET)], tape=[("input", 0, b"more")])


@pytest.mark.parametrize(
    ("command", "shown", "why"),
    [
        ("scp -f /srv/x", b"uid=0\n", "it begins without being asked"),
        ("scp -t /srv/x", b"uid=0\n", "an answer is not one of the scp protocol"),
    ],
)
def test_what_only_has_the_name_of_scp_is_kept(command: str, shown: bytes, why: str) -> None:
    play = Playbook().running(command)
    play.target(
        data(shown),
        to_client=[data(shown, CLIENT)],
        tape=[("event", "scp not followed", 0, why), ("kept", 0), ("output", 0, 1, shown)],
    )
    play.target(data(b"more"), to_client=[data(b"more", CLIENT)], tape=[("output", 0, 1, b"more")])


def test_what_an_scp_says_in_words_is_on_the_tape() -> None:
    play = Playbook().running("scp -f /srv/x")
    play.after_client(data(b"\0"))
    error = b"\1scp: /srv/x: No such file or directory\n"
    play.target(
        data(error),
        to_client=[data(error, CLIENT)],
        tape=[
            ("event", "scp said", 0, "scp: /srv/x: No such file or directory"),
            ("output", 0, 1, error),
        ],
    )


def test_a_channel_starts_once() -> None:
    play = Playbook().opened()
    play.after_client(exec_of("ls /srv"))
    # The no has to wait for the answer to the first.
    play.client(exec_of("ls /"), shell(), subsystem("netconf"))
    play.target(success(), to_client=[success(CLIENT), *[failure(CLIENT)] * 3])
    play.client(exec_of("rm -r /", reply=False))


def test_what_the_target_does_not_have_may_be_tried_otherwise() -> None:
    play = Playbook().opened()
    play.after_client(subsystem("netconf"))
    play.target(failure(), to_client=[failure(CLIENT)])
    play.client(exec_of("ls /srv"), to_target=[exec_of("ls /srv", TARGET)], tape=[ALLOWED_EXEC])
    play.target(success(), to_client=[success(CLIENT)])
    play.target(data(b"x"), to_client=[data(b"x", CLIENT)], tape=[("output", 0, 1, b"x")])


def test_data_of_a_start_that_failed_is_for_the_next_and_judged_as_that() -> None:
    """Packets of sftp that came as a command's data must not lie at the target when it starts its sftp server."""
    play = Playbook().opened()
    packet = b"\0\0\0\5\1\0\0\0\3" + b"\0\0\0\x0d\x0d\0\0\0\1\0\0\0\4/etc"
    play.after_client(subsystem("netconf"))
    play.client(data(packet))
    play.target(failure(), to_client=[failure(CLIENT)])
    play.client(
        subsystem("sftp"),
        to_target=[subsystem("sftp", TARGET)],
        tape=[("judged", 0, "subsystem", "allow")],
    )
    play.target(success(), to_client=[success(CLIENT)], to_target=[data(packet[:9], TARGET)])


def test_after_an_sftp_that_failed_a_command_is_no_sftp() -> None:
    play = Playbook().opened()
    play.after_client(subsystem("sftp"))
    play.after_target(failure()).after_client(exec_of("ls /srv")).after_target(success())
    play.target(data(b"\0\0\0"), to_client=[data(b"\0\0\0", CLIENT)], tape=[("output", 0, 1, b"\0\0\0")])


def test_a_forced_command_stands_in_for_whatever_was_asked() -> None:
    for asked in (shell(), exec_of("rm -r /"), subsystem("sftp")):
        play = Playbook(permits=Permits(forced_command="internal-tool")).opened()
        play.client(asked, to_target=[exec_of("internal-tool", TARGET)], tape=[ALLOWED_EXEC])


def test_forced_sftp_is_the_subsystem_whatever_was_asked() -> None:
    """sshd knows this name itself; on the target it is no command that a shell would find."""
    for asked in (shell(), exec_of("rm -r /"), subsystem("sftp"), subsystem("netconf")):
        play = Playbook(permits=Permits(forced_command="internal-sftp")).opened()
        play.client(
            asked,
            to_target=[subsystem("sftp", TARGET)],
            tape=[("judged", 0, "subsystem", "allow")],
        )
        play.after_target(success())
        play.gate.from_client(data(b"\0\0\0\5\1\0\0\0\3"))
        assert play.gate._state.channels[0].sftp is not None
    play = Playbook(policy=NOTHING, permits=Permits(forced_command="internal-sftp")).opened()
    play.gate.from_client(shell())
    assert "sftp" in refusal(play)


def test_a_forced_command_is_judged_too() -> None:
    play = Playbook(permits=Permits(forced_command="rm -r /")).opened()
    play.gate.from_client(shell())
    assert NO_RULE in refusal(play)
    assert play.actions.to_target == [close(TARGET)]


def test_a_policy_swapped_in_the_midst_is_felt_at_the_next_command() -> None:
    play = Playbook().opened()
    play.document = document(NOTHING)
    play.gate.from_client(exec_of("ls /srv"))
    assert "no rule allows" in refusal(play)
    assert play.actions.to_target == [close(TARGET)]


def test_operations_are_limited() -> None:
    play = Playbook(limits=SessionLimits(statements=1)).running()
    play.after_client(wire.channel_open("session", 11, 65536, 32768)).after_target(
        wire.open_confirmation(1, 41, 65536, 32768)
    )
    play.gate.from_client(exec_of("ls /", 1))
    assert "this session has used its 1 operations" in refusal(play)
    assert (play.judge.counts.allowed, play.judge.counts.denied) == (1, 1)


# --- data that comes early ---


def test_data_before_the_start_is_kept_for_it() -> None:
    play = Playbook().opened()
    play.client(data(b"one "))
    play.client(exec_of("cat /srv/x"), to_target=[exec_of("cat /srv/x", TARGET)], tape=[ALLOWED_EXEC])
    play.client(data(b"two"))
    play.target(
        success(),
        to_client=[success(CLIENT)],
        to_target=[data(b"one two", TARGET)],
        tape=[("input", 0, b"one two")],
    )


def test_an_end_of_data_before_the_start_follows_it() -> None:
    play = Playbook().opened()
    play.client(data(b"all"), eof())
    play.client(exec_of("cat /srv/x"), to_target=[exec_of("cat /srv/x", TARGET)], tape=[ALLOWED_EXEC])
    play.target(
        success(),
        to_client=[success(CLIENT)],
        to_target=[data(b"all", TARGET), eof(TARGET)],
        tape=[("input", 0, b"all")],
    )


def test_a_client_that_says_everything_and_goes() -> None:
    play = Playbook().opened()
    play.client(exec_of("cat /srv/x"), to_target=[exec_of("cat /srv/x", TARGET)], tape=[ALLOWED_EXEC])
    play.client(data(b"all"), eof(), close())
    play.target(
        success(),
        to_client=[success(CLIENT)],
        to_target=[data(b"all", TARGET), eof(TARGET), close(TARGET)],
        tape=[("input", 0, b"all")],
    )
    play.target(exit_status(0), to_client=[exit_status(0, CLIENT)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0, "exit_status=0")])


def test_a_client_that_goes_while_its_command_is_not_to_be_had() -> None:
    play = Playbook().opened()
    play.after_client(exec_of("cat /srv/x"), data(b"all"), eof(), close())
    play.target(failure(), to_client=[failure(CLIENT)], to_target=[close(TARGET)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])


def test_early_data_of_a_refused_command_is_dropped() -> None:
    play = Playbook().opened()
    play.after_client(data(b"all"), eof(), exec_of("rm -r /"), close())
    play.target(close(), tape=[("closed", 0, "exit_status=126")])


def test_early_data_is_bounded_by_the_window() -> None:
    play = Playbook().opened()
    piece = data(b"x" * 65536)
    for _ in range(32):
        play.client(piece)
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        play.client(data(b"x"))


def test_data_and_end_of_a_target_before_anything_runs() -> None:
    play = Playbook().opened()
    play.target(data(b"motd"), to_client=[data(b"motd", CLIENT)], tape=[("output", 0, 1, b"motd")])
    play.target(eof(), to_client=[eof(CLIENT)])


# --- terminal and variables ---


def test_a_second_terminal_is_refused() -> None:
    play = Playbook().opened()
    play.after_client(pty()).after_target(success())
    play.client(pty(), to_client=[failure(CLIENT)])
    play = Playbook().running()
    play.client(pty(), to_client=[failure(CLIENT)])


def test_a_credential_without_terminal() -> None:
    play = Playbook(permits=Permits(pty=False)).opened()
    play.client(pty(), to_client=[failure(CLIENT)])
    play.client(shell(), to_target=[shell(TARGET)], tape=[("judged", 0, "shell", "allow")])


def test_a_terminal_that_the_target_refuses() -> None:
    play = Playbook().opened()
    play.after_client(pty())
    play.target(failure(), to_client=[failure(CLIENT)])


def env(name: bytes, value: bytes = b"x", recipient: int = 0) -> bytes:
    return asking("env", EnvRequest(name, value).encode(), recipient)


@pytest.mark.parametrize("name", [b"LANG", b"LC_ALL", b"LC_"])
def test_variables_on_the_list_are_passed_on(name: bytes) -> None:
    play = Playbook().opened()
    play.client(env(name), to_target=[env(name, recipient=TARGET)])
    play.target(success(), to_client=[success(CLIENT)])


@pytest.mark.parametrize(
    "name", [b"PATH", b"LD_PRELOAD", b"lang", b"LANG\0", b"XLC_A", b"", b"LANG=", b"LC_\xff", b"BASH_ENV"]
)
def test_other_variables_are_refused(name: bytes) -> None:
    play = Playbook().opened()
    play.client(env(name), to_client=[failure(CLIENT)])


@pytest.mark.parametrize("name", [b"LC_A=B", b"LC_\0", b"LC_A B", b"LC_\n"])
def test_a_wide_pattern_does_not_let_odd_names_through(name: bytes) -> None:
    play = Playbook().opened()
    play.client(env(name), to_client=[failure(CLIENT)])


def test_variables_are_counted_and_come_before_the_start() -> None:
    play = Playbook(settings=GateSettings((Glob("*"),))).opened()
    for number in range(MAX_ENVIRONMENT):
        play.after_client(env(b"V%d" % number)).after_target(success())
    play.client(env(b"MORE"), to_client=[failure(CLIENT)])
    play = Playbook().running()
    play.client(env(b"LANG"), to_client=[failure(CLIENT)])


def test_a_resize_is_on_the_tape_and_passed_on() -> None:
    play = Playbook().opened()
    play.after_client(pty(), shell()).after_target(success(), success())
    play.client(resize(132, 50), to_target=[resize(132, 50, TARGET)], tape=[("resized", 0, 132, 50)])


def test_a_resize_of_no_terminal_is_dropped() -> None:
    Playbook().running().client(resize(132, 50))


# --- signals and the like ---


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("signal", SignalRequest("INT").encode()),
        ("break", BreakRequest(500).encode()),
        ("eow@openssh.com", b""),
    ],
)
def test_signals_are_passed_on(name: str, body: bytes) -> None:
    play = Playbook().running()
    play.client(asking(name, body, reply=False), to_target=[asking(name, body, TARGET, reply=False)])
    play.client(asking(name, body), to_target=[asking(name, body, TARGET)])
    play.target(failure(), to_client=[failure(CLIENT)])


def test_what_the_target_tells_is_passed_on() -> None:
    play = Playbook().running()
    signal = ExitSignal("TERM", True, "Terminated", "en").encode()
    for name, body in (
        ("exit-signal", signal),
        ("xon-xoff", XonXoff(True).encode()),
        ("eow@openssh.com", b""),
    ):
        play.target(asking(name, body, reply=False), to_client=[asking(name, body, CLIENT, reply=False)])
    play.after_target(close())
    play.client(close(), tape=[("closed", 0, "exit_signal=TERM")])


def test_a_target_that_wants_an_answer_to_a_status_gets_one() -> None:
    play = Playbook().running()
    asked = asking("exit-status", b"\0\0\0\1")
    play.target(asked, to_client=[exit_status(1, CLIENT)], to_target=[success(TARGET)])


@pytest.mark.parametrize("name", ["shell", "exec", "env", "pty-req", "unheard-of@example.com"])
def test_what_a_target_asks_and_has_no_business_to(name: str) -> None:
    play = Playbook().running()
    play.target(asking(name), to_target=[failure(TARGET)])
    play.target(asking(name, reply=False))


@pytest.mark.parametrize("name", ["exit-status", "exit-signal", "eow@openssh.com", "xon-xoff"])
def test_a_target_that_tells_nonsense_breaks_the_protocol(name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Playbook().running().target(asking(name, b"\0\0\0\0\0\0\0"))


# --- refusals of form ---

NONSENSE = [
    ("pty-req", PTY + b"x"),
    ("pty-req", b""),
    ("env", b"\xff\xff\xff\xff"),
    ("exec", b""),
    ("exec", ExecRequest(b"ls").encode() + b"\0"),
    ("shell", b"x"),
    ("subsystem", b"\0\0\0\0"),
    ("window-change", b"\0"),
    ("signal", b"\0\0\0\1\xff"),
    ("break", b""),
    ("eow@openssh.com", b"x"),
    ("auth-agent-req@openssh.com", b"x"),
    ("x11-req", b"x"),
    ("unheard-of@example.com", b"anything"),
]


@pytest.mark.parametrize(("name", "body"), NONSENSE)
def test_requests_that_cannot_be_read_are_refused_and_nothing_else_happens(name: str, body: bytes) -> None:
    play = Playbook().opened()
    play.client(asking(name, body), to_client=[failure(CLIENT)])
    play.client(asking(name, body, reply=False))
    # The channel is as good as new.
    play.client(exec_of("ls /srv"), to_target=[exec_of("ls /srv", TARGET)], tape=[ALLOWED_EXEC])


def test_a_command_that_is_too_long() -> None:
    play = Playbook().opened()
    play.client(exec_of(b"x" * (256 * 1024 + 1)), to_client=[failure(CLIENT)])


def test_a_flood_of_requests_that_wait_for_answers_ends() -> None:
    play = Playbook().opened()
    for _ in range(MAX_REPLIES_OWED):
        play.gate.from_client(env(b"LANG"))
    with pytest.raises(RemoteProtocolError, match="too many requests"):
        play.gate.from_client(env(b"LANG"))


def test_a_flood_of_requests_behind_data_that_waits_ends() -> None:
    play = Playbook().running("cat /srv/x", window=0)
    play.after_client(data(b"x"))
    signal = asking("signal", SignalRequest("USR1").encode(), reply=False)
    for _ in range(MAX_QUEUED_MESSAGES):
        play.client(signal)
    with pytest.raises(RemoteProtocolError, match="too many requests"):
        play.client(signal)


def test_a_flood_of_statuses_behind_data_that_waits_ends() -> None:
    play = Playbook().running(client_window=0)
    play.after_target(data(b"x"))
    for status in range(MAX_QUEUED_MESSAGES):
        play.target(exit_status(status))
    with pytest.raises(RemoteProtocolError, match="too many requests"):
        play.target(exit_status(0))


# --- agent and display ---

COOKIE = X11Request(False, "MIT-MAGIC-COOKIE-1", "00" * 16, 0).encode()


WAYS = {
    "agent": ("forwarding of the key agent", "agent forwarding"),
    "x11": ("forwarding of the display (X11)", "X11 forwarding"),
}


@pytest.mark.parametrize(
    ("name", "body", "operation"),
    [("auth-agent-req@openssh.com", b"", "agent"), ("x11-req", COOKIE, "x11")],
)
def test_agent_and_display_are_open_where_the_policy_says_so(name: str, body: bytes, operation: str) -> None:
    play = Playbook().opened()
    play.client(
        asking(name, body),
        to_target=[asking(name, body, TARGET)],
        tape=[("judged", 0, operation, "allow")],
    )
    play.target(success(), to_client=[success(CLIENT)])
    what, certified = WAYS[operation]
    denied = f"proxyd: no rule allows {what}. Ask the owners of the policy for a rule that allows it."
    not_permitted = f"proxyd: your certificate does not permit {certified}. Ask for one that does."
    for play, text in (
        (Playbook(policy=WITHOUT_WAYS).opened(), denied),
        (Playbook(permits=Permits(agent=False, x11=False)).opened(), not_permitted),
    ):
        play.client(
            asking(name, body),
            to_client=[stderr(f"{text}\r\n".encode(), CLIENT), failure(CLIENT)],
            tape=[("judged", 0, operation, "deny"), said(text)],
        )


def test_requests_on_channels_that_are_no_sessions_are_refused() -> None:
    play = Playbook()
    body = b"\0\0\0\x0bdb.internal\0\0\x15\x38\0\0\0\0\0\0\0\0"
    play.after_client(wire.channel_open("direct-tcpip", CLIENT, 65536, 32768, body))
    play.after_target(wire.open_confirmation(0, TARGET, 65536, 32768))
    for request in (exec_of("ls /srv"), shell(), pty(), env(b"LANG"), subsystem("sftp")):
        play.client(request, to_client=[failure(CLIENT)])


def test_the_policy_of_the_playbook_is_what_it_seems() -> None:
    assert document(POLICY).version != document(NOTHING).version

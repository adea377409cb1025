"""Sessions without a target: the menu, what is refused there, and jumps."""

from __future__ import annotations

import pytest

from policy.patterns import Glob
from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.opens import DirectStreamlocal, DirectTcpip
from protocols.ssh.requests import EnvRequest, PtyRequest, X11Request
from proxyd.gates.ssh.actions import Choice, Dial
from proxyd.gates.ssh.judge import Permits, SshJudge
from proxyd.gates.ssh.lobby import MAX_STORED, Lobby, Refusal
from proxyd.gates.ssh.menu import MAX_LINE_CHARACTERS, MAX_PLACES_SHOWN, MAX_WRONG_LINES, Menu
from proxyd.gates.ssh.state import GateSettings
from tests.proxyd.gates.ssh.playbook import (
    CLIENT,
    NOTHING,
    POLICY,
    PTY,
    SUBJECT,
    TARGET,
    TTY_OF_0,
    WEB1,
    WITHOUT_WAYS,
    Playbook,
    adjust,
    asking,
    close,
    confirmation_of,
    confirmed,
    data,
    document,
    eof,
    exec_of,
    exit_status,
    failure,
    open_of,
    opening,
    pty,
    refused,
    resize,
    said,
    shell,
    subsystem,
    success,
)

PLACES = [Choice("web1", "deploy"), Choice("web2", "root")]
MENU = "proxyd: which target?\r\n   1  deploy+web1\r\n   2  root+web2\r\n"
PROMPT = "Its number, or LOGIN+TARGET (q to leave): "
TEXT = (MENU + PROMPT).encode()


def at_the_door(**options: object) -> Playbook:
    """A client that has opened a session's channel and was greeted by nobody yet."""
    play = Playbook(lobby=Lobby(PLACES, **options))  # type: ignore[arg-type]
    play.client(opening(), to_client=[confirmation_of()])
    return play


def at_the_menu(*, terminal: bool = True) -> Playbook:
    play = at_the_door()
    if terminal:
        play.client(pty(), to_client=[success(CLIENT)])
    play.client(shell(), to_client=[success(CLIENT), data(TEXT, CLIENT)])
    return play


def typed(play: Playbook, keys: bytes, *shown: bytes) -> None:
    play.client(data(keys), to_client=[data(piece, CLIENT) for piece in shown])


def end(status: int = 0) -> list[bytes]:
    return [exit_status(status, CLIENT), eof(CLIENT), close(CLIENT)]


# --- choosing ---


@pytest.mark.parametrize(
    ("line", "choice"),
    [
        (b"1", PLACES[0]),
        (b"2", PLACES[1]),
        (b"02", PLACES[1]),
        (b" 2 ", PLACES[1]),
        (b"root+web2", PLACES[1]),
        (b"deploy+web1", PLACES[0]),
    ],
)
@pytest.mark.parametrize("newline", [b"\r", b"\n", b"\r\n"])
def test_a_choice_by_number_or_name(line: bytes, choice: Choice, newline: bytes) -> None:
    play = at_the_menu(terminal=False)
    play.client(data(line + newline))
    assert play.actions.choice == choice


@pytest.mark.parametrize(
    "line", ["0", "3", "-1", "99999", "100000", "web1", "root+web1", "²", "1 2", "deploy"]
)
def test_what_is_not_on_the_menu_is_said_so_and_asked_again(line: str) -> None:
    play = at_the_menu(terminal=False)
    shown = line if line.isascii() else ""
    answer = f"There is no {shown!r} here.\r\n" if shown else ""
    typed(play, f"{line}\r".encode(), f"{answer}{PROMPT}".encode())
    assert play.actions.choice is None


def test_keys_are_echoed_on_a_terminal_and_corrected() -> None:
    play = at_the_menu()
    typed(play, b"3", b"3")
    typed(play, b"\x7f", b"\b \b")
    typed(play, b"\x08")  # nothing left to erase
    typed(play, b"\x1b\x00\xff\x15")  # what is not a character of a name is not taken
    typed(play, b"2", b"2")
    typed(play, b"\r", b"\r\n")
    assert play.actions.choice == PLACES[1]


def test_a_line_has_an_end() -> None:
    play = at_the_menu(terminal=False)
    play.client(data(b"x" * 5000))
    shown = "x" * MAX_LINE_CHARACTERS
    typed(play, b"\r", f"There is no {shown!r} here.\r\n{PROMPT}".encode())


def test_guessing_has_an_end() -> None:
    play = at_the_menu(terminal=False)
    for _ in range(MAX_WRONG_LINES):
        typed(play, b"\r", PROMPT.encode())
    play.client(data(b"\r1\r"), to_client=[data(b"These are too many wrong answers.\r\n", CLIENT), *end()])


def test_a_packet_full_of_keys_is_answered_at_once() -> None:
    play = at_the_menu()
    play.gate.from_client(data(b"x\x7f" * 8_000))
    (answer,) = map(wire.parse, play.actions.to_client)
    assert answer == wire.Data(CLIENT, b"x\b \b" * 8_000)


@pytest.mark.parametrize("keys", [b"\x03", b"\x04", b"q\r", b"quit\n", b"EXIT\r"])
def test_leaving(keys: bytes) -> None:
    play = at_the_menu(terminal=False)
    play.client(data(keys), to_client=end())
    play.client(data(b"1\r"), eof())
    play.client(close(), tape=[("closed", 0, "exit_status=0")])
    assert play.gate.channels == 0
    assert play.actions.choice is None


def test_an_end_of_input_leaves_too() -> None:
    play = at_the_menu()
    play.client(eof(), to_client=end())


def test_input_from_a_pipe_that_came_before_the_shell() -> None:
    play = at_the_door()
    play.client(data(b"2\nuptime\n"), eof())
    play.client(shell(), to_client=[success(CLIENT), data(TEXT, CLIENT)])
    assert play.actions.choice == PLACES[1]
    play = at_the_door()
    play.client(data(b"nobody\n"), eof())
    play.client(
        shell(),
        to_client=[
            success(CLIENT),
            data(TEXT, CLIENT),
            data(f"There is no 'nobody' here.\r\n{PROMPT}".encode(), CLIENT),
            *end(),
        ],
    )


def test_a_long_menu_is_cut_and_says_so() -> None:
    places = [Choice(f"t{number}", "deploy") for number in range(MAX_PLACES_SHOWN + 3)]
    play = Playbook(lobby=Lobby(places)).after_client(opening())
    play.gate.from_client(shell())
    (_, shown, _) = map(wire.parse, [*play.actions.to_client, b"\x52"])
    assert isinstance(shown, wire.Data)
    assert b" 200  deploy+t199\r\n      and 3 more\r\n" in shown.data
    play.forget()
    play.after_client(data(b"201\r"))
    assert play.actions.choice is None
    play.client(data(b"deploy+t202\r"))
    assert play.actions.choice == places[202]


def test_names_cannot_speak_to_the_terminal() -> None:
    play = Playbook(lobby=Lobby([Choice("we\x1b[31mb", "de\rploy")])).after_client(opening())
    play.gate.from_client(shell())
    assert b"de?ploy+we?[31mb" in b"".join(play.actions.to_client)


def test_a_client_that_does_not_read_cannot_fill_the_memory() -> None:
    play = Playbook(lobby=Lobby(PLACES)).after_client(opening(window=0), pty(), shell())
    piece = data(b"x\x7f" * 32768)
    for _ in range(32):
        play.gate.from_client(piece)
        play.gate.actions.to_client.clear()
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        play.client(data(b"x"))
    assert play.gate._state.channels[0].client.queued_bytes < 1024 * 1024 + 4 * 65536
    # It goes on when the client reads.
    play.gate.from_client(adjust(4 * 1024 * 1024))
    assert play.actions.to_client[-1] == adjust(2 * 1024 * 1024, CLIENT)


def test_a_menu_by_itself() -> None:
    menu = Menu(PLACES, is_echoing=True)
    assert menu.greeting() == TEXT
    assert menu.typed(b"") == menu.typed(b"\x00") == menu.typed(b"\x7f")


# --- after the choice ---


def test_the_choice_is_opened_with_what_was_asked_of_the_menu() -> None:
    play = at_the_menu()
    typed(play, b"1\r", b"1\r\n")
    play.act(
        lambda gate: gate.enter(play.settings, play.judge, is_openssh_target=True),
        to_target=[open_of()],
        tape=[("opened", 0, "session")],
    )
    play.target(
        confirmed(),
        to_target=[pty(TARGET, reply=False), shell(TARGET)],
        tape=[TTY_OF_0, ("judged", 0, "shell", "allow")],
    )
    # The client was answered by the menu; what the target answers is not shown.
    play.target(success(), data(b"$ "), to_client=[data(b"$ ", CLIENT)], tape=[("output", 0, 1, b"$ ")])
    play.client(data(b"id\r"), to_target=[data(b"id\r", TARGET)], tape=[("input", 0, b"id\r")])
    play.after_target(exit_status(4), close())
    play.client(close(), tape=[("closed", 0, "exit_status=4")])


COOKIE = X11Request(False, "MIT-MAGIC-COOKIE-1", "00", 0).encode()


def test_agent_and_display_are_asked_for_where_the_choice_leads() -> None:
    play = at_the_door()
    asked = [asking("auth-agent-req@openssh.com"), asking("x11-req", COOKIE)]
    play.client(*asked, to_client=[success(CLIENT)] * 2)
    play.client(shell(), to_client=[success(CLIENT), data(TEXT, CLIENT)])
    play.after_client(data(b"1\n"))
    play.gate.enter(play.settings, play.judge, is_openssh_target=True)
    play.forget()
    play.target(
        confirmed(),
        to_target=[
            asking("auth-agent-req@openssh.com", recipient=TARGET, reply=False),
            asking("x11-req", COOKIE, recipient=TARGET, reply=False),
            shell(TARGET),
        ],
        tape=[("judged", 0, operation, "allow") for operation in ("agent", "x11", "shell")],
    )


def test_agent_and_display_are_judged_where_the_choice_leads() -> None:
    play = Playbook(policy=WITHOUT_WAYS, lobby=Lobby(PLACES))
    play.after_client(opening(), asking("auth-agent-req@openssh.com"), shell(), data(b"1\n"))
    play.gate.enter(play.settings, play.judge, is_openssh_target=True)
    play.forget()
    play.gate.from_target(confirmed())
    assert play.actions.to_target == [shell(TARGET)]
    assert b"no rule allows forwarding of the key agent" in b"".join(play.actions.to_client)


def test_what_was_typed_ahead_is_for_the_shell() -> None:
    play = Playbook(lobby=Lobby(PLACES)).chosen(data(b"uptime\r"), eof())
    play.target(
        confirmed(),
        to_target=[pty(TARGET, reply=False), shell(TARGET)],
        tape=[TTY_OF_0, ("judged", 0, "shell", "allow")],
    )
    play.target(
        success(), to_target=[data(b"uptime\r", TARGET), eof(TARGET)], tape=[("input", 0, b"uptime\r")]
    )


def test_what_stood_behind_the_choice_in_one_packet_too() -> None:
    play = at_the_menu(terminal=False)
    play.client(data(b"1\r\nuptime\r\n"))
    play.gate.enter(play.settings, play.judge, is_openssh_target=True)
    play.forget()
    play.target(confirmed(), to_target=[shell(TARGET)], tape=[("judged", 0, "shell", "allow")])
    play.target(success(), to_target=[data(b"uptime\r\n", TARGET)], tape=[("input", 0, b"uptime\r\n")])


def test_a_resize_before_the_choice_is_the_size_of_the_terminal() -> None:
    play = at_the_menu()
    play.client(resize(132, 50))
    typed(play, b"1\r", b"1\r\n")
    play.gate.enter(play.settings, play.judge, is_openssh_target=True)
    play.client(resize(140, 60), to_target=[open_of()], tape=[("opened", 0, "session")])
    terminal = PtyRequest("xterm", 140, 60).encode()
    play.target(
        confirmed(),
        to_target=[asking("pty-req", terminal, TARGET, reply=False), shell(TARGET)],
        tape=[("terminal", 0, "xterm", 140, 60), ("judged", 0, "shell", "allow")],
    )


def env(name: str) -> bytes:
    return asking("env", EnvRequest(name.encode(), b"x").encode())


def test_variables_are_those_of_the_chosen_target() -> None:
    play = Playbook(lobby=Lobby(PLACES), settings=GateSettings((Glob("LANG"), Glob("LC_*"))))
    play.after_client(opening())
    play.client(env("LANG"), env("LC_ALL"), to_client=[success(CLIENT)] * 2)
    play.client(env("PATH"), to_client=[failure(CLIENT)])
    play.after_client(shell(), data(b"1\r"))
    narrow = GateSettings((Glob("LC_*"),))
    play.gate.enter(narrow, play.judge, is_openssh_target=False)
    play.forget()
    lc_all = asking("env", EnvRequest(b"LC_ALL", b"x").encode(), TARGET, reply=False)
    play.target(confirmed(), to_target=[lc_all, shell(TARGET)], tape=[("judged", 0, "shell", "allow")])


def test_what_is_kept_for_the_target_is_limited() -> None:
    play = at_the_door()
    for _ in range(MAX_STORED):
        play.client(env("LANG"), to_client=[success(CLIENT)])
    play.client(env("LANG"), pty(), to_client=[failure(CLIENT)] * 2)


def test_a_shell_that_the_chosen_target_does_not_allow() -> None:
    play = Playbook(policy=NOTHING, lobby=Lobby(PLACES)).chosen()
    play.gate.from_target(confirmed())
    assert [wire.parse(one).__class__ for one in play.actions.to_client] == [
        wire.ExtendedData,
        wire.ChannelRequest,
        wire.Eof,
        wire.Close,
    ]
    assert play.actions.to_target == [pty(TARGET, reply=False), close(TARGET)]


def test_a_forced_command_takes_the_place_of_the_shell() -> None:
    play = Playbook(permits=Permits(forced_command="internal-tool"), lobby=Lobby(PLACES)).chosen()
    play.target(
        confirmed(),
        to_target=[pty(TARGET, reply=False), exec_of("internal-tool", TARGET)],
        tape=[TTY_OF_0, ("judged", 0, "exec", "allow")],
    )


def test_a_target_that_cannot_be_had() -> None:
    play = at_the_menu()
    typed(play, b"1\r", b"1\r\n")
    text = "proxyd: web1 cannot be reached"
    play.act(
        lambda gate: gate.turn_away(text, 255),
        to_client=refused(text, status=255),
        tape=[said(text)],
    )
    play.client(data(b"late"), eof())
    play.client(close(), tape=[("closed", 0, "exit_status=255")])


def test_a_target_that_refuses_the_channel() -> None:
    play = Playbook(lobby=Lobby(PLACES)).chosen()
    text = "proxyd: the target refused the session: no ?[1msessions"
    play.target(
        wire.open_failure(0, 4, "no \x1b[1msessions", "en"),
        to_client=refused(text, status=255),
        tape=[said(text)],
    )
    play.client(close(), tape=[("closed", 0, "exit_status=255")])
    assert play.gate.channels == 0


def test_a_client_that_leaves_while_its_target_is_opened() -> None:
    play = Playbook(lobby=Lobby(PLACES)).chosen()
    play.client(close())
    play.target(confirmed(), to_target=[close(TARGET)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])
    assert play.gate.channels == 0


def test_a_client_that_leaves_while_its_target_refuses() -> None:
    play = Playbook(lobby=Lobby(PLACES)).chosen()
    play.client(close())
    play.target(
        wire.open_failure(0, 4, "no", ""),
        to_client=[exit_status(255, CLIENT), close(CLIENT)],
        tape=[("closed", 0, "exit_status=255")],
    )
    assert play.gate.channels == 0


def test_a_client_that_leaves_before_its_target_is_connected() -> None:
    play = at_the_menu(terminal=False)
    play.client(data(b"1\r"))
    play.client(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])
    play.act(lambda gate: gate.enter(play.settings, play.judge, is_openssh_target=True))
    play.client(opening(sender=11), to_target=[open_of(1)], tape=[("opened", 1, "session")])


def test_the_target_cannot_speak_before_it_has_opened() -> None:
    play = Playbook(lobby=Lobby(PLACES)).chosen()
    for payload in (data(b"x"), eof(), close(), success()):
        with pytest.raises(RemoteProtocolError, match="not open yet"):
            play.target(payload)


def test_a_second_menu_of_the_same_connection() -> None:
    play = at_the_menu(terminal=False)
    play.after_client(opening(sender=11), shell(1))
    play.client(data(b"1\r"))
    text = b"A target is chosen on this connection already. Connect again.\r\n"
    play.client(
        data(b"2\r", 1),
        to_client=[data(text, 11), exit_status(0, 11), eof(11), close(11)],
    )
    assert play.actions.choice == PLACES[0]


# --- what there is not without a target ---


@pytest.mark.parametrize("asked", [exec_of("ls /srv"), subsystem("sftp"), subsystem("netconf")])
def test_commands_need_a_target(asked: bytes) -> None:
    play = at_the_door()
    text = "proxyd: no target was named. Use LOGIN+TARGET as the user name: deploy+web1, root+web2."
    play.client(asked, to_client=[success(CLIENT), *refused(text)], tape=[said(text)])
    play.client(exec_of("ls"), shell())


@pytest.mark.parametrize("asked", [shell(), exec_of("ls"), subsystem("sftp")])
def test_somebody_who_may_go_nowhere(asked: bytes) -> None:
    play = Playbook(lobby=Lobby([])).after_client(opening())
    text = "proxyd: you may reach no target. Ask the owners of the gateway's policy for access."
    play.client(asked, to_client=[success(CLIENT), *refused(text)], tape=[said(text)])


@pytest.mark.parametrize("asked", [shell(), exec_of("ls"), subsystem("sftp")])
def test_a_refusal_in_place_of_the_menu(asked: bytes) -> None:
    play = Playbook(lobby=Lobby([], refusal=Refusal("proxyd: no access", 255))).after_client(opening())
    play.client(
        asked,
        to_client=[success(CLIENT), *refused("proxyd: no access", status=255)],
        tape=[said("proxyd: no access")],
    )


def test_a_credential_without_terminal_gets_none_at_the_menu() -> None:
    play = at_the_door(may_use_pty=False)
    play.client(pty(), to_client=[failure(CLIENT)])
    play.client(asking("window-change", b"\0" * 16), to_client=[failure(CLIENT)])


def test_a_second_terminal_and_odd_requests() -> None:
    play = at_the_menu()
    for asked in (pty(), shell(), asking("auth-agent-req@openssh.com"), asking("x11-req"), asking("signal")):
        play.client(asked, to_client=[failure(CLIENT)])
    for name, body in (("pty-req", PTY[:-1]), ("env", b""), ("window-change", b"")):
        play.client(asking(name, body), to_client=[failure(CLIENT)])


def test_listeners_and_other_requests_of_the_connection() -> None:
    play = at_the_menu()
    for name in ("tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com"):
        play.client(wire.global_request(name, True, b"\0\0\0\0\0\0\0\0"), to_client=[wire.request_failure()])
    play.client(wire.global_request("keepalive@openssh.com", True), to_client=[wire.request_success()])


def test_a_menu_is_idle_and_a_choice_is_not() -> None:
    play = at_the_menu(terminal=False)
    assert play.gate.is_idle
    play.client(data(b"1\r"))
    assert not play.gate.is_idle


def test_the_farewell_at_the_menu() -> None:
    play = at_the_menu()
    text = "\r\nproxyd: the gateway is shutting down"
    play.act(
        lambda gate: gate.farewell("proxyd: the gateway is shutting down"),
        to_client=[wire.extended_data(CLIENT, 1, f"{text}\r\n".encode())],
        tape=[said(text)],
    )


def test_menus_that_come_and_go_leave_nothing_behind() -> None:
    play = Playbook(lobby=Lobby(PLACES))
    for number in range(1000):
        play.after_client(opening(), shell(number), data(b"x", number), close(number))
    assert play.gate.channels == 0


# --- jumps ---

WEB1_ADDRESS = DirectTcpip("web1.internal", 22).encode()
JUMPS = POLICY.replace('forward: ["db.internal:5432"', 'forward: ["web1.internal:22"')


def jumping(policy: str = JUMPS) -> Playbook:
    known = document(policy)
    judge = SshJudge(SUBJECT, WEB1, "deploy", lambda: known)

    def judge_of(host: str, port: int) -> SshJudge | None:
        return judge if (host, port) == ("web1.internal", 22) else None

    return Playbook(lobby=Lobby(PLACES, judge_of))


def jump_open() -> Playbook:
    play = jumping()
    play.client(
        opening("direct-tcpip", body=WEB1_ADDRESS),
        tape=[("judged", 0, "forward", "allow"), ("opened", 0, "direct-tcpip", "web1")],
        dials=[Dial(0, "web1")],
    )
    play.act(lambda gate: gate.dialled(0), to_client=[confirmation_of()])
    return play


def failed(play: Playbook) -> wire.OpenFailure:
    (answer,) = map(wire.parse, play.actions.to_client)
    assert isinstance(answer, wire.OpenFailure)
    assert play.gate.channels == 0
    assert not play.actions.dials
    play.forget()
    return answer


def test_a_jump_and_its_data() -> None:
    play = jump_open()
    play.client(data(b"SSH-2.0-x"), streams=[(0, b"SSH-2.0-x")], tape=[("input", 0, b"SSH-2.0-x")])
    play.act(
        lambda gate: gate.from_stream(0, b"SSH-2.0-y"),
        to_client=[data(b"SSH-2.0-y", CLIENT)],
        tape=[("output", 0, 1, b"SSH-2.0-y")],
    )


def test_the_halves_of_a_jump_end_one_by_one() -> None:
    play = jump_open()
    play.act(lambda gate: gate.from_stream(0, b""), to_client=[eof(CLIENT)])
    play.client(data(b"bye"), streams=[(0, b"bye")], tape=[("input", 0, b"bye")])
    play.client(eof(), streams=[(0, b"")])
    play.act(lambda gate: gate.stream_over(0), to_client=[close(CLIENT)])
    play.client(close(), hang_ups=[0], tape=[("closed", 0)])
    assert play.gate.channels == 0


def test_a_client_that_hangs_up() -> None:
    play = jump_open()
    play.client(close(), to_client=[close(CLIENT)], hang_ups=[0], tape=[("closed", 0)])
    play.act(lambda gate: gate.from_stream(0, b"late"))
    play.act(lambda gate: gate.stream_taken(0))
    play.act(lambda gate: gate.stream_over(0))


def test_a_jumps_windows() -> None:
    play = jump_open()
    for _ in range(32):
        play.client(data(b"x" * 65536), streams=[(0, b"x" * 65536)], tape=[("input", 0, b"x" * 65536)])
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        play.client(data(b"x"))
    play.act(lambda gate: gate.stream_taken(0), to_client=[adjust(2 * 1024 * 1024, CLIENT)])
    big = b"y" * 100_000
    play.gate.from_stream(0, big)
    assert play.gate.waiting_for_client(0) == 100_000 - 65536
    play.forget()
    play.gate.from_client(adjust(100_000))
    assert play.gate.waiting_for_client(0) == 0


def test_an_address_that_is_no_targets() -> None:
    for host, port in (("web1.internal", 23), ("169.254.169.254", 80), ("localhost", 22)):
        play = jumping()
        play.gate.from_client(opening("direct-tcpip", body=DirectTcpip(host, port).encode()))
        answer = failed(play)
        assert (answer.code, answer.text) == (
            1,
            "proxyd: there is no target at that address that you may reach",
        )


def test_a_jump_that_the_policy_denies() -> None:
    play = jumping(POLICY)
    play.gate.from_client(opening("direct-tcpip", body=WEB1_ADDRESS))
    assert play.taped() == [("judged", 0, "forward", "deny")]
    assert failed(play).text.startswith("proxyd: no rule allows")


def test_other_ways_out_without_a_target() -> None:
    play = jumping()
    body = DirectStreamlocal("/run/x").encode()
    play.gate.from_client(opening("direct-streamlocal@openssh.com", body=body))
    assert "only `ssh -J`" in failed(play).text
    play.gate.from_client(opening("direct-tcpip", body=b"\0"))
    assert failed(play).code == 2
    play = Playbook(lobby=Lobby([], refusal=Refusal("proxyd: no access")))
    play.gate.from_client(opening("direct-tcpip", body=WEB1_ADDRESS))
    assert failed(play).text == "proxyd: no access"


def test_a_target_that_does_not_answer_the_dial() -> None:
    play = jumping().after_client(opening("direct-tcpip", body=WEB1_ADDRESS))
    play.act(
        lambda gate: gate.not_dialled(0, "web1 cannot be reached: no answer in time"),
        to_client=[wire.open_failure(CLIENT, 2, "proxyd: web1 cannot be reached: no answer in time", "en")],
        tape=[("closed", 0)],
    )
    play.act(lambda gate: gate.stream_over(0))
    assert play.gate.channels == 0


def test_nothing_is_said_on_a_jump_that_is_not_dialled() -> None:
    for payload in (data(b"x"), eof(), close(), adjust(1), shell()):
        play = jumping().after_client(opening("direct-tcpip", body=WEB1_ADDRESS))
        with pytest.raises(RemoteProtocolError, match="not open yet"):
            play.client(payload)


def test_a_jump_is_not_idle() -> None:
    assert not jump_open().gate.is_idle

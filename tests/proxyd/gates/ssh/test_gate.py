"""The SSH gate's channels: opens and their answers, numbers, ends, messages that are not their turn's."""

from __future__ import annotations

import pytest

from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from proxyd.gates.ssh.state import GateSettings
from proxyd.gates.ssh.windows import MIN_PACKET_BYTES
from tests.proxyd.gates.ssh.playbook import (
    CLIENT,
    PEER_WINDOW,
    TARGET,
    Playbook,
    adjust,
    asking,
    close,
    confirmation_of,
    confirmed,
    data,
    eof,
    exec_of,
    exit_status,
    failure,
    open_of,
    opening,
    resize,
    said,
    shell,
    stderr,
    success,
)

OPENED = ("opened", 0, "session")


# --- opening ---


def test_a_session_is_opened_at_the_target_before_it_is_confirmed() -> None:
    play = Playbook()
    play.client(opening(), to_target=[open_of()], tape=[OPENED])
    play.target(confirmed(), to_client=[confirmation_of()])
    assert play.gate.channels == 1


def test_a_target_that_refuses_a_session_is_quoted() -> None:
    play = Playbook()
    play.client(opening(), to_target=[open_of()], tape=[OPENED])
    play.target(
        wire.open_failure(0, 4, "no more sessions", "en"),
        to_client=[wire.open_failure(CLIENT, 4, "no more sessions", "en")],
        tape=[("closed", 0)],
    )
    assert play.gate.channels == 0
    play.client(opening(sender=11), to_target=[open_of(1)], tape=[("opened", 1, "session")])


def test_windows_and_packets_are_the_gateways_own_on_both_legs() -> None:
    play = Playbook()
    play.client(opening(window=5, max_packet=0xFFFFFFFF), to_target=[open_of()], tape=[OPENED])
    play.target(confirmed(window=0xFFFFFFFF, max_packet=1 << 30), to_client=[confirmation_of()])


def test_a_confirmations_body_is_passed_on() -> None:
    play = Playbook()
    play.client(opening(), to_target=[open_of()], tape=[OPENED])
    play.target(
        wire.open_confirmation(0, TARGET, PEER_WINDOW, 32768, b"more"),
        to_client=[wire.open_confirmation(CLIENT, 0, 2 * 1024 * 1024, 65536, b"more")],
    )


@pytest.mark.parametrize("max_packet", [0, 1, MIN_PACKET_BYTES - 1])
def test_packets_too_small_to_be_worth_encrypting_are_refused(max_packet: int) -> None:
    play = Playbook()
    text = f"proxyd: packets have to be of {MIN_PACKET_BYTES} bytes at least"
    play.client(opening(max_packet=max_packet), to_client=[wire.open_failure(CLIENT, 4, text, "en")])


def test_a_target_that_takes_tiny_packets_breaks_the_protocol() -> None:
    play = Playbook()
    play.client(opening(), to_target=[open_of()], tape=[OPENED])
    with pytest.raises(RemoteProtocolError, match="packets of 1 bytes"):
        play.target(confirmed(max_packet=1))


def test_channels_are_limited() -> None:
    play = Playbook(settings=GateSettings(max_channels=2))
    play.after_client(opening(), opening(sender=11))
    text = "proxyd: 2 channels are open already"
    play.client(opening(sender=12), to_client=[wire.open_failure(12, 4, text, "en")])
    play.after_target(wire.open_failure(1, 2, "", ""))
    play.client(opening(sender=13), to_target=[open_of(2)], tape=[("opened", 2, "session")])


def test_ten_thousand_opens_are_answered_and_keep_nothing() -> None:
    play = Playbook(settings=GateSettings(max_channels=100))
    for sender in range(10_000):
        play.gate.from_client(opening(sender=sender))
    assert play.gate.channels == 100
    assert len(play.actions.to_client) == 9_900
    assert len(play.actions.to_target) == 100


def test_channels_of_an_unknown_kind_are_refused() -> None:
    play = Playbook()
    text = "proxyd: channels of this kind are not passed on"
    for kind in ("tun@openssh.com", "auth-agent@openssh.com", "x11", "forwarded-tcpip"):
        play.client(opening(kind), to_client=[wire.open_failure(CLIENT, 3, text, "en")])


def test_no_more_sessions_is_taken_at_its_word() -> None:
    play = Playbook().running()
    play.client(wire.global_request("no-more-sessions@openssh.com", False))
    text = "proxyd: no more sessions were to be opened"
    play.client(opening(sender=11), to_client=[wire.open_failure(11, 1, text, "en")])
    play.client(wire.global_request("no-more-sessions@openssh.com", True), to_client=[wire.request_success()])


# --- numbers and turns ---


@pytest.mark.parametrize(
    "payload",
    [data(b"x", 7), adjust(1, 7), shell(7), eof(7), close(7), confirmed(7), wire.open_failure(7, 1, "")],
    ids=lambda payload: wire.parse(payload).__class__.__name__,
)
def test_a_channel_that_does_not_exist(payload: bytes) -> None:
    for side in ("client", "target"):
        play = Playbook().running()
        with pytest.raises(RemoteProtocolError, match="there is no channel 7"):
            getattr(play, side)(payload)


@pytest.mark.parametrize(
    "payload",
    [data(b"x"), stderr(b"x"), adjust(1), asking("exit-status"), success(), eof(), close()],
    ids=lambda payload: wire.parse(payload).__class__.__name__,
)
def test_nobody_speaks_of_a_channel_before_it_is_open(payload: bytes) -> None:
    play = Playbook()
    play.client(opening(), to_target=[open_of()], tape=[OPENED])
    with pytest.raises(RemoteProtocolError, match="channel 0 is not open yet"):
        play.target(payload)
    if wire.parse(payload).__class__ not in {wire.ExtendedData, wire.ChannelSuccess}:
        with pytest.raises(RemoteProtocolError, match="channel 0 is not open yet"):
            play.client(payload)


def test_a_confirmation_comes_once_and_from_the_side_that_was_asked() -> None:
    play = Playbook()
    play.client(opening(), to_target=[open_of()], tape=[OPENED])
    for answer in (confirmed(), wire.open_failure(0, 1, "no")):
        with pytest.raises(RemoteProtocolError, match="not asked for"):
            play.client(answer)
    play.target(confirmed(), to_client=[confirmation_of()])
    for answer in (confirmed(), wire.open_failure(0, 1, "no")):
        for side in (play.client, play.target):
            with pytest.raises(RemoteProtocolError, match="not asked for"):
                side(answer)


@pytest.mark.parametrize("answer", [success(), failure()], ids=["success", "failure"])
def test_answers_that_nobody_waits_for(answer: bytes) -> None:
    play = Playbook().running()
    with pytest.raises(RemoteProtocolError, match="not made"):
        play.client(answer)
    with pytest.raises(RemoteProtocolError, match="not made"):
        play.target(answer)


def test_a_client_has_no_stderr() -> None:
    with pytest.raises(RemoteProtocolError, match="no stderr"):
        Playbook().running().client(stderr(b"x"))


@pytest.mark.parametrize("number", [0, 1, 20, 50, 79, 83, 89, 101, 127, 192, 255])
def test_messages_of_other_layers_and_unknown_ones(number: int) -> None:
    for side in ("client", "target"):
        with pytest.raises(RemoteProtocolError, match=f"message number {number} "):
            getattr(Playbook().running(), side)(bytes([number]))


def test_an_empty_payload() -> None:
    with pytest.raises(RemoteProtocolError):
        Playbook().client(b"")


# --- ends ---


def test_the_target_ends_a_channel() -> None:
    play = Playbook().running()
    play.target(data(b"a\n"), to_client=[data(b"a\n", CLIENT)], tape=[("output", 0, 1, b"a\n")])
    play.target(eof(), to_client=[eof(CLIENT)])
    play.target(exit_status(3), to_client=[exit_status(3, CLIENT)])
    play.target(close(), to_client=[close(CLIENT)], to_target=[close(TARGET)])
    assert play.gate.channels == 1
    play.client(close(), tape=[("closed", 0, "exit_status=3")])
    assert play.gate.channels == 0


def test_the_client_ends_a_channel_and_still_hears_the_exit_status() -> None:
    play = Playbook().running()
    play.client(close(), to_target=[close(TARGET)])
    play.target(exit_status(0), to_client=[exit_status(0, CLIENT)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0, "exit_status=0")])
    assert play.gate.channels == 0


def test_what_the_target_says_after_the_clients_close_is_for_nobody() -> None:
    play = Playbook().running()
    play.client(close(), to_target=[close(TARGET)])
    play.target(data(b"late"), stderr(b"late"), eof())
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])


def test_both_close_at_once() -> None:
    play = Playbook().running()
    play.gate.from_client(close())
    play.gate.from_target(close())
    play.gives(to_target=[close(TARGET)], to_client=[close(CLIENT)], tape=[("closed", 0)])
    assert play.gate.channels == 0


def test_a_closed_number_is_free_and_not_used_again() -> None:
    play = Playbook().running()
    play.client(close(), to_target=[close(TARGET)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])
    with pytest.raises(RemoteProtocolError, match="there is no channel 0"):
        play.client(data(b"x"))
    # The client may use its own number again; the gateway has a new one.
    play.client(opening(), to_target=[open_of(1)], tape=[("opened", 1, "session")])


@pytest.mark.parametrize("side", ["client", "target"])
@pytest.mark.parametrize("message", [data(b"x"), eof(), close()], ids=["data", "eof", "close"])
def test_after_its_close_a_side_says_nothing_more(side: str, message: bytes) -> None:
    play = Playbook().running()
    getattr(play.gate, f"from_{side}")(close())
    with pytest.raises(RemoteProtocolError):
        getattr(play.gate, f"from_{side}")(message)


@pytest.mark.parametrize("side", ["client", "target"])
def test_after_its_end_of_data_a_side_sends_none(side: str) -> None:
    play = Playbook().running()
    getattr(play.gate, f"from_{side}")(eof())
    with pytest.raises(RemoteProtocolError):
        getattr(play.gate, f"from_{side}")(data(b"x"))


def test_the_end_of_data_said_twice_is_passed_on_once() -> None:
    """Clients by Go's ssh (rclone) say it again."""
    play = Playbook().running()
    play.client(eof(), to_target=[eof(TARGET)])
    play.client(eof())
    play.target(data(b"x"), to_client=[data(b"x", CLIENT)], tape=[("output", 0, 1, b"x")])
    play.target(eof(), to_client=[eof(CLIENT)])
    play.target(eof())
    play.client(close(), to_target=[close(TARGET)])


def test_a_resize_that_crosses_the_clients_close_is_harmless() -> None:
    play = Playbook().running()
    play.client(close(), to_target=[close(TARGET)])
    play.client(resize(100, 40), asking("keepalive@openssh.com"), adjust(100))


def test_a_request_of_the_target_that_crosses_its_close_is_harmless() -> None:
    play = Playbook().running()
    play.target(close(), to_client=[close(CLIENT)], to_target=[close(TARGET)])
    play.target(exit_status(1), asking("keepalive@openssh.com"), adjust(100))


def test_half_close_of_the_client() -> None:
    play = Playbook().running("cat /srv/x")
    play.client(data(b"last"), to_target=[data(b"last", TARGET)], tape=[("input", 0, b"last")])
    play.client(eof(), to_target=[eof(TARGET)])
    play.target(data(b"more"), to_client=[data(b"more", CLIENT)], tape=[("output", 0, 1, b"more")])


def test_half_close_of_the_target() -> None:
    play = Playbook().running()
    play.target(eof(), to_client=[eof(CLIENT)])
    play.client(data(b"more"), to_target=[data(b"more", TARGET)], tape=[("input", 0, b"more")])


def test_one_channel_ends_without_the_others() -> None:
    play = Playbook().running()
    play.client(opening(sender=11), to_target=[open_of(1)], tape=[("opened", 1, "session")])
    play.target(confirmed(1, 41), to_client=[confirmation_of(1, 11)])
    play.target(close(0), to_client=[close(CLIENT)], to_target=[close(TARGET)])
    play.client(close(0), tape=[("closed", 0)])
    play.client(exec_of("ls /", 1), to_target=[exec_of("ls /", 41)], tape=[("judged", 1, "exec", "allow")])
    play.target(success(1), to_client=[success(11)])


def test_waiting_data_goes_before_the_status_and_the_end() -> None:
    play = Playbook().running(client_window=4)
    play.target(data(b"abcdefgh"), to_client=[data(b"abcd", CLIENT)], tape=[("output", 0, 1, b"abcdefgh")])
    play.target(exit_status(1), eof())
    play.target(close(), to_target=[close(TARGET)])
    play.client(adjust(2), to_client=[data(b"ef", CLIENT)])
    play.client(
        adjust(2), to_client=[data(b"gh", CLIENT), exit_status(1, CLIENT), eof(CLIENT), close(CLIENT)]
    )
    play.client(close(), tape=[("closed", 0, "exit_status=1")])


def test_the_clients_last_data_reaches_a_target_that_is_slow() -> None:
    play = Playbook().running("cat /srv/x", window=4)
    play.client(data(b"abcdefgh"), to_target=[data(b"abcd", TARGET)], tape=[("input", 0, b"abcdefgh")])
    play.client(eof(), close())
    play.target(adjust(100), to_target=[data(b"efgh", TARGET), eof(TARGET), close(TARGET)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])


def test_a_client_that_closes_does_not_have_to_be_served_what_waits() -> None:
    play = Playbook().running(client_window=1)
    play.target(data(b"abc"), to_client=[data(b"a", CLIENT)], tape=[("output", 0, 1, b"abc")])
    play.client(close(), to_target=[close(TARGET)])
    play.target(exit_status(0), to_client=[exit_status(0, CLIENT)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0, "exit_status=0")])


def test_what_waits_for_a_target_that_closes_is_dropped() -> None:
    play = Playbook().running("cat /srv/x", window=1)
    play.client(data(b"abc"), to_target=[data(b"a", TARGET)], tape=[("input", 0, b"abc")])
    play.target(close(), to_target=[close(TARGET)], to_client=[close(CLIENT)])
    play.client(close(), tape=[("closed", 0)])


# --- keepalives, and the end of the session ---


def test_keepalives_of_the_client_are_answered_here() -> None:
    play = Playbook()
    alive = wire.global_request("keepalive@openssh.com", True)
    play.client(alive, alive, to_client=[wire.request_success()] * 2)
    play.client(wire.global_request("keepalive@openssh.com", False))


def test_unknown_requests_of_the_connection_are_refused() -> None:
    play = Playbook()
    for name in ("hostkeys-prove-00@openssh.com", "elevation", "x@y"):
        play.client(wire.global_request(name, True, b"body"), to_client=[wire.request_failure()])
        play.client(wire.global_request(name, False, b"body"))


def test_what_the_target_asks_of_the_connection() -> None:
    play = Playbook()
    play.target(wire.global_request("hostkeys-00@openssh.com", False, b"keys"))
    alive = wire.global_request("keepalive@openssh.com", True)
    play.target(alive, alive, to_target=[wire.request_failure()] * 2)


def test_keepalives_of_the_gateway() -> None:
    play = Playbook()
    alive = wire.global_request("keepalive@openssh.com", True)
    for unanswered in (1, 2):
        assert play.gate.ask_client() == unanswered
        assert play.gate.ask_target() == unanswered
        play.gives(to_client=[alive], to_target=[alive])
    play.client(wire.request_failure(), wire.request_success())
    play.target(wire.request_failure(), wire.request_success())
    for side in (play.client, play.target):
        with pytest.raises(RemoteProtocolError, match="not made"):
            side(wire.request_success())


@pytest.mark.parametrize("name", ["keepalive@openssh.com", "unheard-of"])
def test_a_targets_keepalive_on_a_channel_does_not_wait_for_a_window(name: str) -> None:
    play = Playbook().running("cat /srv/x", window=1)
    play.client(data(b"abc"), to_target=[data(b"a", TARGET)], tape=[("input", 0, b"abc")])
    play.target(asking(name), to_target=[failure(TARGET)])
    play.target(asking(name, reply=False))


def test_the_farewell_is_for_those_who_look() -> None:
    play = Playbook().running()
    play.after_client(opening(sender=11))  # not confirmed yet: the client does not know it
    play.act(
        lambda gate: gate.farewell("proxyd: enough"),
        to_client=[stderr(b"\r\nproxyd: enough\r\n", CLIENT)],
        tape=[said("\r\nproxyd: enough")],
    )


def test_no_farewell_on_a_channel_that_is_closed() -> None:
    play = Playbook().running()
    play.target(close(), to_client=[close(CLIENT)], to_target=[close(TARGET)])
    play.act(lambda gate: gate.farewell("proxyd: enough"))
    play = Playbook().running()
    play.client(close(), to_target=[close(TARGET)])
    play.act(lambda gate: gate.farewell("proxyd: enough"))


def test_channels_that_the_end_cuts_off_are_on_the_tape() -> None:
    play = Playbook().running()
    play.target(exit_status(2), to_client=[exit_status(2, CLIENT)])
    play.after_client(opening(sender=11))
    play.act(
        lambda gate: gate.record_open_channels(),
        tape=[("closed", 0, "exit_status=2", "cut_off=True"), ("closed", 1, "cut_off=True")],
    )
    assert play.gate.channels == 0


def test_idle_is_a_session_without_channels() -> None:
    play = Playbook()
    assert play.gate.is_idle
    play.running()
    assert not play.gate.is_idle
    play.client(close(), to_target=[close(TARGET)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])
    assert play.gate.is_idle

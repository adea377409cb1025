"""Connections and listeners through the SSH gate: each judged, and nothing comes back that was not asked for."""

from __future__ import annotations

import pytest

from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.opens import DirectStreamlocal, DirectTcpip, ForwardedStreamlocal, ForwardedTcpip, X11Open
from protocols.ssh.requests import AllocatedPort, StreamlocalForward, TcpipForward, X11Request
from proxyd.gates.ssh.forwards import MAX_LISTENERS
from proxyd.gates.ssh.judge import Permits
from proxyd.gates.ssh.state import MAX_ANSWERS_OWED, GateSettings
from tests.proxyd.gates.ssh.playbook import (
    CLIENT,
    NOTHING,
    TARGET,
    Playbook,
    asking,
    close,
    confirmation_of,
    confirmed,
    data,
    document,
    eof,
    open_of,
    opening,
)

DATABASE = DirectTcpip("db.internal", 5432).encode()
SOCKET = DirectStreamlocal("/run/app.sock").encode()
YES, NO = wire.request_success(), wire.request_failure()
ALIVE = wire.global_request("keepalive@openssh.com", True)
ANYWHERE = "0.0.0.0"  # noqa: S104 (somebody asks for it)
LISTENING = ("judged", None, "listen", "allow")


def listen(host: str, port: int, *, reply: bool = True, cancel: bool = False) -> bytes:
    name = "cancel-tcpip-forward" if cancel else "tcpip-forward"
    return wire.global_request(name, reply, TcpipForward(host, port).encode())


def listen_unix(path: str, *, reply: bool = True, cancel: bool = False) -> bytes:
    name = "streamlocal-forward@openssh.com"
    return wire.global_request(f"cancel-{name}" if cancel else name, reply, StreamlocalForward(path).encode())


def forwarded(host: str, port: int, sender: int = TARGET) -> bytes:
    return opening("forwarded-tcpip", sender, body=ForwardedTcpip(host, port, "10.0.0.9", 4711).encode())


def not_asked(why: str = "not asked for", recipient: int = TARGET) -> bytes:
    return wire.open_failure(recipient, 1, why, "en")


def listening(host: str = "localhost", port: int = 8080) -> Playbook:
    return Playbook().after_client(listen(host, port)).after_target(YES)


# --- connections that the client asks for ---


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        ("direct-tcpip", DATABASE, "db.internal:5432"),
        ("direct-streamlocal@openssh.com", SOCKET, "unix:/run/app.sock"),
    ],
)
def test_an_allowed_connection(kind: str, body: bytes, shown: str) -> None:
    play = Playbook()
    play.client(
        opening(kind, body=body),
        to_target=[open_of(0, kind, body)],
        tape=[("judged", 0, "forward", "allow"), ("opened", 0, kind, shown)],
    )
    play.target(confirmed(), to_client=[confirmation_of()])
    play.client(data(b"q"), to_target=[data(b"q", TARGET)], tape=[("input", 0, b"q")])
    play.target(data(b"r"), to_client=[data(b"r", CLIENT)], tape=[("output", 0, 1, b"r")])
    # Its halves end one by one, and no status is told.
    play.client(eof(), to_target=[eof(TARGET)])
    play.target(data(b"s"), to_client=[data(b"s", CLIENT)], tape=[("output", 0, 1, b"s")])
    play.target(eof(), close(), to_client=[eof(CLIENT), close(CLIENT)], to_target=[close(TARGET)])
    play.client(close(), tape=[("closed", 0)])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("direct-tcpip", DirectTcpip("db.internal", 5433).encode()),
        ("direct-tcpip", DirectTcpip("169.254.169.254", 80).encode()),
        ("direct-streamlocal@openssh.com", DirectStreamlocal("/run/other.sock").encode()),
    ],
)
def test_a_denied_connection_never_reaches_the_target(kind: str, body: bytes) -> None:
    play = Playbook()
    play.gate.from_client(opening(kind, body=body))
    (answer,) = map(wire.parse, play.actions.to_client)
    assert isinstance(answer, wire.OpenFailure)
    assert (answer.recipient, answer.code) == (CLIENT, 1)
    assert answer.text.startswith("proxyd: no rule allows")
    assert play.actions.to_target == []
    assert play.taped() == [("judged", 0, "forward", "deny")]
    assert play.gate.channels == 0


def test_a_credential_without_forwarding() -> None:
    play = Playbook(permits=Permits(forwarding=False))
    play.gate.from_client(opening("direct-tcpip", body=DATABASE))
    (answer,) = map(wire.parse, play.actions.to_client)
    assert isinstance(answer, wire.OpenFailure)
    assert "your certificate does not permit port forwarding" in answer.text
    play.forget()
    play.client(listen("localhost", 8080), to_client=[NO], tape=[("judged", None, "listen", "deny")])


@pytest.mark.parametrize("body", [b"", DATABASE + b"x", DATABASE[:-1]])
def test_an_open_that_cannot_be_read(body: bytes) -> None:
    play = Playbook()
    play.gate.from_client(opening("direct-tcpip", body=body))
    (answer,) = map(wire.parse, play.actions.to_client)
    assert isinstance(answer, wire.OpenFailure)
    assert (answer.code, play.gate.channels, play.actions.to_target) == (2, 0, [])


def test_a_connection_that_the_target_cannot_make() -> None:
    play = Playbook().after_client(opening("direct-tcpip", body=DATABASE))
    failed = wire.open_failure(0, 2, "Connection refused", "en")
    play.target(
        failed, to_client=[wire.open_failure(CLIENT, 2, "Connection refused", "en")], tape=[("closed", 0)]
    )


def test_a_policy_swapped_in_the_midst_counts_for_new_connections() -> None:
    play = Playbook().after_client(opening("direct-tcpip", body=DATABASE)).after_target(confirmed())
    play.document = document(NOTHING)
    play.client(data(b"q"), to_target=[data(b"q", TARGET)], tape=[("input", 0, b"q")])
    play.gate.from_client(opening("direct-tcpip", 11, body=DATABASE))
    assert wire.parse(play.actions.to_client[0]).__class__ is wire.OpenFailure


# --- listeners ---


def test_a_listener_and_a_connection_to_it() -> None:
    play = Playbook()
    asked = listen("localhost", 8080)
    play.client(asked, to_target=[asked], tape=[LISTENING])
    play.target(YES, to_client=[YES])
    kind, body = "forwarded-tcpip", ForwardedTcpip("localhost", 8080, "10.0.0.9", 4711).encode()
    play.target(
        forwarded("localhost", 8080),
        to_client=[open_of(0, kind, body)],
        tape=[("opened", 0, kind, "10.0.0.9 to localhost:8080")],
    )
    play.client(confirmed(0, CLIENT), to_target=[confirmation_of(0, TARGET)])
    play.target(data(b"GET"), to_client=[data(b"GET", CLIENT)], tape=[("output", 0, 1, b"GET")])
    play.client(close(), to_target=[close(TARGET)])
    play.target(close(), to_client=[close(CLIENT)], tape=[("closed", 0)])


def test_a_client_that_does_not_take_the_connection() -> None:
    play = listening().after_target(forwarded("localhost", 8080))
    play.client(
        wire.open_failure(0, 2, "Connection refused", "en"),
        to_target=[wire.open_failure(TARGET, 2, "Connection refused", "en")],
        tape=[("closed", 0)],
    )
    assert play.gate.channels == 0


def test_the_target_says_nothing_of_a_channel_that_the_client_has_not_taken() -> None:
    for payload in (data(b"x"), eof(), close(), asking("exit-status")):
        play = listening().after_target(forwarded("localhost", 8080))
        with pytest.raises(RemoteProtocolError, match="not open yet"):
            play.target(payload)
        with pytest.raises(RemoteProtocolError, match="not open yet"):
            play.client(payload)


def test_a_listener_that_the_target_cannot_have() -> None:
    play = Playbook().after_client(listen("localhost", 8080))
    play.target(NO, to_client=[NO])
    play.target(
        forwarded("localhost", 8080),
        to_target=[not_asked()],
        tape=[("event", "open refused", "forwarded-tcpip", "not asked for")],
    )


@pytest.mark.parametrize(("host", "port"), [("localhost", 8081), ("", 8080), ("127.0.0.1", 8080)])
def test_a_connection_to_something_else_is_refused(host: str, port: int) -> None:
    play = listening()
    play.target(
        forwarded(host, port),
        to_target=[not_asked()],
        tape=[("event", "open refused", "forwarded-tcpip", "not asked for")],
    )


def test_a_port_of_the_targets_choice() -> None:
    play = Playbook()
    asked = listen("localhost", 0)
    play.client(asked, to_target=[asked], tape=[LISTENING])
    allocated = wire.request_success(AllocatedPort(40123).encode())
    play.target(allocated, to_client=[allocated])
    play.target(
        forwarded("localhost", 0),
        to_target=[not_asked()],
        tape=[("event", "open refused", "forwarded-tcpip", "not asked for")],
    )
    play.after_target(forwarded("localhost", 40123))
    assert play.gate.channels == 1
    taken_back = listen("localhost", 40123, cancel=True)
    play.client(taken_back, to_target=[taken_back])


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\1\0\0", b"\0\0\0\1x"])
def test_a_port_of_the_targets_choice_that_is_none(body: bytes) -> None:
    play = Playbook().after_client(listen("localhost", 0))
    with pytest.raises(RemoteProtocolError):
        play.target(wire.request_success(body))


def test_a_listener_without_an_answer_is_still_asked_for_with_one() -> None:
    play = Playbook()
    play.client(
        listen("localhost", 8080, reply=False), to_target=[listen("localhost", 8080)], tape=[LISTENING]
    )
    play.client(ALIVE)
    play.target(YES, to_client=[YES])  # that of the keepalive
    play.after_target(forwarded("localhost", 8080))
    assert play.gate.channels == 1


def test_a_listener_is_taken_back() -> None:
    play = listening()
    asked = listen("localhost", 8080, cancel=True)
    play.client(asked, to_target=[asked])
    # From that moment on nothing is passed on, whatever the target answers.
    play.target(
        forwarded("localhost", 8080),
        to_target=[not_asked()],
        tape=[("event", "open refused", "forwarded-tcpip", "not asked for")],
    )
    play.target(NO, to_client=[NO])
    play.client(asked, to_client=[NO])


@pytest.mark.parametrize("reply", [True, False])
def test_taking_back_what_there_is_not(reply: bool) -> None:
    play = Playbook()
    answers = [NO] if reply else []
    play.client(listen("localhost", 8080, reply=reply, cancel=True), to_client=answers)
    play.client(listen_unix("/tmp/x.sock", reply=reply, cancel=True), to_client=answers)


def test_a_unix_socket_to_listen_on() -> None:
    play = Playbook()
    asked = listen_unix("/tmp/x.sock")
    play.client(asked, to_target=[asked], tape=[LISTENING])
    play.target(YES, to_client=[YES])
    kind, body = "forwarded-streamlocal@openssh.com", ForwardedStreamlocal("/tmp/x.sock").encode()
    play.target(
        opening(kind, TARGET, body=body),
        to_client=[open_of(0, kind, body)],
        tape=[("opened", 0, kind, "unix:/tmp/x.sock")],
    )
    other = ForwardedStreamlocal("/tmp/y.sock").encode()
    play.target(
        opening(kind, 41, body=other),
        to_target=[not_asked(recipient=41)],
        tape=[("event", "open refused", kind, "not asked for")],
    )
    taken_back = listen_unix("/tmp/x.sock", cancel=True)
    play.client(taken_back, to_target=[taken_back])
    play.target(YES, to_client=[YES])


@pytest.mark.parametrize("asked", [listen(ANYWHERE, 8080), listen("", 80), listen_unix("/run/docker.sock")])
def test_a_denied_listener_never_reaches_the_target(asked: bytes) -> None:
    play = Playbook()
    play.client(asked, to_client=[NO], tape=[("judged", None, "listen", "deny")])


@pytest.mark.parametrize("name", ["tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com"])
@pytest.mark.parametrize("reply", [True, False])
def test_a_listener_that_cannot_be_read(name: str, reply: bool) -> None:
    play = Playbook()
    play.client(wire.global_request(name, reply, b"\0\0\0\1"), to_client=[NO] if reply else [])


def test_listeners_are_limited() -> None:
    play = Playbook()
    for port in range(MAX_LISTENERS):
        play.after_client(listen("localhost", 8000 + port)).after_target(YES)
    play.client(listen("localhost", 9000), to_client=[NO], tape=[LISTENING])


def test_a_policy_that_takes_a_listener_away_stops_its_connections() -> None:
    play = listening()
    play.document = document(NOTHING)
    play.target(
        forwarded("localhost", 8080),
        to_target=[not_asked("not allowed any more")],
        tape=[
            ("judged", None, "listen", "deny"),
            ("event", "open refused", "forwarded-tcpip", "not allowed any more"),
        ],
    )


# --- the order of answers to requests of the connection ---


def test_answers_keep_the_order_of_the_requests() -> None:
    play = Playbook()
    one, two = listen("localhost", 8080), listen("localhost", 8081)
    play.client(ALIVE, one, to_target=[one], to_client=[YES], tape=[LISTENING])
    play.client(ALIVE)
    play.client(listen(ANYWHERE, 1), tape=[("judged", None, "listen", "deny")])
    play.client(two, to_target=[two], tape=[LISTENING])
    play.client(wire.global_request("unheard-of", True))
    play.target(YES, to_client=[YES, YES, NO])
    play.target(NO, to_client=[NO, NO])


def test_the_gateways_own_keepalives_do_not_disturb_that_order() -> None:
    play = Playbook()
    asked = listen("localhost", 8080)
    play.act(lambda gate: gate.ask_target(), to_target=[ALIVE])
    play.client(asked, to_target=[asked], tape=[LISTENING])
    play.act(lambda gate: gate.ask_target(), to_target=[ALIVE])
    play.target(NO)
    play.target(YES, to_client=[YES])
    play.target(NO)
    with pytest.raises(RemoteProtocolError, match="not made"):
        play.target(NO)


def test_requests_that_wait_for_answers_are_limited() -> None:
    play = Playbook()
    play.after_client(listen("localhost", 8080))
    for _ in range(MAX_ANSWERS_OWED - 1):
        play.client(ALIVE)
    with pytest.raises(RemoteProtocolError, match="too many requests"):
        play.client(ALIVE)


# --- what the target opens ---


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("session", b""),
        ("direct-tcpip", DATABASE),
        ("direct-streamlocal@openssh.com", SOCKET),
        ("auth-agent@openssh.com", b""),
        ("x11", X11Open("localhost", 4711).encode()),
        ("tun@openssh.com", b""),
        ("forwarded-streamlocal@openssh.com", ForwardedStreamlocal("/tmp/x").encode()),
    ],
)
def test_what_the_target_may_not_open(kind: str, body: bytes) -> None:
    play = listening()
    play.target(
        opening(kind, TARGET, body=body),
        to_target=[not_asked()],
        tape=[("event", "open refused", kind, "not asked for")],
    )
    assert play.gate.channels == 0


def test_what_the_target_opens_and_cannot_be_read() -> None:
    play = listening()
    play.gate.from_target(opening("forwarded-tcpip", TARGET, body=b"\0"))
    assert wire.parse(play.actions.to_target[0]).__class__ is wire.OpenFailure
    assert play.actions.to_client == []


def test_channels_of_the_target_are_limited_and_of_a_size() -> None:
    play = Playbook(settings=GateSettings(max_channels=1)).after_client(listen("localhost", 8080))
    play.after_target(YES)
    tiny = opening("forwarded-tcpip", TARGET, max_packet=1, body=ForwardedTcpip("localhost", 8080).encode())
    play.target(
        tiny,
        to_target=[not_asked("packets are too small")],
        tape=[("event", "open refused", "forwarded-tcpip", "packets are too small")],
    )
    play.after_target(forwarded("localhost", 8080))
    play.target(
        forwarded("localhost", 8080, 41),
        to_target=[not_asked("too many channels are open", 41)],
        tape=[("event", "open refused", "forwarded-tcpip", "too many channels are open")],
    )


@pytest.mark.parametrize(
    ("request_name", "body", "kind", "open_body", "shown"),
    [
        ("auth-agent-req@openssh.com", b"", "auth-agent@openssh.com", b"", "agent"),
        (
            "x11-req",
            X11Request(False, "MIT-MAGIC-COOKIE-1", "00", 0).encode(),
            "x11",
            X11Open("localhost", 4711).encode(),
            "display",
        ),
    ],
)
def test_agent_and_display_after_they_were_asked_for(
    request_name: str, body: bytes, kind: str, open_body: bytes, shown: str
) -> None:
    play = Playbook().opened().after_client(asking(request_name, body)).after_target(wire.channel_success(0))
    play.target(
        opening(kind, 41, body=open_body),
        to_client=[open_of(1, kind, open_body)],
        tape=[("opened", 1, kind, shown)],
    )
    play.client(confirmed(1, 11), to_target=[confirmation_of(1, 41)])
    play.document = document(NOTHING)
    play.target(
        opening(kind, 42, body=open_body),
        to_target=[not_asked("not allowed any more", 42)],
        tape=[
            ("judged", None, "agent" if shown == "agent" else "x11", "deny"),
            ("event", "open refused", kind, "not allowed any more"),
        ],
    )
    # What is open stays open.
    play.target(data(b"x", 1), to_client=[data(b"x", 11)], tape=[("output", 1, 1, b"x")])


def test_counts_are_of_operations_and_not_of_what_follows_from_them() -> None:
    play = listening()
    play.after_target(forwarded("localhost", 8080))
    assert play.judge.counts.allowed == 1

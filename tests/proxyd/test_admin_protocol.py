"""What is said over the admin socket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyd.admin_protocol import (
    MAX_REASON_CHARACTERS,
    MAX_REQUEST_BYTES,
    Ended,
    EndSession,
    Listed,
    ListSessions,
    Refused,
    Request,
    RequestFault,
    RequestReceiver,
    SessionView,
    Watching,
    WatchSession,
    line,
    read_answer,
    read_view,
)

VIEW = SessionView(
    id="abc",
    protocol="ssh",
    listener="ssh",
    subject="ann",
    target="web1",
    detail="",
    login="deploy",
    client="127.0.0.1:1",
    started_at=1.5,
    idle_s=0.0,
    operations=3,
    tape="/tapes/abc.tape",
)
REQUESTS: list[Request] = [
    ListSessions(),
    WatchSession("abc"),
    EndSession("abc"),
    EndSession("abc", "Wartung um 5, schönen Tag"),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_goes_over_whole_and_in_pieces(request_: Request) -> None:
    raw = line(request_)
    assert RequestReceiver().receive(raw) == request_
    receiver = RequestReceiver()
    for index in range(len(raw) - 1):
        assert receiver.receive(raw[index : index + 1]) is None
    assert receiver.receive(raw[-1:]) == request_


def test_as_written_in_the_description() -> None:
    assert RequestReceiver().receive(b'{"command": "end", "session": "4f"}\n') == EndSession("4f")
    assert json.loads(line(ListSessions())) == {"command": "ls"}


@pytest.mark.parametrize("answer", [Listed(2), Watching(VIEW, 100), Ended(VIEW, True), Refused("busy", "x")])
def test_an_answer_goes_over(answer: Listed | Watching | Ended | Refused) -> None:
    assert read_answer(line(answer)) == answer


def test_a_session_goes_over() -> None:
    assert read_view(line(VIEW)) == VIEW


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\n", "not a request"),
        (b"GET / HTTP/1.1\r\n", "not a request"),
        (b"[]\n", "not a request"),
        (b"{}\n", "not a request"),
        (b'{"command": "dance"}\n', "not a request"),
        (b'{"command": "ls", "more": 1}\n', "not a request"),
        (b'{"command": "watch"}\n', "not a request"),
        (b'{"command": "watch", "session": 7}\n', "not a request"),
        (b'{"command": "watch", "session": ""}\n', "no session is named"),
        (b'{"command": "end", "session": "a", "reason": "a\\nb"}\n', "one line of printable text"),
        (b'{"command": "end", "session": "a", "reason": "\\u001b[2J"}\n', "one line of printable text"),
        (b'{"command": "ls"}\n{"command": "ls"}\n', "one request a connection"),
        (b'{"command": "\xff\xfe"}\n', "not a request"),
        (b'{"x": ' + b"[" * 3000 + b"]" * 1000 + b"}\n", "not a request"),
        (b"x" * (MAX_REQUEST_BYTES + 1), "at most"),
        (
            line(EndSession("a", "x" * (MAX_REASON_CHARACTERS + 1))),
            f"at most {MAX_REASON_CHARACTERS} characters",
        ),
    ],
)
def test_what_is_no_request(raw: bytes, why: str) -> None:
    with pytest.raises(RequestFault, match=why):
        RequestReceiver().receive(raw)


def test_an_endless_line_is_cut_off_as_it_comes() -> None:
    receiver = RequestReceiver()
    assert receiver.receive(b"x" * MAX_REQUEST_BYTES) is None
    with pytest.raises(RequestFault):
        receiver.receive(b"x")


@given(st.binary(max_size=200))
def test_nothing_else_comes_out_of_garbage(raw: bytes) -> None:
    try:
        found = RequestReceiver().receive(raw)
    except RequestFault:
        return
    assert found is None or isinstance(found, ListSessions | WatchSession | EndSession)

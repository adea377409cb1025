"""A request on its way to the target and the answer back, step by step: what is on the tape before what leaves, what is
asked again and what is not, and what becomes of a side that goes away.
"""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from protocols.http.messages import END, Data, MessageEnded, RequestHead, ResponseHead
from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.refusals import Refusal
from proxyd.gates.http.routing import Route
from proxyd.http_streams import PeerGone
from tests.proxyd.http_exchange_house import GET, POST, WAIT, House, Target, gone

OK = ResponseHead(200, ())


async def test_everything_is_on_the_tape_before_it_leaves() -> None:
    house = House([Target(WAIT, OK, Data(b"one"), WAIT, Data(b"two"), END)])
    await house.forward()
    assert house.told == [
        ("tape", "sent whole"),
        ("tape", "flush"),
        ("target", "GET", "/x"),
        ("target", "end"),
        ("target", "flush"),
        ("tape", 200),
        ("client", 200),
        ("tape", b"one"),
        ("client", b"one"),
        ("tape", "flush"),
        ("client", "flush"),
        ("tape", b"two"),
        ("client", b"two"),
        ("tape", "end"),
        ("client", "end"),
        ("tape", "flush"),
        ("client", "flush"),
    ]
    assert house.released == 1


async def test_a_body_streams_while_the_answer_is_awaited() -> None:
    body = (Data(b"a"), WAIT, Data(b"b"), MessageEnded((("x-sum", "1"),)))
    house = House([Target(WAIT, WAIT, WAIT, OK, END)], POST, body)
    await house.forward(b"first")
    sent = [event[1:] for event in house.of("target") if event[1] != "flush"]
    assert sent == [("POST", "/x"), (b"first",), (b"a",), (b"b",), ("end", ("x-sum", "1"))]
    for data in (b"a", b"b"):
        assert house.told.index(("tape", "sent", data)) < house.told.index(("target", data))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_what_a_kept_connection_has_lost_is_asked_again(method: str) -> None:
    head = msgspec.structs.replace(GET, method=method)
    house = House([Target(gone(is_untouched=True)), Target(OK, END)], head)
    await house.forward()
    assert house.fresh == [False, True]
    assert house.released == 2
    assert ("client", 200) in house.told


async def test_what_changes_something_is_not_asked_again() -> None:
    """Nobody knows whether the first one was heard."""
    house = House(
        [Target(gone(is_untouched=True)), Target(OK, END)], msgspec.structs.replace(GET, method="POST")
    )
    with pytest.raises(Refusal) as raised:
        await house.forward()
    assert raised.value.status == 502
    assert house.fresh == [False]


async def test_what_was_not_heard_for_sure_is_asked_again() -> None:
    house = House(
        [Target(gone(is_unheard=True)), Target(OK, END)], msgspec.structs.replace(GET, method="POST")
    )
    await house.forward()
    assert ("client", 200) in house.told


async def test_it_is_asked_again_once() -> None:
    house = House([Target(gone(is_untouched=True)), Target(gone(is_untouched=True)), Target(OK, END)])
    with pytest.raises(Refusal):
        await house.forward()
    assert house.released == 2


async def test_nothing_is_asked_again_once_the_answer_has_begun() -> None:
    house = House([Target(OK, gone(is_unheard=True)), Target(OK, END)])
    with pytest.raises(Refusal):
        await house.forward()
    assert house.fresh == [False]


async def test_no_target() -> None:
    house = House([])
    with pytest.raises(Refusal) as raised:
        await house.forward()
    assert raised.value.status == 502


async def test_the_client_goes_while_it_is_answered() -> None:
    house = House([Target(OK, WAIT, Data(b"x"), END)])
    house.client.fault = gone("reset")
    with pytest.raises(PeerGone) as raised:
        await house.forward()
    assert raised.value is house.client.fault
    assert house.state.client_gone is raised.value
    assert house.released == 1


async def test_the_client_goes_while_it_sends() -> None:
    house = House([Target(WAIT)], POST, (Data(b"a"), gone("reset")))
    with pytest.raises(PeerGone) as raised:
        await house.forward()
    assert raised.value.reason == "reset"
    assert house.released == 1


async def test_a_target_that_reads_no_more_may_still_answer() -> None:
    """As with 413: it has said what it had to say before it closed."""
    target = Target(WAIT, ResponseHead(413, ()), END, on_flush=gone("closed"))
    house = House([target], POST, (Data(b"a"), WAIT, Data(b"b"), END))
    await house.forward()
    assert ("client", 413) in house.told


async def test_an_interim_answer_is_for_the_client() -> None:
    house = House([Target(ResponseHead(103, (("link", "x"),)), OK, END)])
    await house.forward()
    assert [event[1] for event in house.of("client")] == [103, "flush", 200, "end", "flush"]


async def test_an_interim_answer_leads_nobody_around_the_gateway() -> None:
    fields = (("alt-svc", "h3"), ("set-cookie", "a=b; Path=/"), ("location", "/x"), ("link", "</x>"))
    house = House([Target(ResponseHead(103, fields), OK, END)])
    house.state.route = Route("target", "", "/x", "/t/target")
    await house.forward()
    expected = (("set-cookie", "a=b; Path=/t/target/"), ("location", "/t/target/x"), ("link", "</x>"))
    assert ("client", 103) in house.told
    assert house.client.heads[0].headers == expected
    assert house.tape.heads[0] == expected


async def test_a_client_of_http_1_0_knows_no_interim_answers() -> None:
    house = House([Target(ResponseHead(103, ()), OK, END)], msgspec.structs.replace(GET, version="1.0"))
    await house.forward()
    assert ("client", 103) not in house.told


EXPECTS = msgspec.structs.replace(POST, expects_continue=True)


async def test_a_100_of_the_target_lets_the_client_send(autojump_clock: MockClock) -> None:
    house = House([Target(WAIT, ResponseHead(100, ()), WAIT, OK, END)], EXPECTS, (Data(b"a"), END))
    await house.forward()
    assert house.of("client")[0] == ("client", 100)
    assert ("client", 200) in house.told


async def test_a_target_that_says_nothing_is_sent_the_body(autojump_clock: MockClock) -> None:
    target = Target(WAIT)
    house = House([target], EXPECTS, (Data(b"a"), END))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.forward)
        with trio.fail_after(5):
            while ("target", "end") not in house.told:
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert ("client", 100) in house.told
    assert ("target", b"a") in house.told


async def test_a_client_that_stops_in_the_middle_of_its_body(autojump_clock: MockClock) -> None:
    house = House([Target(WAIT)], POST, (Data(b"a"),), body_timeout_s=3.0)
    with pytest.raises(Refusal) as raised:
        await house.forward()
    assert (raised.value.status, raised.value.closes) == (408, True)


async def test_a_401_drops_the_credential() -> None:
    house = House([Target(ResponseHead(401, ()), END)])
    await house.forward()
    assert house.invalidated == 1


class Refusing:
    """Masks nothing and refuses at the `at`-th piece."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.counts: dict[str, int] = {}

    def feed(self, data: bytes) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise BodyRefused("it is not what it says")
        return data.upper()

    def finish(self) -> bytes:
        return b""


async def test_a_body_that_cannot_be_masked_goes_no_further() -> None:
    house = House([Target(WAIT)], POST, (Data(b"a"), Data(b"b"), END))
    with pytest.raises(Refusal) as raised:
        await house.forward(masker=Refusing(1))
    assert raised.value.status == 415
    assert ("target", b"b") not in house.told
    assert ("tape", "sent", b"b") not in house.told


async def test_trailers_go_both_ways() -> None:
    house = House([Target(OK, Data(b"x"), MessageEnded((("grpc-status", "0"),)))])
    await house.forward()
    assert ("client", "end", ("grpc-status", "0")) in house.told


def test_the_head_of_a_stream_is_no_whole_request() -> None:
    assert isinstance(POST, RequestHead)
    assert POST.body_bytes is None

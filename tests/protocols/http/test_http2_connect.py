"""CONNECT over HTTP/2: the extended one of RFC 8441 as a change of protocol, the plain one, and what is neither."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, SettingsFrame

from protocols.errors import ProtocolError
from protocols.http.http2 import ANY_STREAM, Http2, Http2Limits
from protocols.http.http2_events import FarewellHeard, Received, StreamEvent
from protocols.http.messages import MessageEnded, RequestHead, ResponseHead

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ENABLE_CONNECT_PROTOCOL = 8
Fields = list[tuple[bytes, bytes]]

EXTENDED: Fields = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/chat?x=y"),
    (b"sec-websocket-version", b"13"),
]
PLAIN: Fields = [(b":method", b"CONNECT"), (b":authority", b"a:443")]
UPGRADE = RequestHead("GET", "/chat", "https", "a", (("origin", "https://a"),), "2", 0, upgrade="websocket")


def changed(fields: Fields, **values: bytes | None) -> Fields:
    """With other pseudo fields; None leaves one out."""
    wanted = {f":{name}".encode(): value for name, value in values.items()}
    kept = [(name, wanted.pop(name, value)) for name, value in fields]
    return [(name, value) for name, value in [*wanted.items(), *kept] if value is not None]


def server() -> Http2:
    codec = Http2(Http2Limits(), is_server=True)
    codec.begin()
    codec.receive(PREFACE + SettingsFrame(0).serialize())
    codec.take()
    return codec


def client(offered: int | None = None) -> Http2:
    codec = Http2(Http2Limits(), is_server=False)
    codec.begin()
    codec.take()
    frame = SettingsFrame(0, settings={} if offered is None else {ENABLE_CONNECT_PROTOCOL: offered})
    codec.receive(frame.serialize())
    codec.take()
    return codec


def head(fields: Fields, *flags: str, stream: int = 1) -> bytes:
    block = Encoder().encode(fields, huffman=False)
    return HeadersFrame(stream, block, flags=["END_HEADERS", *flags]).serialize()


def frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        found.append(frame)
        data = data[9 + length :]
    return found


def heads(data: bytes) -> list[dict[bytes, bytes]]:
    decoder = Decoder()
    return [
        {bytes(name): bytes(value) for name, value in decoder.decode(frame.data, raw=True)}
        for frame in frames(data)
        if isinstance(frame, HeadersFrame)
    ]


def goaways(data: bytes) -> list[int]:
    return [frame.last_stream_id for frame in frames(data) if isinstance(frame, GoAwayFrame)]


def events(codec: Http2, data: bytes) -> list[StreamEvent]:
    return [event for _, event in codec.receive(data)]


# --- as a server ----------------------------------------------------------------------------------------------


def test_a_server_offers_it() -> None:
    codec = Http2(Http2Limits(), is_server=True)
    codec.begin()
    (settings,) = [frame for frame in frames(codec.take()) if isinstance(frame, SettingsFrame)]
    assert settings.settings[ENABLE_CONNECT_PROTOCOL] == 1


def test_an_extended_connect_is_what_an_upgrade_is() -> None:
    codec = server()
    assert events(codec, head(EXTENDED)) == [
        RequestHead(
            "GET",
            "/chat?x=y",
            "https",
            "a",
            (("sec-websocket-version", "13"),),
            "2",
            0,
            upgrade="websocket",
        )
    ]
    codec.send_response(1, ResponseHead(101, (("x", "y"),), 0, upgrade="websocket"), ends=False)
    assert heads(codec.take()) == [{b":status": b"200", b"x": b"y"}]
    assert events(codec, DataFrame(1, b"frame").serialize()) == [Received(b"frame", 5)]
    assert events(codec, DataFrame(1, b"", flags=["END_STREAM"]).serialize()) == [MessageEnded()]


def test_a_refusal_stays_what_it_is() -> None:
    codec = server()
    codec.receive(head(EXTENDED))
    codec.send_response(1, ResponseHead(403, (), 4), ends=False)
    assert heads(codec.take()) == [{b":status": b"403", b"content-length": b"4"}]


def test_a_plain_connect_has_a_place_and_no_path() -> None:
    assert events(server(), head(PLAIN)) == [RequestHead("CONNECT", "", "https", "a:443", (), "2", 0)]


@pytest.mark.parametrize("protocol", [b"connect-udp", b"WebSocket", b"h2c"])
def test_other_protocols_are_told_by_their_names(protocol: bytes) -> None:
    (found,) = events(server(), head(changed(EXTENDED, protocol=protocol)))
    assert isinstance(found, RequestHead)
    assert found.upgrade == protocol.decode().lower()


REFUSED = {
    "a protocol without CONNECT": head(changed(EXTENDED, method=b"GET")),
    "a protocol without CONNECT, with a body": head(changed(EXTENDED, method=b"POST")),
    "no scheme": head(changed(EXTENDED, scheme=None)),
    "no path": head(changed(EXTENDED, path=None)),
    "an empty protocol": head(changed(EXTENDED, protocol=b"")),
    "a protocol that is no name": head(changed(EXTENDED, protocol=b"web socket")),
    "two protocols": head([(b":protocol", b"websocket"), *EXTENDED]),
    "a length": head([*EXTENDED, (b"content-length", b"0")]),
    "the end": head(EXTENDED, "END_STREAM"),
    "an upgrade": head([*EXTENDED, (b"upgrade", b"websocket")]),
    "connection": head([*EXTENDED, (b"connection", b"upgrade")]),
    "another host": head([*EXTENDED, (b"host", b"b")]),
    "plain with a path": head([*PLAIN, (b":path", b"/")]),
    "plain with a scheme": head([*PLAIN, (b":scheme", b"https")]),
    "plain with a length": head([*PLAIN, (b"content-length", b"5")]),
    "plain that has ended": head(PLAIN, "END_STREAM"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_neither_costs_its_stream_or_the_connection(name: str) -> None:
    codec = server()
    try:
        found = codec.receive(REFUSED[name])
    except ProtocolError:
        return
    assert [event for _, event in found if isinstance(event, RequestHead)] == []
    assert [stream for stream, _ in codec.malformed] == [1]


# --- as a client ----------------------------------------------------------------------------------------------


def test_what_the_target_offers_is_known_from_its_settings() -> None:
    codec = Http2(Http2Limits(), is_server=False)
    codec.begin()
    assert (codec.has_peer_settings, codec.takes_upgrades) == (False, False)
    assert (client().has_peer_settings, client().takes_upgrades) == (True, False)
    assert client(offered=1).takes_upgrades
    assert not client(offered=0).takes_upgrades


def test_an_upgrade_goes_out_as_an_extended_connect() -> None:
    codec = client(offered=1)
    codec.send_request(1, UPGRADE, ends=False)
    assert heads(codec.take()) == [
        {
            b":method": b"CONNECT",
            b":protocol": b"websocket",
            b":scheme": b"https",
            b":authority": b"a",
            b":path": b"/chat",
            b"origin": b"https://a",
        }
    ]
    assert events(codec, head([(b":status", b"103")])) == [ResponseHead(103, (), None)]
    found = events(codec, head([(b":status", b"200"), (b"x", b"y")]))
    assert found == [ResponseHead(101, (("x", "y"),), upgrade="websocket")]
    codec.send_data(1, b"frame")
    assert events(codec, DataFrame(1, b"back").serialize()) == [Received(b"back", 4)]


@pytest.mark.parametrize("status", [b"400", b"302", b"501"])
def test_a_target_may_refuse(status: bytes) -> None:
    codec = client(offered=1)
    codec.send_request(1, UPGRADE, ends=False)
    assert events(codec, head([(b":status", status)], "END_STREAM")) == [
        ResponseHead(int(status), (), 0),
        MessageEnded(),
    ]


def test_the_next_stream_is_an_ordinary_one() -> None:
    codec = client(offered=1)
    codec.send_request(1, UPGRADE, ends=False)
    codec.send_request(3, RequestHead("GET", "/", "https", "a", (), "2"), ends=True)
    (found,) = events(codec, head([(b":status", b"200")], stream=3))
    assert found == ResponseHead(200, (), None)


# --- taking leave ---------------------------------------------------------------------------------------------


def test_a_farewell_turns_nobody_away_until_it_was_heard() -> None:
    codec = server()
    codec.receive(head(PLAIN))
    codec.say_farewell()
    said = codec.take()
    assert goaways(said) == [ANY_STREAM]
    (ping,) = [frame for frame in frames(said) if isinstance(frame, PingFrame)]
    assert codec.receive(head(EXTENDED, stream=3)) != []  # was under way
    assert events(codec, PingFrame(0, b"01234567", flags=["ACK"]).serialize()) == []  # not ours
    assert events(codec, PingFrame(0, ping.opaque_data, flags=["ACK"]).serialize()) == [FarewellHeard()]
    codec.refuse_more()
    assert goaways(codec.take()) == [3]
    assert codec.receive(DataFrame(3, b"still read").serialize()) != []
    codec.send_response(3, ResponseHead(101, (), 0, upgrade="websocket"), ends=False)
    assert heads(codec.take()) == [{b":status": b"200"}]


def test_the_last_stream_that_was_told_never_grows() -> None:
    """RFC 9113, 6.8."""
    codec = server()
    codec.receive(head(PLAIN))
    codec.refuse_more()
    codec.receive(head(PLAIN, stream=3))
    codec.refuse_more()
    codec.close(ErrorCodes.NO_ERROR)
    assert goaways(codec.take()) == [1, 1, 1]

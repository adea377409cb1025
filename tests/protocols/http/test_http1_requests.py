"""Requests of HTTP/1: what is read, what is refused and with which status; in pieces, cut off, too large."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.http.http1 import Http1Limits, RequestReader
from protocols.http.messages import Data, Headers, MessageEnded, RequestEvent, RequestHead

LIMITS = Http1Limits(
    head_bytes=2048, fields=20, target_bytes=512, trailers_bytes=128, chunk_extension_bytes=64
)
H = b"Host: a.example\r\n"


def read(pieces: Iterable[bytes], limits: Http1Limits = LIMITS) -> list[RequestEvent]:
    """The events of one request, Data joined."""
    reader = RequestReader(limits, "https")
    events: list[RequestEvent] = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                event = Data(events.pop().data + event.data)  # type: ignore[union-attr]
            events.append(event)
    return events


def single(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


def halves(data: bytes) -> list[list[bytes]]:
    return [[data[:cut], data[cut:]] for cut in range(1, len(data))]


def message(
    data: bytes,
    method: str = "GET",
    target: str = "/",
    headers: Headers = (),
    body: bytes = b"",
    trailers: Headers = (),
    **more: object,
) -> tuple[bytes, list[RequestEvent]]:
    values: dict[str, object] = {"authority": "a.example", "body_bytes": 0, **more}
    head = RequestHead(method, target, "https", headers=headers, **values)  # type: ignore[arg-type]
    return data, [head, *([Data(body)] if body else []), MessageEnded(trailers)]


READ = {
    "the least": message(b"GET / HTTP/1.1\r\n" + H + b"\r\n"),
    "an empty line before it (RFC 9112, 2.2)": message(b"\r\nGET / HTTP/1.1\r\n" + H + b"\r\n"),
    "an absolute target": message(
        b"GET http://a.example/x?y HTTP/1.1\r\n" + H + b"\r\n", target="http://a.example/x?y"
    ),
    "an extension method": message(b"VERSION-CONTROL / HTTP/1.1\r\n" + H + b"\r\n", "VERSION-CONTROL"),
    "a method that llhttp does not know": message(b"FROBNICATE / HTTP/1.1\r\n" + H + b"\r\n", "FROBNICATE"),
    "HTTP/1.0 without Host": message(
        b"GET / HTTP/1.0\r\n\r\n", authority="", version="1.0", keep_alive=False
    ),
    "HTTP/1.0 that keeps the connection": message(
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", authority="", version="1.0"
    ),
    "HTTP/1.0 with Expect and Upgrade, which it does not know": message(
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Content-Length: 1\r\n\r\nx",
        "POST",
        authority="",
        version="1.0",
        keep_alive=False,
        body=b"x",
        body_bytes=1,
    ),
    "names in lower case, values without blanks, empty values, tabs inside, obs-text": message(
        b"GET / HTTP/1.1\r\nhOST:a.example\r\nX-A:  b c\t \r\nX-E:\r\nX-T: a\tb\r\nX-O: \xe9\r\nX-A: again\r\n\r\n",
        headers=(("x-a", "b c"), ("x-e", ""), ("x-t", "a\tb"), ("x-o", "\xe9"), ("x-a", "again")),
    ),
    "a length": message(
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello", "POST", body=b"hello", body_bytes=5
    ),
    "a length of nothing": message(b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0\r\n\r\n", "POST"),
    "GET with a body": message(
        b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 2\r\n\r\nhi", body=b"hi", body_bytes=2
    ),
    "chunks": message(
        b"POST / HTTP/1.1\r\n"
        + H
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0000A\r\n, world!!!\r\n0\r\n\r\n",
        "POST",
        body=b"hello, world!!!",
        body_bytes=None,
    ),
    "chunks, the coding in another case": message(
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", "POST", body_bytes=None
    ),
    "chunk extensions, which go no further": message(
        b"POST / HTTP/1.1\r\n"
        + H
        + b'Transfer-Encoding: chunked\r\n\r\n2;a=b;c;d="; x"\r\nhi\r\n0;last\r\n\r\n',
        "POST",
        body=b"hi",
        body_bytes=None,
    ),
    "trailers": message(
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nX-More:\r\n\r\n",
        "POST",
        trailers=(("x-sum", "1"), ("x-more", "")),
        body_bytes=None,
    ),
    "a body that looks like a request": message(
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST",
        body=b"GET / HTTP/1.1\r\n\r\n",
        body_bytes=18,
    ),
    "Expect with a body": message(
        b"PUT / HTTP/1.1\r\n" + H + b"Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        "PUT",
        body=b"x",
        body_bytes=1,
        expects_continue=True,
    ),
    "Expect without a body waits for nothing": message(
        b"GET / HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\n\r\n"
    ),
    "an upgrade": message(
        b"GET / HTTP/1.1\r\n" + H + b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n",
        headers=(("sec-websocket-version", "13"),),
        upgrade="websocket",
    ),
    "an upgrade that Connection does not name": message(
        b"GET / HTTP/1.1\r\n" + H + b"Upgrade: websocket\r\n\r\n"
    ),
    "h2c is not offered": message(
        b"GET / HTTP/1.1\r\n"
        + H
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
    ),
    "close": message(b"GET / HTTP/1.1\r\n" + H + b"Connection: Close\r\n\r\n", keep_alive=False),
    "fields of one hop": message(
        b"GET / HTTP/1.1\r\n"
        + H
        + b"Connection: x-hop, close,, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Connection: keep-alive\r\nTE: gzip\r\nX-Stays: 1\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
        headers=(("x-stays", "1"), ("proxy-authorization", "Basic eDp5")),
        keep_alive=False,
    ),
    "Connection behind the fields that it names": message(
        b"GET / HTTP/1.1\r\n" + H + b"X-Hop: 1\r\nConnection: X-HOP\r\n\r\n"
    ),
    "TE: trailers stays": message(
        b"GET / HTTP/1.1\r\n" + H + b"TE: gzip, trailers\r\nConnection: te\r\n\r\n",
        headers=(("te", "trailers"),),
    ),
    "names that variables cannot tell from dashed ones are left out": message(
        b"GET / HTTP/1.1\r\n" + H + b"x_env: prod\r\nx.env: prod\r\nx-env: test\r\n\r\n",
        headers=(("x-env", "test"),),
    ),
    "CONNECT": message(
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "CONNECT",
        "a.example:443",
        authority="a.example:443",
    ),
    "a host of an address": message(b"GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", authority="[::1]:8443"),
    "a length of 2^31": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 2147483648\r\n\r\n",
        [RequestHead("POST", "/", "https", "a.example", (), body_bytes=2**31)],
    ),
    "a length of 2^63 - 1": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 9223372036854775807\r\n\r\n",
        [RequestHead("POST", "/", "https", "a.example", (), body_bytes=2**63 - 1)],
    ),
}


@pytest.mark.parametrize(("data", "expected"), READ.values(), ids=READ.keys())
def test_a_request_is_read_however_it_comes_in_pieces(data: bytes, expected: list[RequestEvent]) -> None:
    assert read([data]) == expected
    assert read(single(data)) == expected
    for pieces in halves(data):
        assert read(pieces) == expected


@pytest.mark.parametrize(("data", "expected"), READ.values(), ids=READ.keys())
def test_a_request_that_is_cut_off_never_ends(data: bytes, expected: list[RequestEvent]) -> None:
    for cut in range(1, len(data)):
        reader = RequestReader(LIMITS, "https")
        reader.feed(data[:cut])
        events = []
        while (event := reader.next_event()) is not None:
            events.append(event)
        assert not any(isinstance(event, MessageEnded) for event in events)
        assert not reader.has_ended
        with pytest.raises(RemoteProtocolError) as raised:
            reader.feed_eof()
        assert raised.value.code == "400"
        with pytest.raises(RemoteProtocolError):
            reader.next_event()


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + fields + b"\r\n" + body


def get(fields: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + H + fields + b"\r\n"


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


REFUSED: dict[str, tuple[bytes, str]] = {
    # Two lengths, and lengths that are read in two ways: CL.TE, TE.CL, CL.CL
    "both lengths": (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), "400"),
    "both lengths, the other way round": (
        post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        "400",
    ),
    "two lengths": (post(b"Content-Length: 5\r\nContent-Length: 6\r\n"), "400"),
    "two equal lengths": (post(b"Content-Length: 5\r\nContent-Length: 5\r\n"), "400"),
    "a list of lengths": (post(b"Content-Length: 5, 5\r\n"), "400"),
    **{
        f"the length {value!r}": (post(b"Content-Length:" + value + b"\r\n"), "400")
        for value in (
            b"",
            b" ",
            b" +5",
            b" -5",
            b" 0x5",
            b" 5 5",
            b" 5.0",
            b" 5e0",
            b" 05",
            b" 00",
            b" 5_0",
            b" 5;",
            b' "5"',
            b" 9223372036854775808",
            b" 18446744073709551621",
            b" 99999999999999999999999",
            b" \xb2",
            b" 5\x0b",
            b" \xa05",
            b" five",
        )
    },
    # Transfer-Encoding obfuscated: TE.TE
    **{
        f"the coding {value!r}": (post(b"Transfer-Encoding:" + value + b"\r\n"), "501")
        for value in (
            b"",
            b" xchunked",
            b" chunked, chunked",
            b" gzip, chunked",
            b" chunked, gzip",
            b" identity",
            b" chunked;q=1",
            b' "chunked"',
            b" chunked,",
            b" ,chunked",
            b" chu nked",
            b" chunked\xa0",
            b" gzip",
            b" 'chunked'",
            b" cow",
        )
    },
    "two codings": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "400"),
    "two codings, one unknown": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"), "400"),
    "a coding behind a vertical tab": (post(b"Transfer-Encoding:\x0bchunked\r\n"), "400"),
    "a coding before a form feed": (post(b"Transfer-Encoding: chunked\x0c\r\n"), "400"),
    "a coding with a blank before the colon": (post(b"Transfer-Encoding : chunked\r\n"), "400"),
    "a coding with a tab before the colon": (post(b"Transfer-Encoding\t: chunked\r\n"), "400"),
    "a coding in a folded line": (post(b"Transfer-Encoding:\r\n chunked\r\n"), "400"),
    "a coding behind a fold": (post(b"X: y\r\n\tTransfer-Encoding: chunked\r\n"), "400"),
    "a coding behind a bare LF": (post(b"X: y\nTransfer-Encoding: chunked\r\n"), "400"),
    "a coding behind a bare CR": (post(b"X: y\rTransfer-Encoding: chunked\r\n"), "400"),
    "a coding in a line that begins with a blank": (
        b"POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n" + H + b"\r\n",
        "400",
    ),
    "a coding behind NUL": (post(b"Transfer-Encoding: \x00chunked\r\n"), "400"),
    "a length in a name with an underscore": (post(b"Content_Length: 5\r\n"), "400"),
    "a length in a name with a dot": (post(b"Content.Length: 5\r\n"), "400"),
    "a coding in a name with an underscore": (post(b"transfer_encoding: chunked\r\n"), "400"),
    "credentials in a name with an underscore": (get(b"proxyd_login: root\r\n"), "400"),
    "a coding in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    # Line ends, folds and characters of the head
    "a head with bare LF": (b"GET / HTTP/1.1\nHost: a.example\n\n", "400"),
    "a request line with bare LF": (b"GET / HTTP/1.1\nHost: a.example\r\n\r\n", "400"),
    "an end of a head with bare LF": (b"GET / HTTP/1.1\r\nHost: a.example\r\n\n", "400"),
    "an end of a head with bare CR": (b"GET / HTTP/1.1\r\nHost: a.example\r\r\n", "400"),
    "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: a.example\r\n\r\n", "400"),
    "a fold": (get(b"X: a\r\n b\r\n"), "400"),
    "a fold of the first field": (b"GET / HTTP/1.1\r\n x: y\r\n" + H + b"\r\n", "400"),
    "NUL in a value": (get(b"X: a\x00b\r\n"), "400"),
    "a control character in a value": (get(b"X: a\x1bb\r\n"), "400"),
    "DEL in a value": (get(b"X: a\x7fb\r\n"), "400"),
    "NUL in a name": (get(b"X\x00: a\r\n"), "400"),
    "an empty name": (get(b": a\r\n"), "400"),
    "a name with a blank": (get(b"X Y: a\r\n"), "400"),
    "a name in brackets": (get(b"[X]: a\r\n"), "400"),
    "a name beyond ASCII": (get(b"X\xe9: a\r\n"), "400"),
    "a line without a colon": (get(b"X\r\n"), "400"),
    "a blank before the colon": (get(b"X : a\r\n"), "400"),
    # Request line
    "HTTP/0.9": (b"GET /\r\n\r\n", "400"),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + H + b"\r\n", "505"),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + H + b"\r\n", "505"),
    "HTTP/2": (b"GET / HTTP/2\r\n" + H + b"\r\n", "505"),
    "HTTP/01.1": (b"GET / HTTP/01.1\r\n" + H + b"\r\n", "400"),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\n" + H + b"\r\n", "400"),
    "http in lower case": (b"GET / http/1.1\r\n" + H + b"\r\n", "400"),
    "a version of another protocol": (b"GET / RTSP/1.0\r\n" + H + b"\r\n", "400"),
    "a version with a blank": (b"GET / HTTP/1. 1\r\n" + H + b"\r\n", "400"),
    "a version with a blank behind": (b"GET / HTTP/1.1 \r\n" + H + b"\r\n", "400"),
    "two blanks": (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a tab": (b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a blank in the target": (b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a tab in the target": (b"GET /a\tb HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a target beyond ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "no target": (b"GET  HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a method in lower case": (b"get / HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a method with a colon": (b"GE:T / HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a method of 33 letters": (b"A" * 33 + b" / HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a blank before the method": (b" GET / HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "two empty lines before it": (b"\r\n\r\nGET / HTTP/1.1\r\n" + H + b"\r\n", "400"),
    "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
    "an SSH greeting": (b"SSH-2.0-OpenSSH_9.9\r\n", "400"),
    "a response": (b"HTTP/1.1 200 OK\r\n\r\n", "400"),
    # Host
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", "400"),
    "two Hosts": (get(b"Host: b.example\r\n"), "400"),
    "two equal Hosts": (get(H), "400"),
    **{
        f"the Host {value!r}": (b"GET / HTTP/1.1\r\nHost:" + value + b"\r\n\r\n", "400")
        for value in (
            b"",
            b" ",
            b" a b",
            b" a,b",
            b" user@a",
            b" a/b",
            b" a?b",
            b" a#b",
            b" a\\b",
            b" a:",
            b" a:x",
            b" a:123456",
            b" :80",
            b" http://a",
            b" [::1",
            b" ::1",
            b" [::1]a",
            b" \xe9",
            b" a%2eb",
            b" -a",
            b" .a",
            b" a;b",
            b" *",
            b" [fe80::1%25eth0]",
            b" a:80:80",
            b" _",
        )
    },
    "a Host in a name with an underscore": (get(b"h_ost: b\r\nX_FORWARDED_HOST: b\r\n"), "400"),
    # Connection
    **{
        f"Connection: {name.decode()}": (get(b"Connection: close, " + name + b"\r\n"), "400")
        for name in (
            b"host",
            b"Authorization",
            b"cookie",
            b"content-length",
            b"Transfer-Encoding",
            b"content-type",
            b"X-Api-Key",
            b"proxyd-login",
            b"expect",
            b"x-forwarded-for",
            b"Proxy-Authorization",
        )
    },
    "Connection with garbage": (get(b"Connection: a b\r\n"), "400"),
    "an upgrade with a body": (
        get(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n"),
        "400",
    ),
    "an upgrade with chunks": (
        get(b"Connection: upgrade\r\nUpgrade: other\r\nTransfer-Encoding: chunked\r\n"),
        "400",
    ),
    "an upgrade by POST": (
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "400",
    ),
    "two upgrades": (get(b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n"), "400"),
    "a list of upgrades": (get(b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"), "400"),
    "Expect of something else": (post(b"Content-Length: 1\r\nExpect: 200-ok\r\n", b"x"), "417"),
    "two Expects": (
        post(b"Content-Length: 1\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n", b"x"),
        "400",
    ),
    "CONNECT with a length": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx", "400"),
    "CONNECT in chunks": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    "CONNECT of HTTP/1.0 with a length": (b"CONNECT a:1 HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "400"),
    # Chunks
    **{
        f"the chunk {body!r}": (chunked(body), "400")
        for body in (
            b"\r\n",
            b"g\r\n",
            b"-1\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\t\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"5\r\nhello\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhell\r\n0\r\n\r\n",
            b"00000000000000005\r\nhello\r\n",
            b"8000000000000000\r\n",
            b"ffffffffffffffff\r\n",
            b"10000000000000000\r\n",
            b"5;\r\nhello\r\n",
            b"5 ;a\r\nhello\r\n",
            b"5; a\r\nhello\r\n",
            b"5;a= b\r\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"5;a\x00\r\nhello\r\n",
            b'5;a="b\r\nhello\r\n',
            b"5;\xff\r\nhello\r\n",
            b"5_0\r\nhello\r\n",
            b"\xb2\r\nhe\r\n",
            b";a\r\nhello\r\n",
            b"5,5\r\nhello\r\n",
            b"5\r\r\nhello\r\n",
            b"0\n\n",
            b"0\r\n\n",
            b"0\r\nX: y\n\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nX\r\n\r\n",
            b"0\r\nX: a\x00\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"\n5\r\nhello\r\n",
            b"5;" + b"a" * 70 + b"\r\nhello\r\n",
            b"5;" + b"a" * 100,
            (b"1;" + b"a" * 20 + b"\r\nx\r\n") * 4,
        )
    },
    **{
        f"the trailer {name}": (chunked(b"0\r\n" + name.encode() + b": x\r\n\r\n"), "400")
        for name in (
            "Content-Length",
            "Transfer-Encoding",
            "Host",
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "Content-Type",
            "Content-Encoding",
            "Connection",
            "TE",
            "Trailer",
            "Expect",
            "Proxy-Authorization",
            "X-Api-Key",
            "Content_Length",
            "Proxyd-Login",
            "Upgrade",
            "Cache-Control",
            "X-Forwarded-For",
        )
    },
    # Too much
    "a target that is too long": (b"GET /" + b"a" * 512 + b" HTTP/1.1\r\n" + H + b"\r\n", "414"),
    "a target without an end": (b"GET /" + b"a" * 1000, "414"),
    "a target longer than a head": (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n" + H + b"\r\n", "414"),
    "a target longer than a head, without an end": (b"GET /" + b"a" * 3000, "414"),
    "a head that is too long": (get(b"X: " + b"a" * 2048 + b"\r\n"), "431"),
    "a head without an end": (b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 2100, "431"),
    "too many fields": (get(b"X: y\r\n" * 20), "431"),
    "too many trailers": (chunked(b"0\r\n" + b"X:\r\n" * 21 + b"\r\n"), "431"),
    "trailers that are too long": (chunked(b"0\r\nX: " + b"a" * 128 + b"\r\n\r\n"), "431"),
    "trailers without an end": (chunked(b"0\r\nX: " + b"a" * 200), "431"),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_two_servers_may_read_in_two_ways_is_refused(data: bytes, code: str) -> None:
    for pieces in ([data], single(data), [data[:7], data[7:-1], data[-1:]]):
        with pytest.raises(RemoteProtocolError) as raised:
            read(pieces)
        assert raised.value.code == code
        assert "\n" not in raised.value.message


@pytest.mark.parametrize("data", [get(b"X : a\r\n"), chunked(b"x\r\n")])
def test_a_reader_that_has_raised_raises_the_same_again(data: bytes) -> None:
    reader = RequestReader(LIMITS, "https")
    reader.feed(data)
    with pytest.raises(RemoteProtocolError) as first:
        while True:
            reader.next_event()
    reader.feed(get(b""))
    with pytest.raises(RemoteProtocolError) as second:
        reader.next_event()
    assert second.value is first.value


def test_a_limit_is_kept_to_the_byte() -> None:
    head = b"GET / HTTP/1.1\r\n" + H + b"X: %b\r\n\r\n"
    fits = LIMITS.head_bytes - (len(head) - len(b"%b") - 4)
    for pieces in (lambda data: [data], single):
        assert isinstance(read(pieces(head % (b"a" * fits)))[-1], MessageEnded)
        with pytest.raises(ProtocolError):
            read(pieces(head % (b"a" * (fits + 1))))


def test_a_request_that_was_sent_ahead_waits_until_it_is_asked_for() -> None:
    one, two = post(b"Content-Length: 2\r\n", b"hi"), get(b"X: 2\r\n")
    for pieces in ([one + two], [one, two], single(one + two)):
        reader = RequestReader(LIMITS, "http")
        for piece in pieces:
            reader.feed(piece)
        events = [reader.next_event(), reader.next_event(), reader.next_event(), reader.next_event()]
        assert [type(event) for event in events] == [RequestHead, Data, MessageEnded, type(None)]
        assert reader.has_ended
        assert not reader.is_idle
        assert reader.buffered == len(two)
        reader.start_next()
        head = reader.next_event()
        assert isinstance(head, RequestHead)
        assert head.headers == (("x", "2"),)
        assert head.scheme == "http"
        assert isinstance(reader.next_event(), MessageEnded)
        assert reader.next_event() is None
        assert reader.is_idle
        reader.feed_eof()


def test_what_one_request_said_of_framing_does_not_stick_to_the_next() -> None:
    """Known lines are read once; what they mean together is not carried over."""
    reader = RequestReader(LIMITS, "https")
    sizes = []
    for fields in (
        b"Content-Length: 2\r\n",
        b"",
        b"Content-Length: 2\r\n",
        b"Connection: close\r\n",
        b"",
        b"X: 1\r\n",
    ):
        reader.feed(post(fields, b"hi" if fields.startswith(b"Content") else b""))
        head = reader.next_event()
        assert isinstance(head, RequestHead)
        sizes.append((head.body_bytes, head.keep_alive, head.headers))
        while not isinstance(reader.next_event(), MessageEnded):
            pass
        reader.start_next()
    assert sizes == [
        (2, True, ()),
        (0, True, ()),
        (2, True, ()),
        (0, False, ()),
        (0, True, ()),
        (0, True, (("x", "1"),)),
    ]


def test_more_lines_than_are_remembered() -> None:
    reader = RequestReader(LIMITS, "https")
    for number in range(3000):
        reader.feed(get(b"X: %d\r\nY: %b\r\n" % (number, b"y" * (number % 3))))
        head = reader.next_event()
        assert isinstance(head, RequestHead)
        assert head.headers == (("x", str(number)), ("y", "y" * (number % 3)))
        reader.next_event()
        reader.start_next()


def test_what_comes_behind_a_change_of_protocol_is_kept_apart() -> None:
    reader = RequestReader(LIMITS, "https")
    reader.feed(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n\x16\x03\x01")
    assert isinstance(reader.next_event(), RequestHead)
    assert isinstance(reader.next_event(), MessageEnded)
    assert reader.next_event() is None
    assert reader.leftover() == b"\x16\x03\x01"
    assert reader.leftover() == b""


def test_the_end_between_messages_is_no_fault() -> None:
    reader = RequestReader(LIMITS, "https")
    assert reader.is_idle
    reader.feed_eof()
    assert reader.next_event() is None


def test_the_next_request_is_not_read_before_the_end_of_this_one() -> None:
    reader = RequestReader(LIMITS, "https")
    reader.feed(post(b"Content-Length: 2\r\n", b"h"))
    reader.next_event()
    with pytest.raises(LocalProtocolError):
        reader.start_next()

"""How a WebSocket begins, hop by hop. The key and its answer are those of RFC 6455, 1.3."""

from __future__ import annotations

import pytest

from protocols.http.messages import Headers, RequestHead, ResponseHead
from proxyd.gates.http.refusals import Refusal
from proxyd.gates.http.upgrades import (
    answer_to,
    changed,
    client_key,
    new_key,
    refuse_unchanged,
    refuse_unknown,
    with_key,
)

KEY, ANSWER = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def asked(*headers: tuple[str, str], version: str = "1.1", upgrade: str = "websocket") -> RequestHead:
    return RequestHead("GET", "/", "https", "a", headers, version, 0, upgrade=upgrade)


def answered(*headers: tuple[str, str]) -> ResponseHead:
    return ResponseHead(101, headers, 0, upgrade="websocket")


def test_the_answer_of_the_specification() -> None:
    assert answer_to(KEY) == ANSWER
    assert new_key(b"the sample nonce") == KEY
    assert with_key(asked(("a", "b")), KEY).headers == (("a", "b"), ("sec-websocket-key", KEY))


@pytest.mark.parametrize(
    ("sent", "headers", "client", "expected"),
    [
        (KEY, (("sec-websocket-accept", ANSWER),), "", ()),
        ("", (), KEY, (("sec-websocket-accept", ANSWER),)),
        ("", (), "", ()),
        (KEY, (("sec-websocket-accept", ANSWER),), KEY, (("sec-websocket-accept", ANSWER),)),
        ("", (("sec-websocket-accept", "forged"),), "", ()),
        ("", (("sec-websocket-extensions", "permessage-deflate"),), "", ()),
        ("", (("sec-websocket-protocol", "chat"),), "", (("sec-websocket-protocol", "chat"),)),
    ],
)
def test_each_side_gets_its_own_answer(sent: str, headers: Headers, client: str, expected: Headers) -> None:
    assert changed(answered(*headers), headers, sent, client) == answered(*expected)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("sec-websocket-accept", "wrong"),),
        (("sec-websocket-accept", ANSWER), ("sec-websocket-accept", ANSWER)),
    ],
)
def test_a_target_that_has_not_read_the_key_has_not_changed(headers: Headers) -> None:
    with pytest.raises(Refusal) as refused:
        changed(answered(*headers), headers, KEY, "")
    assert refused.value.status == 502


@pytest.mark.parametrize("keys", [(), ("",), ("short",), (KEY, KEY), (f"{KEY}\u00e4",), (KEY * 2,)])
def test_a_client_over_http1_has_one_sound_key(keys: tuple[str, ...]) -> None:
    head = asked(*(("sec-websocket-key", key) for key in keys))
    with pytest.raises(Refusal) as refused:
        client_key(head)
    assert refused.value.status == 400


def test_a_client_over_http2_has_none_or_is_answered_all_the_same() -> None:
    assert client_key(asked(("sec-websocket-key", KEY))) == KEY
    assert client_key(asked(version="2")) == ""
    assert client_key(asked(("sec-websocket-key", "whatever"), version="2")) == ""
    assert client_key(asked(("sec-websocket-key", KEY), version="2")) == KEY


def test_protocols_that_are_not_spoken_over_http2() -> None:
    with pytest.raises(Refusal) as refused:
        refuse_unknown(asked(version="2", upgrade="connect-udp"))
    assert refused.value.status == 501
    refuse_unknown(asked(version="2"))
    refuse_unknown(asked(upgrade="connect-udp"))  # over HTTP/1.1 the policy says no
    refuse_unknown(asked(upgrade=""))


@pytest.mark.parametrize("status", [200, 204, 206])
def test_over_http2_no_other_success_reaches_the_client(status: int) -> None:
    with pytest.raises(Refusal) as refused:
        refuse_unchanged(asked(version="2"), ResponseHead(status, ()))
    assert refused.value.status == 502
    refuse_unchanged(asked(version="2"), ResponseHead(403, ()))
    refuse_unchanged(asked(), ResponseHead(status, ()))
    refuse_unchanged(asked(version="2", upgrade=""), ResponseHead(status, ()))

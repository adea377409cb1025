"""Server-sent events under masks, whatever their line ends and wherever they are cut."""

from __future__ import annotations

import json

import pytest

from proxyd.gates.http.bodies import BodyLimits, BodyRefused, mask_message, transformer_for
from tests.proxyd.gates.http.bodies.body_masks import (
    BOTH,
    CARD,
    DETECT,
    EMAIL,
    REDACT,
    Masks,
    masks,
    transformed,
)

EVENTS = "text/event-stream"

STREAM = (
    b"\xef\xbb\xbf: hello\nretry: 10\n\n"
    b'event: message\nid: 1\ndata: {"email": "bob",\ndata:  "a": 1}\n\n'
    b'data:{"email":"bob"}\n\n'
    b"data\n\ndata: [DONE]\n\n"
    b'data: "just a string"\n\ndata: words\n\n'
)
MASKED = STREAM.replace(b'"bob"', b'"[redacted]"')


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_are_masked_wherever_they_are_cut(end: bytes) -> None:
    stream, expected = STREAM.replace(b"\n", end), MASKED.replace(b"\n", end)
    # JSON over several lines of data is written with the line ends of the stream.
    assert transformed(EVENTS, stream)[0] == expected
    for cut in range(len(stream)):
        transformer = transformer_for(EVENTS, EMAIL)
        assert transformer is not None
        out = transformer.feed(stream[:cut]) + transformer.feed(stream[cut:]) + transformer.finish()
        assert out == expected
    for pieces in (1, 2, 3):
        assert transformed(EVENTS, stream, pieces=pieces) == (expected, {"redact": 2})


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_leaves_as_soon_as_its_blank_line_has_come(end: bytes) -> None:
    transformer = transformer_for(EVENTS, BOTH)
    assert transformer is not None
    event = b'data: {"email":"bob"}' + end + end
    masked = event.replace(b"bob", b"[redacted]")
    blank = len(end)
    for _ in range(3):
        assert transformer.feed(event[:-blank]) == b""
        out = [transformer.feed(event[-blank:][:1])]
        out.append(transformer.feed(event[-blank:][1:]))
        assert b"".join(out) == masked
        assert out[0]  # with the first character of the blank line's end, if that is a line end itself


def test_an_event_that_does_not_end_is_masked_too() -> None:
    for data in (b'data: {"email":"bob"}', b'data: {"email":"bob"}\n', b'data: {"email":"bob"}\r'):
        assert transformed(EVENTS, data)[0] == data.replace(b"bob", b"[redacted]")


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"email":"bob"\n\n',
        b"data: email: bob\n\n",
        b'{"email":"bob"}\n\n',
        b'Data: {"email":"bob"}\n\n',
        b' data: {"email":"bob"}\n\n',
        b': {"email":"bob"}\n\n',
        b'id: {"email":"bob"}\n\n',
        b"event: email=bob\n\n",
        b"data: \xff\n\n",
        b"data: e\x00m\x00a\x00i\x00l\x00\xff\n\n",
        b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n",
        b'data: {"a":"' + b"x" * 5000,
        b'data: {"a":1}\n' * 500,
        b": " + b"x" * 5000,
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_what_cannot_be_masked_is_refused(data: bytes, pieces: int | None) -> None:
    with pytest.raises(BodyRefused):
        transformed(EVENTS, data, pieces=pieces, limits=BodyLimits(event_bytes=4000))


@pytest.mark.parametrize("these", [DETECT, BOTH])
def test_detectors_look_at_every_line(these: Masks) -> None:
    data = f": {CARD}\nid: {CARD}\ndata: {CARD}\n\ndata: {json.dumps({'a': [CARD]})}\n\n".encode()
    out, counts = transformed(EVENTS, data, these, pieces=3)
    assert out == b': <card>\nid: <card>\ndata: <card>\n\ndata: {"a": ["<card>"]}\n\n' and counts == {
        "card": 4
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"email":"bob"}', '{"email":"[redacted]"}'),
        ('\ufeff{"email":"bob"}', '\ufeff{"email":"[redacted]"}'),
        (json.dumps(json.dumps({"email": "bob"})), json.dumps(json.dumps({"email": "[redacted]"}))),
        ("hello", "hello"),
        ("", ""),
        (" ", " "),
        (f"{CARD}", "<card>"),
        (f'{{"a":"{CARD}"', '{"a":"<card>"'),
    ],
)
def test_messages(text: str, expected: str) -> None:
    assert mask_message(text, BOTH)[0] == expected
    assert mask_message(text, masks()) == (text, {})


@pytest.mark.parametrize("text", ['{"email":"bob"', "email: bob", '{"email":"bob"} {}', "\ud800 email"])
def test_messages_that_cannot_be_masked_are_refused(text: str) -> None:
    with pytest.raises(BodyRefused):
        mask_message(text, EMAIL)


def test_no_message_but_json_passes_where_masks_have_no_name() -> None:
    everything = masks(("$..*", REDACT))
    assert mask_message('{"a":1}', everything)[0] == '{"a":0}'
    with pytest.raises(BodyRefused):
        mask_message("hello", everything)

"""Detectors at the PostgreSQL gate: values of every type, rows, COPY data and texts, and what does not fit its type."""

from __future__ import annotations

import struct

import pytest

from policy.detectors import Detection
from policy.masking import Fixed, Mask, Null
from protocols.errors import RemoteProtocolError
from protocols.postgres.messages import (
    BIND_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    Bind,
    CopyData,
    CopyDone,
    CopyResponse,
    Describe,
    Execute,
    NotificationResponse,
    Parse,
    Query,
    command_complete,
    data_row,
    error_response,
    notice,
    ready_for_query,
    row_description,
)
from protocols.postgres.values import binary_from_text
from proxyd.gates.postgres.detecting.rows import RowDetection
from proxyd.gates.postgres.detecting.values import VALUE_FAULTS, ValueDetection
from tests.proxyd.gates.postgres.playbook import NO_MASKS, POLICY, TEXT, InForce, Playbook, column

MAIL = b"alice@example.com"
CARD = b"4111111111111111"
READY = ready_for_query("I")
DETECT = """
masks:
  - {name: found, detect: [email, credit_card, ip]}
"""
ONE = row_description([column("one")])
ASK = Query("select 'x'").encode()

BOOL, BYTEA, NAME, INT8, INT4, XML, JSON, JSONB = 16, 17, 19, 20, 23, 142, 114, 3802
FLOAT8, NUMERIC, INET, UUID, RECORD, TEXTS, INT8S, JSONS = 701, 1700, 869, 2950, 2249, 1009, 1016, 3807
UNKNOWN_TYPE = 99_999


def values(*kinds: str, mask: Mask | None = None, own: dict[str, str] | None = None) -> ValueDetection:
    detection = Detection.of([(kinds or ("email", "credit_card", "ip"), mask)], own)
    assert detection is not None
    return ValueDetection(detection)


def seen(
    type_oid: int, value: bytes, *, binary: bool = False, found: ValueDetection | None = None
) -> bytes | None:
    rewrite = (found or values()).rewriter(type_oid, int(binary))
    return value if rewrite is None else rewrite(value)


@pytest.mark.parametrize(
    ("type_oid", "value", "wanted"),
    [
        (TEXT, b"to alice@example.com", b"to <email>"),
        (NAME, MAIL, b"<email>"),
        (XML, b"<a>alice@example.com</a>", b"<a>&lt;email&gt;</a>"),
        (JSON, b'{"a" : "alice@example.com" }', b'{"a" : "<email>" }'),
        (JSON, b'{"alice@example.com": 1}', b'{"<email>": 1}'),
        (JSON, b'{"n": 4111111111111111, "m": 2}', b'{"n": "<credit_card>", "m": 2}'),
        (JSON, b'"alice\\u0040example.com"', b'"<email>"'),
        (JSON, b'"\\"alice@example.com\\""', b'"\\"<email>\\""'),
        (JSON, b'"half \\ud83d alice@example.com"', b'"half \\ud83d <email>"'),
        (JSON, b'["\\n", 1.0, 1e5, null]', b'["\\n", 1.0, 1e5, null]'),
        (JSON, b"broken alice@example.com", b'"[redacted]"'),
        (JSONS, b'{"{\\"a\\": \\"alice@example.com\\"}",NULL}', b'{"{\\"a\\": \\"<email>\\"}",NULL}'),
        (BYTEA, b"\\x" + MAIL.hex().encode(), b"\\x" + b"<email>".hex().encode()),
        (BYTEA, b"alice@example.com\\000", b"\\x" + b"<email>\0".hex().encode()),
        (INT8, CARD, None),
        (NUMERIC, CARD, None),
        (INET, b"10.0.0.1/24", None),
        (INT4, b"411111111", b"411111111"),
        (UUID, b"550e8400-e29b-41d4-a716-446655440000", b"550e8400-e29b-41d4-a716-446655440000"),
        (TEXTS, b'{alice@example.com,"a,b",NULL}', b'{<email>,"a,b",NULL}'),
        (INT8S, b"{1,4111111111111111}", b"{1,NULL}"),
        (UNKNOWN_TYPE, b"(1,alice@example.com,)", b"(1,<email>,)"),
        (UNKNOWN_TYPE, b'"a"=>"alice@example.com"', b'"a"=>"<email>"'),
    ],
)
def test_values_in_text_form(type_oid: int, value: bytes, wanted: bytes | None) -> None:
    assert seen(type_oid, value) == wanted


def field(oid: int, value: bytes | None) -> bytes:
    return struct.pack(">Ii", oid, -1 if value is None else len(value)) + (value or b"")


def array(oid: int, *elements: bytes | None) -> bytes:
    head = struct.pack(">iiIii", 1, int(None in elements), oid, len(elements), 1)
    return head + b"".join(struct.pack(">i", -1 if e is None else len(e)) + (e or b"") for e in elements)


@pytest.mark.parametrize(
    ("type_oid", "value", "wanted"),
    [
        (TEXT, MAIL, b"<email>"),
        (BYTEA, b"\0" + MAIL + b"\0", b"\0<email>\0"),
        (JSONB, b'\1{"a": "alice@example.com"}', b'\1{"a": "<email>"}'),
        (JSONB, b'\1{"a": 1}', b'\1{"a": 1}'),
        (INT8, struct.pack(">q", int(CARD)), None),
        (INT8, struct.pack(">q", 5), struct.pack(">q", 5)),
        (NUMERIC, binary_from_text(NUMERIC, CARD.decode()), None),
        (INET, binary_from_text(INET, "10.0.0.1"), None),
        (TEXTS, array(TEXT, MAIL, None), array(TEXT, b"<email>", None)),
        (TEXTS, array(TEXT, b"x"), array(TEXT, b"x")),
        (INT8S, array(INT8, struct.pack(">q", int(CARD))), array(INT8, None)),
        (TEXTS, struct.pack(">iiI", 0, 0, TEXT), struct.pack(">iiI", 0, 0, TEXT)),
        (UNKNOWN_TYPE, array(UNKNOWN_TYPE, MAIL), array(UNKNOWN_TYPE, b"<email>")),
        (
            RECORD,
            struct.pack(">i", 3) + field(INT4, b"\0\0\0\1") + field(TEXT, MAIL) + field(TEXT, None),
            struct.pack(">i", 3) + field(INT4, b"\0\0\0\1") + field(TEXT, b"<email>") + field(TEXT, None),
        ),
        (
            UNKNOWN_TYPE,
            struct.pack(">i", 1) + field(RECORD, struct.pack(">i", 1) + field(TEXT, MAIL)),
            struct.pack(">i", 1) + field(RECORD, struct.pack(">i", 1) + field(TEXT, b"<email>")),
        ),
        (UNKNOWN_TYPE, b"alice@example.com", b"<email>"),
        (UNKNOWN_TYPE, b"\0\0\0\x07\xfe alice@example.com", None),
        (UNKNOWN_TYPE, b"\0\0\0\x07\xfe", b"\0\0\0\x07\xfe"),
    ],
)
def test_values_in_binary_form(type_oid: int, value: bytes, wanted: bytes | None) -> None:
    assert seen(type_oid, value, binary=True) == wanted


@pytest.mark.parametrize(
    ("type_oid", "value", "binary"),
    [
        (TEXTS, b"{alice@example.com", False),
        (BYTEA, b"\\xzz", False),
        (NUMERIC, b"\0", True),
        (INT8, b"\0", True),
        (TEXTS, b'{"\xff"}', False),
    ],
)
def test_a_value_that_is_not_of_its_type_is_a_fault(type_oid: int, value: bytes, binary: bool) -> None:
    with pytest.raises(VALUE_FAULTS):
        seen(type_oid, value, binary=binary)


def test_stand_ins_that_would_change_a_composite_are_left_to_the_token() -> None:
    quoting = values("email", mask=Mask("m", Fixed('a",("b')))
    assert seen(UNKNOWN_TYPE, b"(alice@example.com,2)", found=quoting) == b"(<email>,2)"
    assert seen(TEXT, MAIL, found=quoting) == b'a",("b'
    assert seen(JSON, b'"alice@example.com"', found=quoting) == b'"a\\",(\\"b"'
    assert seen(TEXTS, b"{alice@example.com}", found=quoting) == b'{"a\\",(\\"b"}'
    assert seen(TEXT, MAIL, found=values("email", mask=Mask("m", Null()))) == b""


def test_only_types_that_can_hold_what_is_looked_for_are_looked_at() -> None:
    assert values("email").rewriter(INT8, 0) is None
    assert values("email").rewriter(INET, 1) is None
    assert values("credit_card").rewriter(INT8, 1) is not None
    own = values("badge", own={"badge": "^[0-9]{6}$"})
    assert seen(INT4, b"123456", found=own) is None
    assert seen(INT4, struct.pack(">i", 123456), binary=True, found=own) is None
    assert seen(FLOAT8, b"1.5", found=own) == b"1.5"


# --- rows ---


@pytest.mark.parametrize("length", [*range(40, 70), 0x61 - 17])
def test_lengths_beside_a_value_do_not_hide_it(length: int) -> None:
    """The last byte of a length is a letter or digit for many lengths, and stands right before the value."""
    found = values()
    rows = RowDetection(found, [column("a"), column("b")], (0, 0))
    value = CARD + b" " * (length - len(CARD))
    run = data_row([value, MAIL + b"x" * 0]) * 2
    assert rows.rewrite(run) == data_row([b"<credit_card>" + b" " * (length - len(CARD)), b"<email>"]) * 2


def test_rows_without_a_find_are_the_very_bytes() -> None:
    rows = RowDetection(values(), [column("a"), column("b", kind=INT8, fmt=1)], (0, 1))
    run = data_row([b"nothing", struct.pack(">q", 7)]) + data_row([None, None]) + data_row([b"", None])
    assert rows.rewrite(run) is run


@pytest.mark.parametrize(
    "row",
    [
        data_row([MAIL, MAIL]),
        data_row([MAIL])[:-1],
        data_row([MAIL])[:7] + b"\0\0\0\x60" + MAIL,
        data_row([MAIL])[:7] + b"\xff\xff\xff\xf0" + MAIL,
        data_row([MAIL])[:4] + b"\x30" + data_row([MAIL])[5:] + b"x" * 20,
    ],
)
def test_a_malformed_row_is_refused(row: bytes) -> None:
    rows = RowDetection(values(), [column("a")], (0,))
    with pytest.raises(RemoteProtocolError):
        rows.rewrite(row)


# --- sessions ---


def test_a_result_under_detectors_alone() -> None:
    play = Playbook(policy=NO_MASKS + DETECT)
    play.client(ASK).forwards(ASK)
    play.target(ONE, data_row([MAIL]), data_row([None]), command_complete("SELECT 2"), READY)
    play.tells(ONE, data_row([b"<email>"]), data_row([None]), command_complete("SELECT 2"), READY)
    assert play.events == ["detected"]
    assert play.state.detected == {"email": 1}
    play.done()


def test_an_execute_without_a_describe_asks_for_one() -> None:
    play = Playbook(policy=NO_MASKS + DETECT)
    parse, bind, execute = Parse(b"", "select 'x'").encode(), Bind(b"", b"").encode(), Execute(b"").encode()
    ask = Describe("P", b"").encode()
    play.client(parse, bind, execute, SYNC).forwards(parse, bind, ask, execute, SYNC)
    play.target(PARSE_COMPLETE, BIND_COMPLETE, ONE, data_row([MAIL]), command_complete("SELECT 1"), READY)
    play.tells(PARSE_COMPLETE, BIND_COMPLETE, data_row([b"<email>"]), command_complete("SELECT 1"), READY)
    assert play.events == ["detected"]
    play.done()


def test_a_value_that_cannot_be_taken_apart_withholds_the_result() -> None:
    play = Playbook(policy=NO_MASKS + DETECT)
    described = row_description([column("a", kind=TEXTS)])
    play.client(ASK).forwards(ASK)
    play.target(described, data_row([b"{alice@example.com"]), command_complete("SELECT 1"), READY)
    assert described in play.told
    assert MAIL not in play.told


def test_errors_notices_and_notifications_are_texts_too() -> None:
    play = Playbook(policy=NO_MASKS + DETECT)
    play.client(ASK).forwards(ASK)
    said = "for alice@example.com"
    play.target(
        notice("NOTICE", "00000", said, detail=said),
        NotificationResponse(1, "news", said).encode(),
        error_response("ERROR", "22P02", said, detail=said, hint=said),
        READY,
    )
    assert play.told.count(b"for <email>") == 6
    assert b"alice" not in play.told


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_copy_in_pieces(size: int) -> None:
    play = Playbook(policy=NO_MASKS + DETECT)
    ask = Query("copy shop.customers to stdout").encode()
    play.client(ask).forwards(ask)
    begun = CopyResponse("out", 0, (0, 0)).encode()
    data = b"1\talice@example.com\n2\tplain\n3\t4111-1111-1111-1111\n"
    pieces = [CopyData(data[at : at + size]).encode() for at in range(0, len(data), size)]
    play.target(begun, *pieces, CopyDone().encode(), command_complete("COPY 3"), READY)
    assert b"1\t<email>\n" in play.told
    assert b"3\t<credit_card>\n" in play.told
    assert b"alice" not in play.told


def test_a_policy_with_detectors_is_felt_at_the_next_statement() -> None:
    play = Playbook(policy=NO_MASKS)
    reply = (ONE, data_row([MAIL]), command_complete("SELECT 1"), READY)
    play.client(ASK).forwards(ASK)
    play.target(*reply).tells(*reply)
    assert not play.state.takes_rows_apart
    with_detectors = Playbook(policy=NO_MASKS + DETECT).in_force.document
    play.in_force = InForce(with_detectors, serial=2)
    play.client(ASK).forwards(ASK)
    play.target(*reply).tells(ONE, data_row([b"<email>"]), command_complete("SELECT 1"), READY)
    assert play.state.takes_rows_apart
    assert play.events == ["detected"]
    play.done()


def test_columns_of_other_masks_are_not_looked_at() -> None:
    policy = POLICY.replace("method: redact", 'method: {fixed: {value: "no@example.com"}}')
    play = Playbook(policy=policy + "  - {name: found, detect: [email]}\n")
    ask = Query("select email from shop.customers").encode()
    described = row_description([column("email", 20001, 2)])
    play.client(ask).forwards(ask)
    play.target(described, data_row([MAIL]), command_complete("SELECT 1"), READY)
    play.tells(described, data_row([b"no@example.com"]), command_complete("SELECT 1"), READY)
    play.done()

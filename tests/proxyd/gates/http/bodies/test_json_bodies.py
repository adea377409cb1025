"""JSON under masks is what it would be if it were parsed, masked and compared, in whatever pieces it comes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.detectors import Match
from policy.json_paths import JsonPath
from policy.masking import Fixed, Mask
from proxyd.gates.http.bodies import BodyLimits, BodyRefused
from tests.proxyd.gates.http.bodies.body_masks import (
    BOTH,
    CARD,
    CARDS,
    DETECT,
    EMAIL,
    FIXED,
    KEY,
    METHODS,
    NULL,
    PARTIAL,
    PSEUDONYM,
    REDACT,
    Cards,
    Masks,
    masks,
    transformed,
)

JSON = "application/json"

# --- the model: masking of a parsed document, written apart from what is tested ---------------------------------

Steps = tuple[str | int, ...]


def places(document: object, at: Steps = ()) -> Iterator[tuple[Steps, object]]:
    yield at, document
    if isinstance(document, dict):
        for name, value in document.items():
            yield from places(value, (*at, name))
    if isinstance(document, list):
        for index, value in enumerate(document):
            yield from places(value, (*at, index))


def on_path(path: JsonPath, at: Steps) -> bool:
    """Does the path lead to this place? Tried segment by segment, with every way to skip."""

    def tried(segment: int, step: int) -> bool:
        if segment == len(path.segments):
            return step == len(at)
        if step == len(at):
            return False
        here = path.segments[segment]
        taken = at[step]
        fits = (
            here.is_any
            or (here.name is not None and isinstance(taken, str) and taken.casefold() == here.name.casefold())
            or (here.index is not None and taken == here.index and isinstance(taken, int))
        )
        return (fits and tried(segment + 1, step + 1)) or (here.is_deep and tried(segment, step + 1))

    return tried(0, 0)


def modelled(node: object, these: Masks, at: Steps = (), above: Mask | None = None) -> object:
    here = [mask for path, mask in these.json if on_path(path, at)]
    mask = min([*here, *([above] if above else [])], key=lambda mask: mask.concealment, default=None)
    if isinstance(node, dict):
        if mask is not None and mask not in (PARTIAL, PSEUDONYM):
            return None if mask is NULL else {}
        return {name: modelled(value, these, (*at, name), mask) for name, value in node.items()}
    if isinstance(node, list):
        if mask is not None and mask not in (PARTIAL, PSEUDONYM):
            return None if mask is NULL else []
        return [modelled(value, these, (*at, index), mask) for index, value in enumerate(node)]
    return node if mask is None else leaf(mask, node)


def leaf(mask: Mask, value: object) -> object:
    if value is None or mask is NULL:
        return None
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return mask.apply(value, "text")
    if mask is PSEUDONYM:
        return json.loads(mask.apply(json.dumps(value), "json") or "")
    return 0


NAMES = st.sampled_from(
    ["email", "Email", "EMAIL", "user", "id", "\u017fsn", "ssn", "nême", "e\\mail", "", 'a"b']
)
# Not those that begin like documents: what becomes of them is tried below.
TEXTS = st.text(max_size=12).map(lambda text: text.lstrip(' \t\r\n\ufeff"[{')) | st.sampled_from(
    ["bob@example.org", "\\", "\ud83d\ude00", 'x"', "a\n\u2028"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(NAMES, inside, max_size=5),
    max_leaves=30,
)
PATHS = st.sampled_from(
    [
        "$",
        "$.email",
        "$..email",
        "$..ssn",
        "$.user.email",
        "$..user.email",
        "$..user..email",
        "$[*].email",
        "$.*",
        "$..*",
        "$[1]",
        "$..[0]",
        "$.user[*].*",
        "$..user",
        "$['nême']",
    ]
)
MASKS = st.lists(st.tuples(PATHS, st.sampled_from(METHODS)), min_size=1, max_size=3)
WRITTEN = st.fixed_dictionaries(
    {
        "indent": st.none() | st.integers(0, 3),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")]),
    }
)


@settings(max_examples=100, deadline=None)
@given(document=DOCUMENTS, chosen=MASKS, writing=WRITTEN, pieces=st.integers(1, 40) | st.none())
def test_the_same_as_parsed_and_masked(
    document: object, chosen: list[tuple[str, Mask]], writing: dict[str, object], pieces: int | None
) -> None:
    these = masks(*chosen)
    data = json.dumps(document, **writing).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]
    try:
        data.decode()
    except UnicodeDecodeError:
        data = json.dumps(document).encode()
    out, _ = transformed(JSON, data, these, pieces=pieces)
    assert json.loads(out) == modelled(json.loads(data), these)
    assert out == transformed(JSON, data, these)[0]


@settings(max_examples=100, deadline=None)
@given(document=DOCUMENTS, writing=WRITTEN, pieces=st.integers(1, 40) | st.none())
def test_what_is_not_masked_stays_byte_for_byte(
    document: object, writing: dict[str, object], pieces: int | None
) -> None:
    data = json.dumps(document, **{**writing, "ensure_ascii": True}).encode()  # type: ignore[arg-type]
    out, counts = transformed(JSON, data, masks(("$..absent", REDACT), ("$.x[*].y", NULL)), pieces=pieces)
    assert (out, counts) == (data, {})


RECORD = (
    b'{"a": 1.50e+3,\r\n "email" :\t"b\\u006fb@x", "list":[ 1 ,-0, 1E5,"\\/"],"n":null ,"o":{"Email":{"q":[1,"x"]},'
    b'"\\u0065mail":true,"z":"\xc3\xa9"}}'
)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (REDACT, (b'"[redacted]"', b"{}", b"false")),
        (NULL, (b"null", b"null", b"null")),
        (FIXED, (b'"gone"', b"{}", b"false")),
        (PARTIAL, (b'"***@x"', b'{"q":[0,"*"]}', b"false")),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1, 2, 7])
def test_only_the_masked_values_change(mask: Mask, expected: tuple[bytes, ...], pieces: int | None) -> None:
    string, inner, boolean = expected
    out, _ = transformed(JSON, RECORD, masks(("$..email", mask)), pieces=pieces)
    assert out == RECORD.replace(b'"b\\u006fb@x"', string).replace(b'{"q":[1,"x"]}', inner).replace(
        b"true", boolean
    )


def test_pseudonyms_are_those_of_other_doors() -> None:
    out, counts = transformed(
        JSON, b'{"email":"bob","n":{"email":["bob",7,{"a":7}]}}', masks(("$..email", PSEUDONYM))
    )
    found = json.loads(out)
    text, number = PSEUDONYM.apply("bob", "text"), json.loads(PSEUDONYM.apply("7", "json") or "")
    assert found == {"email": text, "n": {"email": [text, number, {"a": number}]}}
    assert KEY not in out and counts == {"pseudonym": 4}


def test_the_most_concealing_mask_wins_at_a_place_and_inside_of_it() -> None:
    these = masks(("$.user", PARTIAL), ("$..email", REDACT), ("$.user.email", PARTIAL))
    out, _ = transformed(JSON, b'{"user":{"email":"bob@x.org","name":"Robert"}}', these)
    assert json.loads(out) == {"user": {"email": "[redacted]", "name": "R***rt"}}


def test_a_name_that_stands_twice_is_masked_each_time() -> None:
    for pieces in (None, 1):
        out, _ = transformed(JSON, b'{"email":"a","email":"b","x":{"email":"c","Email":"d"}}', pieces=pieces)
        assert out.count(b'"[redacted]"') == 4


# --- strict -----------------------------------------------------------------------------------------------------

WHOLE = b'{"email":"a\\"b","x":[1,-2.5e3,true,null,{"y":"\xc3\xa9"}],"z":{"email":[{}]}}'


@pytest.mark.parametrize("these", [EMAIL, BOTH, DETECT, masks(("$..*", PARTIAL)), masks(("$", REDACT))])
@pytest.mark.parametrize("pieces", [None, 1])
def test_a_document_that_is_cut_is_refused_wherever_it_is_cut(these: Masks, pieces: int | None) -> None:
    assert transformed(JSON, WHOLE, these, pieces=pieces)
    for end in range(1, len(WHOLE)):
        with pytest.raises(BodyRefused):
            transformed(JSON, WHOLE[:end], these, pieces=pieces)


BROKEN = [
    b'{"a":1}}',
    b'{"a":1} x',
    b'{"a":1}{"email":"x"}',
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b'{"a" 1}',
    b'{"a":}',
    b'{"a":1,}',
    b"{a:1}",
    b"{'a':1}",
    b"[01]",
    b"[1.]",
    b"[.5]",
    b"[+1]",
    b"[1e]",
    b"[--1]",
    b"[NaN]",
    b"[Infinity]",
    b"[-Infinity]",
    b"[True]",
    b"[nul]",
    b"[truex]",
    b"]",
    b"}",
    b"[}",
    b'{"a":1]',
    b'["a\nb"]',
    b'["a\x00b"]',
    b'["\\x41"]',
    b'["\\u12g4"]',
    b'["\xff"]',
    b'["\xed\xa0\x80"]',
    b'["\xc3',
    b"[1]//c",
    b"[/*c*/1]",
    b"\x00{}",
    "{}".encode("utf-16"),
    "{}".encode("utf-16-le"),
    "{}".encode("utf-32"),
    b"\xef\xbb\xbf\xef\xbb\xbf{}",
    b")]}'{",
    b'{"email":"x"}\x0b',
    b"hello",
]


@pytest.mark.parametrize("data", BROKEN)
@pytest.mark.parametrize("these", [EMAIL, BOTH, masks(("$", PARTIAL)), masks(("$", NULL))])
@pytest.mark.parametrize("pieces", [None, 1, 3])
def test_broken_json_is_refused(data: bytes, these: Masks, pieces: int | None) -> None:
    with pytest.raises(BodyRefused) as refused:
        transformed(JSON, data, these, pieces=pieces)
    assert refused.value.reason and refused.value.hint


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b" \r\n", b" \r\n"),
        (b"\xef\xbb\xbf", b"\xef\xbb\xbf"),
        (b' "x" ', b' "x" '),
        (b"12", b"12"),
        (b"null", b"null"),
        (b'\xef\xbb\xbf{"email":1}', b'\xef\xbb\xbf{"email":0}'),
        (b')]}\',\n{"email":1}', b')]}\',\n{"email":0}'),
        (b')]}\'\n{"email":1}', b')]}\'\n{"email":0}'),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_what_stands_before_a_document_passes(data: bytes, expected: bytes, pieces: int | None) -> None:
    assert transformed(JSON, data, pieces=pieces)[0] == expected


# --- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("these", [EMAIL, masks(("$", REDACT)), masks(("$", PARTIAL)), DETECT])
@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'[{"email":'])
def test_depth_is_bounded(these: Masks, unit: bytes) -> None:
    with pytest.raises(BodyRefused, match="deeper than 200"):
        transformed(JSON, unit * 1000, these)
    with pytest.raises(BodyRefused, match="deeper than 200"):
        transformed(JSON, b"[" * 201 + b"]" * 201, these)
    deep = b"[" * 200 + b"]" * 200
    assert transformed(JSON, deep, masks(("$.x", REDACT)))[0] == deep


def fed(
    these: Masks, first: bytes, repeated: bytes, times: int, last: bytes, limits: BodyLimits
) -> tuple[int, int]:
    """Bytes that came out, and the most that one feed gave."""
    from proxyd.gates.http.bodies import transformer_for

    transformer = transformer_for(JSON, these, limits=limits)
    assert transformer is not None
    sizes = [len(transformer.feed(first))]
    sizes += [len(transformer.feed(repeated)) for _ in range(times)]
    sizes += [len(transformer.feed(last)), len(transformer.finish())]
    return sum(sizes), max(sizes)


SMALL = BodyLimits(held_bytes=1000)


def test_a_long_string_streams_where_it_does_not_have_to_be_held() -> None:
    total, most = fed(EMAIL, b'{"a":"', b"x" * 100, 1000, b'"}', SMALL)
    assert total == 100_008 and most <= 101
    total, most = fed(EMAIL, b'{"email":"', b"x" * 100, 1000, b'"}', SMALL)
    assert total == len(b'{"email":"[redacted]"}')


@pytest.mark.parametrize(
    ("these", "first"),
    [
        (masks(("$..email", PARTIAL)), b'{"email":"'),
        (masks(("$..email", PSEUDONYM)), b'{"email":"'),
        (EMAIL, b'{"a":"['),
        (EMAIL, b'{"'),
        (EMAIL, b"[1"),
    ],
)
def test_a_value_that_has_to_be_held_is_bounded(these: Masks, first: bytes) -> None:
    filler = b"1" * 100
    with pytest.raises(BodyRefused, match="1000 bytes"):
        fed(these, first, filler, 1000, b'"}', SMALL)


@pytest.mark.parametrize("first", [rb"\n\nHere", rb"\u003cdiv", rb" \t x", "é".encode(), rb"\\"])
@pytest.mark.parametrize("pieces", [1, 100])
def test_a_long_string_that_begins_with_an_escape_streams(first: bytes, pieces: int) -> None:
    data = b'{"a":"' + first + b"x" * 5000 + b'"}'
    assert transformed(JSON, data, pieces=pieces, limits=SMALL)[0] == data


@pytest.mark.parametrize("first", [rb"\ufeff\n", rb" \u0020\u000a\t", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pieces", [None, 1, 2, 5])
def test_blanks_hide_no_document_in_a_string(first: bytes, pieces: int | None) -> None:
    for opening in (rb"{\"", rb"\u007b\u0022", rb"[{\"", rb"\u005B\u007B\u0022"):
        close = b"}]" if b"5B" in opening or b"[" in opening else b"}"
        data = b'{"a":"' + first + opening + rb"email\":\"bob\"" + close + b'","z":1}'
        out, _ = transformed(JSON, data, pieces=pieces)
        assert b"bob" not in out and json.loads(json.loads(out)["a"].lstrip("\ufeff \n\t"))


def test_a_masked_array_of_any_length_is_dropped_as_it_comes() -> None:
    total, most = fed(EMAIL, b'{"email":[0', b',{"a":[1,"x"]}' * 10, 1000, b"]}", SMALL)
    assert total == len(b'{"email":[]}') and most <= len(b'{"email":[]')


# --- strings that hold documents --------------------------------------------------------------------------------


def quoted(*layers: str) -> str:
    text = layers[0]
    for _ in layers[1:]:
        text = json.dumps(text)
    return text


@pytest.mark.parametrize(
    "inner",
    [
        '{"email":"bob@x.org"}',
        ' \n[{"a":{"Email":"bob@x.org"}}]',
        '\ufeff{"email":"bob@x.org"}',
        json.dumps('{"email":"bob@x.org"}'),
        json.dumps({"data": json.dumps({"email": "bob@x.org"})}),
        '{"email":"bob@x.org"',
        "{'email':'bob@x.org'}",
        '[{"email":"bob@x.org"},...',
        '{"email":"bob@x.org","email":"bob@x.org"} trailing',
    ],
)
@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("these", [EMAIL, BOTH])
@pytest.mark.parametrize("pieces", [None, 1])
def test_documents_in_strings_are_masked_too(
    inner: str, ensure_ascii: bool, these: Masks, pieces: int | None
) -> None:
    data = json.dumps({"id": 1, "payload": inner, "list": [inner, inner]}, ensure_ascii=ensure_ascii).encode()
    for body in (data, data.replace(b"{\\", b"\\u007b\\")):
        out, counts = transformed(JSON, body, these, pieces=pieces)
        assert b"bob" not in out and counts["redact"] >= 3
        assert json.loads(out)["id"] == 1


@pytest.mark.parametrize(
    "text", ["[info] started", "{name} is here", "{}", "[]", '"quoted" text', "{", "[[["]
)
def test_strings_that_only_look_like_documents_stay(text: str) -> None:
    data = json.dumps({"a": text, "b": [text]}).encode()
    assert transformed(JSON, data)[0] == data


def test_the_path_goes_on_inside_a_string() -> None:
    data = json.dumps({"data": json.dumps({"email": "bob", "name": "x"}), "email": "y"}).encode()
    out, _ = transformed(JSON, data, masks(("$.data.email", REDACT)))
    assert json.loads(json.loads(out)["data"]) == {"email": "[redacted]", "name": "x"}
    assert json.loads(out)["email"] == "y"


# --- detectors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [None, 1, 5])
@pytest.mark.parametrize("these", [DETECT, BOTH])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"a": CARD}, {"a": "<card>"}),
        ({"a": [f"pay {CARD} now", 1]}, {"a": ["pay <card> now", 1]}),
        ({CARD: 1}, {"<card>": 1}),
        ({"n": 4111111111111111}, {"n": "<card>"}),
        ({"n": 41111111111111111}, {"n": 41111111111111111}),
        ({"a": "E-1234", "b": "xE-1234"}, {"a": "<code>", "b": "xE-1234"}),
        ({"a": "4111", "b": "1111 1111 1111"}, {"a": "4111", "b": "1111 1111 1111"}),
        ({"a": f'"{CARD}"\n'}, {"a": '"<card>"\n'}),
        ({"a": "x\nE-1234\ny"}, {"a": "x\n<code>\ny"}),
    ],
)
def test_detectors_look_at_every_value_by_itself(
    body: object, expected: object, these: Masks, pieces: int | None
) -> None:
    out, counts = transformed(JSON, json.dumps(body).encode(), these, pieces=pieces)
    assert json.loads(out) == expected
    assert sum(counts.values()) == json.dumps(expected).count("<")


def test_escapes_hide_nothing_from_detectors() -> None:
    hidden = "".join(f"\\u{ord(character):04x}" for character in CARD)
    out, _ = transformed(JSON, f'{{"a":"{hidden}","b":[1,"{hidden}"]}}'.encode(), DETECT)
    assert json.loads(out) == {"a": "<card>", "b": [1, "<card>"]}


@settings(max_examples=100, deadline=None)
@given(
    document=st.lists(
        st.dictionaries(
            st.sampled_from(["email", "a", "b", CARD]),
            st.sampled_from([CARD, "x", 4111111111111111, "E-1234", "q\n", 'z"', None, 1.5]),
            max_size=4,
        ),
        max_size=40,
    ),
    pieces=st.integers(1, 2000),
)
def test_detectors_find_the_same_in_any_pieces(document: list[dict[str, object]], pieces: int) -> None:
    def expected(value: object, name: str) -> object:
        if name == "email":
            return None if value is None else 0 if isinstance(value, int | float) else "[redacted]"
        return {CARD: "<card>", 4111111111111111: "<card>", "E-1234": "<code>"}.get(value, value)  # type: ignore[call-overload]

    data = json.dumps(document).encode()
    out, _ = transformed(JSON, data, BOTH, pieces=pieces)
    assert json.loads(out) == [
        {name.replace(CARD, "<card>"): expected(value, name) for name, value in record.items()}
        for record in document
    ]


# --- lines and sequences ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [None, 1, 4])
@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl"])
def test_lines_of_json(content_type: str, pieces: int | None) -> None:
    data = b'{"email":"x"}\r\n\n {"a":1}\n12\n{"email":[1]}'
    out, counts = transformed(content_type, data, pieces=pieces)
    assert out == b'{"email":"[redacted]"}\r\n\n {"a":1}\n12\n{"email":[]}'
    assert counts == {"redact": 2}


def test_a_line_leaves_when_it_has_come() -> None:
    from proxyd.gates.http.bodies import transformer_for

    transformer = transformer_for("application/x-ndjson", EMAIL)
    assert transformer is not None
    assert transformer.feed(b'{"email":1}\n{"em') == b'{"email":0}\n{'
    assert transformer.feed(b'ail":1}\n') == b'"email":0}\n'


@pytest.mark.parametrize("data", [b'{"email":"x"\n}\n', b'{"a":1}{"a":1}\n', b"x\n", b'{"a":"\n"}'])
@pytest.mark.parametrize("pieces", [None, 1])
def test_broken_lines_are_refused(data: bytes, pieces: int | None) -> None:
    with pytest.raises(BodyRefused):
        transformed("application/x-ndjson", data, pieces=pieces)


@pytest.mark.parametrize("pieces", [None, 1, 4])
def test_sequences_of_json(pieces: int | None) -> None:
    data = b'\x1e{"email":"x",\n"a":1}\n\x1e{"email":2}\n'
    out, _ = transformed("application/geo+json-seq", data, pieces=pieces)
    assert out == b'\x1e{"email":"[redacted]",\n"a":1}\n\x1e{"email":0}\n'


class _Named(Cards):
    """Nine digits behind a name."""

    _ssn = re.compile(rb"(?:ssn[^0-9\n]{0,24})([0-9]{9})")

    def replace(self, text: str) -> tuple[str, Counter[str]]:
        text, found = re.subn(r"(ssn[^0-9\n]{0,24})[0-9]{9}", r"\1<ssn>", text)
        return text, Counter(ssn=found) if found else Counter()

    def find(self, data: bytes) -> list[Match]:
        return [Match(*match.span(1), "ssn") for match in self._ssn.finditer(data)]


@pytest.mark.parametrize("pieces", [None, 1, 7])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_name_can_say_what_its_value_is(pieces: int | None, escaped: bool) -> None:
    data = b'[{"ssn" : "123456789","n":123456789,"x":{"my_ssn":123456789}},{"ssn":{"a":"123456789"}},"123456789"]'
    if escaped:
        data = data.replace(b'"ssn"', b'"\\u0073sn"').replace(b'"my_ssn"', b'"my\\u005fssn"')
    out, counts = transformed(JSON, data, Masks(detectors=_Named()), pieces=pieces)
    assert json.loads(out) == [
        {"ssn": "<ssn>", "n": 123456789, "x": {"my_ssn": "<ssn>"}},
        {"ssn": {"a": "123456789"}},
        "123456789",
    ]
    assert counts == {"ssn": 2}


def test_titles_and_names_of_forms_say_it_too() -> None:
    these = Masks(detectors=_Named())
    assert transformed("text/csv", b"id,ssn\n1,123456789\n", these)[0] == b"id,ssn\n1,<ssn>\n"
    form = transformed("application/x-www-form-urlencoded", b"a=123456789&ssn=123456789", these)[0]
    assert form == b"a=123456789&ssn=%3Cssn%3E"


@pytest.mark.parametrize("pieces", [None, 1, 9])
@pytest.mark.parametrize("value", ['say "E-1234"', "a\\b", "a\nE-1234", CARD, "E-1234", "12345678901"])
def test_what_masks_put_in_is_looked_at_as_all_text_is(value: str, pieces: int | None) -> None:
    these = masks(("$..email", Mask("fixed", Fixed(value))), detects=True)
    data = b'[{"email":"bob","a":"E-1234","n":1},{"a":"E-1234","email":7,"b":"x"},{"email":null}]'
    out, _ = transformed(JSON, data, these, pieces=pieces)
    shown = CARDS.replace(value)[0]
    number = 12345678901 if value.isdigit() else 0
    assert json.loads(out) == [
        {"email": shown, "a": "<code>", "n": 1},
        {"a": "<code>", "email": number, "b": "x"},
        {"email": None},
    ]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a/b", "a\nb", "ünï"])
def test_names_that_are_written_with_escapes(name: str) -> None:
    these = masks((f"$..[{json.dumps(name)}]", REDACT))
    inner = json.dumps({name: "bob"}).replace("/", "\\/")
    data = json.dumps([{"payload": inner, name: "bob", "list": [{name.upper(): "bob"}]}]).encode()
    for pieces in (None, 1):
        assert b"bob" not in transformed(JSON, data, these, pieces=pieces)[0]

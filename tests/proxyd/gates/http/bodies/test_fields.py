"""Forms, multipart bodies and tables: fields are masked by their names."""

from __future__ import annotations

import pytest

from proxyd.gates.http.bodies import BodyLimits, BodyRefused
from tests.proxyd.gates.http.bodies.body_masks import (
    BOTH,
    CARD,
    DETECT,
    EMAIL,
    FIXED,
    NULL,
    PARTIAL,
    PSEUDONYM,
    REDACT,
    Masks,
    masks,
    transformed,
)

FORM = "application/x-www-form-urlencoded"
CSV = "text/csv"

# --- forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [None, 1, 4])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b"a=1&&b=%41+x", b"a=1&&b=%41+x"),
        (b"email=bob", b"email=%5Bredacted%5D"),
        (b"a=1&e%6Dail=bob&b", b"a=1&email=%5Bredacted%5D&b"),
        (b"EMAIL=", b"EMAIL=%5Bredacted%5D"),
        (b"email", b"email=%5Bredacted%5D"),
        (b"user[email]=bob", b"user%5Bemail%5D=%5Bredacted%5D"),
        (b"users[0][Email]=bob", b"users%5B0%5D%5BEmail%5D=%5Bredacted%5D"),
        (b"users[][email]=bob", b"users%5B%5D%5Bemail%5D=%5Bredacted%5D"),
        (b"user.email=bob", b"user.email=%5Bredacted%5D"),
        (b"user[contact].email=bob", b"user%5Bcontact%5D.email=%5Bredacted%5D"),
        (b"email[]=bob&email[x]=bob", b"email%5B%5D=%5Bredacted%5D&email%5Bx%5D=%5Bredacted%5D"),
        (b"j=%7B%22email%22%3A1%7D", b"j=%7B%22email%22%3A0%7D"),
        (b"emails=x", b"emails=x"),
        (b"+email+=bob&user-email=bob", b"+email+=%5Bredacted%5D&user-email=%5Bredacted%5D"),
    ],
)
def test_forms(data: bytes, expected: bytes, pieces: int | None) -> None:
    assert transformed(FORM, data, pieces=pieces)[0] == expected


@pytest.mark.parametrize(
    ("mask", "value"),
    [(NULL, b""), (FIXED, b"gone"), (PARTIAL, b"%2A%2A%2A"), (PSEUDONYM, PSEUDONYM.apply("bob", "text"))],
)
def test_methods_of_fields(mask: object, value: object) -> None:
    these = masks(("$.email", mask))  # type: ignore[arg-type]
    out = transformed(FORM, b"email=bob", these)[0].decode()
    if mask is PARTIAL:
        assert out == "email=%2Aob" or out.startswith("email=%2A")
    else:
        assert out == f"email={value if isinstance(value, str) else value.decode()}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "data", [b"a=%zz", b"a=%4", b"a%=1", b"a=%ff", b"\xff=1", b"a=" + b"x" * 2000, b"a." * 600 + b"=1"]
)
def test_forms_that_could_be_read_in_two_ways_are_refused(data: bytes) -> None:
    with pytest.raises(BodyRefused):
        transformed(FORM, data, limits=BodyLimits(held_bytes=1900))


def test_detectors_look_at_decoded_values_and_names() -> None:
    data = b"c=4111+1111%201111-1111&4111111111111111=x&plain=4111"
    out, counts = transformed(FORM, data, DETECT, pieces=7)
    assert out == b"c=%3Ccard%3E&%3Ccard%3E=x&plain=4111" and counts == {"card": 2}


# --- multipart --------------------------------------------------------------------------------------------------

MULTIPART = "multipart/form-data; boundary=frontier"


def part(head: str, content: bytes) -> bytes:
    return b"--frontier\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: bytes, more: str = "") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"{more}', content)


END = b"--frontier--\r\n"
FILE = '; filename="f"\r\nContent-Type: '


@pytest.mark.parametrize("pieces", [None, 1, 2, 3, 11])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (field("a", b"1"), field("a", b"1")),
        (field("email", b"bob"), field("email", b"[redacted]")),
        (field("user[email]", b"bob"), field("user[email]", b"[redacted]")),
        (field("email", b"bob", f"{FILE}image/png"), field("email", b"[redacted]", f"{FILE}image/png")),
        (field("a", b'{"email":1}'), field("a", b'{"email":0}')),
        (
            field("f", b'{"email":1}', f"{FILE}application/json"),
            field("f", b'{"email":0}', f"{FILE}application/json"),
        ),
        (field("f", b"email\nbob", f"{FILE}text/csv"), field("f", b"email\n[redacted]", f"{FILE}text/csv")),
        (field("f", b'{"email":1}', '; filename="x.bin"'), field("f", b'{"email":0}', '; filename="x.bin"')),
        (field("f", b"GIF89a\x00\xff\r\n--fronti\r\n", f"{FILE}image/gif"),) * 2,
        (field("a", CARD.encode()), field("a", b"<card>")),
        (field("f", CARD.encode(), f"{FILE}text/plain"), field("f", b"<card>", f"{FILE}text/plain")),
    ],
)
def test_parts(before: bytes, after: bytes, pieces: int | None) -> None:
    more = field("z", b"\r\n--frontie-\r\n")
    out, _ = transformed(MULTIPART, before + more + before + END, BOTH, pieces=pieces)
    assert out == after + more + after + END


def test_parts_in_parts() -> None:
    inner = b'--in\r\nContent-Type: application/json\r\n\r\n{"email":"bob"}\r\n--in--\r\n'
    body = part("Content-Type: multipart/mixed; boundary=in", inner) + END
    out, counts = transformed("multipart/mixed; boundary=frontier", body, pieces=9)
    assert out == body.replace(b"bob", b"[redacted]") and counts == {"redact": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"email=bob",
        b"preamble\r\n" + field("a", b"1") + END,
        field("a", b"1"),
        field("a", b"1") + END + b"email: bob",
        field("a", b"1") + END + field("email", b"bob") + END,
        field("a", b"1")[:-2] + b"\r\n--frontier \r\n" + field("email", b"bob") + END,
        field("a", b"1").replace(b"\r\n", b"\n") + END,
        part("Content-Disposition: form-data", b"bob") + END,
        part('Content-Disposition: attachment; name="a"', b"bob") + END,
        part('Content-Disposition: form-data; name="a"; name="email"', b"bob") + END,
        part("Content-Disposition: form-data; name=\"a\"; name*=utf-8''email", b"bob") + END,
        part("Content-Disposition: form-data; name*=utf-8''email", b"bob") + END,
        part('Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="email"', b"x")
        + END,
        part('Content-Disposition: form-data; name="a"\r\n continued: x', b"bob") + END,
        part('Content-Disposition: form-data; name="a"\r\nX-A: {"email":"bob"}', b"1") + END,
        field("a", b"Ym9i", "\r\nContent-Transfer-Encoding: base64") + END,
        field("a", b"bob", "\r\nContent-Encoding: gzip") + END,
        field("a", b"\xff") + END,
        field("a", b"b\x00", "\r\nContent-Type: text/plain; charset=utf-16") + END,
        field("f", b"PK\x03\x04", f"{FILE}application/zip") + END,
        field("f", b'{"email":"bob"}', f"{FILE}image/png") + END,
        field("f", b'{"email":"bob"', f"{FILE}application/json") + END,
        field("a", b"x" * 2000) + END,
        part("x: " + "y" * 20_000, b"") + END,
        field("a", b"1") * 12 + END,
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_parts_that_cannot_be_masked_are_refused(data: bytes, pieces: int | None) -> None:
    with pytest.raises(BodyRefused):
        transformed(MULTIPART, data, pieces=pieces, limits=BodyLimits(held_bytes=1000, parts=10))


def test_a_multipart_body_that_is_cut_is_refused() -> None:
    data = field("email", b"bob") + field("f", b'{"a":1}', f"{FILE}application/json") + END
    assert transformed(MULTIPART, data[:-2])[0] == data[:-2].replace(b"bob", b"[redacted]")
    for end in range(1, len(data) - 2):
        with pytest.raises(BodyRefused):
            transformed(MULTIPART, data[:end])


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [None, 1, 5])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("id,email\r\n1,bob\r\n2,\r\n", "id,email\r\n1,[redacted]\r\n2,[redacted]\r\n"),
        ('\ufeff"Email";id\n"b;o\n""b";1\n;2', '\ufeff"Email";id\n[redacted];1\n[redacted];2'),
        ("id\temail address\n1\tbob\n\n", "id\temail address\n1\t[redacted]\n\n"),
        ("id,name\n1,bob\n", "id,name\n1,bob\n"),
        ("user.email,a\rbob,1\r", "user.email,a\r[redacted],1\r"),
        ('id,data\n1,"{""email"":1}"\n', 'id,data\n1,"{""email"":0}"\n'),
        ("email\nbob\nann", "email\n[redacted]\n[redacted]"),
        ("id,email\n1\n2,bob\n", "id,email\n1\n2,[redacted]\n"),
        ("", ""),
    ],
)
def test_tables(data: str, expected: str, pieces: int | None) -> None:
    assert transformed(CSV, data.encode(), pieces=pieces)[0].decode() == expected


@pytest.mark.parametrize("path", ["$..email", "$[*].email", "$.email", "$.rows[*].email", "$.user.email"])
def test_a_column_is_masked_by_the_name_that_any_path_ends_in(path: str) -> None:
    assert transformed(CSV, b"id,Email\n1,bob\n", masks((path, REDACT)))[0] == b"id,Email\n1,[redacted]\n"


def test_what_masks_put_in_is_quoted_where_it_has_to_be() -> None:
    these = masks(("$..email", PARTIAL))
    out, _ = transformed(CSV, b'id,email\n1,"aaaaaaaa,b"\n2,"aaaaaaa""b"\n', these)
    assert out == b'id,email\n1,"a*******,b"\n2,"a******""b"\n'


@pytest.mark.parametrize(
    ("content_type", "data", "these"),
    [
        (CSV, b"id,email\n1,bob,more\n", EMAIL),
        (CSV, b"id;email,x\n1;bob,x\n", EMAIL),
        (CSV, b'id,email\n1,b"ob\n', EMAIL),
        (CSV, b'id,email\n"1"x,bob\n', EMAIL),
        (CSV, b'id,email\n1,"bob', EMAIL),
        (CSV, b"id,email\n1,\xff", EMAIL),
        (CSV, b"id,note\n1,email: bob\n", EMAIL),
        (CSV, b"id,email\n1," + b"x" * 2000, EMAIL),
        (CSV, b"x" * 2000, EMAIL),
        (CSV, b"," * 5000 + b"\n", EMAIL),
        ("text/csv; header=absent", b"1,bob\n", EMAIL),
        (CSV, b"a,b\n1,bob\n", masks(("$[*][1]", REDACT))),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_tables_whose_columns_cannot_be_told_are_refused(
    content_type: str, data: bytes, these: Masks, pieces: int | None
) -> None:
    with pytest.raises(BodyRefused):
        transformed(content_type, data, these, pieces=pieces, limits=BodyLimits(held_bytes=1000))


@pytest.mark.parametrize("pieces", [None, 1, 6])
def test_detectors_look_at_every_field_by_itself(pieces: int | None) -> None:
    data = f'id,{CARD}\n1,{CARD}\nE-1234,"x\nE-1234"\nE-12345,4111\n1111 1111 1111,b"a'
    out, _ = transformed(CSV, data.encode(), DETECT, pieces=pieces)
    assert out.decode() == 'id,<card>\n1,<card>\n<code>,"x\n<code>"\nE-12345,4111\n1111 1111 1111,b"a'

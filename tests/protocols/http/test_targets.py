"""Request targets: one reading of host, path and query, and what is refused because others were fooled by it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.http.messages import RequestHead
from protocols.http.paths import read_path
from protocols.http.targets import Destination, destination, field_value, read_host, split_prefix

HOST = "a.example:8443"


def at(target: str, authority: str = HOST, method: str = "GET", **more: bool) -> Destination:
    return destination(RequestHead(method, target, "https", authority, ()), **more)


# As it came; as it is sent; as it is matched; what else a target may read
PATHS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("/", "/", "/", ()),
    ("/a/b", "/a/b", "/a/b", ()),
    ("/a/", "/a/", "/a/", ()),
    ("/A/b", "/A/b", "/A/b", ()),
    ("/%61/%7Eb%2dc", "/a/~b-c", "/a/~b-c", ()),
    ("/a%20b", "/a%20b", "/a b", ()),
    ("/a+b", "/a+b", "/a+b", ()),
    ("/%c3%a9", "/%C3%A9", "/\u00e9", ()),
    ("/%e4%b8%ad", "/%E4%B8%AD", "/\u4e2d", ()),
    ("/a%40b:c@d", "/a%40b:c@d", "/a@b:c@d", ()),
    ('/a"b<c>d^e`f{g|h}', "/a%22b%3Cc%3Ed%5Ee%60f%7Bg%7Ch%7D", '/a"b<c>d^e`f{g|h}', ()),
    ("/[a]", "/%5Ba%5D", "/[a]", ()),
    ("/.well-known/x", "/.well-known/x", "/.well-known/x", ()),
    ("/.git/..a/b", "/.git/..a/b", "/.git/..a/b", ()),
    # Where files are Windows'
    ("/admin./b", "/admin./b", "/admin./b", ("/admin/b",)),
    ("/admin%20", "/admin%20", "/admin ", ("/admin",)),
    ("/admin.%20.;x", "/admin.%20.;x", "/admin. .;x", ("/admin. .", "/admin")),
    ("/100%25", "/100%25", "/100%", ()),
    ("/100%25ok", "/100%25ok", "/100%ok", ()),
    # What Tomcat, Jetty and Spring take for parameters
    ("/admin;x=1/a", "/admin;x=1/a", "/admin;x=1/a", ("/admin/a",)),
    ("/a;b", "/a;b", "/a;b", ("/a",)),
    ("/admin%3bx/a", "/admin%3Bx/a", "/admin;x/a", ("/admin/a",)),
    # What is cut off by a target that decodes before it splits
    ("/admin%3Fx", "/admin%3Fx", "/admin?x", ("/admin",)),
    ("/admin%23x", "/admin%23x", "/admin#x", ("/admin",)),
    ("/a;b%3fc", "/a;b%3Fc", "/a;b?c", ("/a", "/a;b")),
    # Another form of Unicode
    ("/cafe%cc%81", "/cafe%CC%81", "/cafe\u0301", ("/caf\u00e9",)),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "canonical", "decoded", "others"), PATHS)
def test_a_path_has_one_form(raw: str, canonical: str, decoded: str, others: tuple[str, ...]) -> None:
    for target in (raw, f"https://{HOST}{raw}"):
        place = at(target)
        assert (place.path, place.decoded_path, place.other_paths) == (canonical, decoded, others)
    again = at(canonical)
    assert (again.path, again.decoded_path, again.other_paths) == (canonical, decoded, others)
    assert place.segments == tuple(decoded[1:].split("/"))


REFUSED_PATHS = [
    # dot segments, plain, encoded, half encoded, with parameters, blanks or backslashes
    "/.", "/..", "/a/..", "/a/../b", "/a/./b", "/../a", "/./a", "/a/.", "/%2e", "/%2e%2e/a", "/a/%2E%2e/b", "/a/.%2e/b",
    "/a/%2e./b", "/..;/a", "/a/..;/manager/html", "/a/..;x=y/b", "/.;/a", "/a/.;a=b", "/a/%2e%2e;/b", "/a/..%3b/b",
    "/a/%2e%2e%3Bx/b", "/.../a", "/..../a", "/a/%20/b", "/a/.%20./b",
    "/a/..%20/b", "/a/..%09/b", "/..\\a", "\\..\\a", "/a/..%5cb", "/a/..%5Cb",
    # slashes: encoded, doubled, of the other kind
    "//", "//a", "/a//b", "/a//", "//evil.example/a", "///a", "/a%2fb", "/a%2Fb", "/a/%2f", "/%2f%2fevil", "/a\\b",
    "/a%5cb", "/;/admin", "/;x=1/admin", "/a/;/b", "/%3b/admin", "/a;/;b/c",
    # encoded twice, overlong, other encodings
    "/%252e%252e/a", "/%252fa", "/a%255cb", "/%25%32%65", "/%2541", "/%25252e", "/%25c0%25ae", "/%u002e%u002e/a",
    "/%c0%ae%c0%ae/a", "/%c0%af", "/%c1%9c", "/%e0%80%ae", "/%e0%80%af", "/%f0%80%80%af", "/%ff", "/%fe%ff", "/%80",
    "/%c3", "/%c3a", "/%ed%a0%80", "/%f5%80%80%80", "/%ee", "/\u00e9", "/%25u002e",
    # what some servers fold into dots and slashes
    "/%ef%bc%8e%ef%bc%8e/a", "/a%ef%bc%8fb", "/a%ef%bc%bcb", "/a%e2%88%95b", "/a%e2%81%84b", "/a%ef%b9%92",
    "/%e2%80%a5/a", "/%e2%80%a4%e2%80%a4/a", "/a%e2%84%80b", "/a%ef%bc%85b", "/a%ef%bc%9bb", "/a%e3%80%82b",
    "/a%e2%80%8b", "/a%e2%80%ae", "/%ef%bb%bfa",
    # controls, percent signs alone, fragments
    "/a%00", "/%00/a", "/a%0a", "/a%0d%0ab", "/a%09b", "/a%1f", "/a%7f", "/a\x00", "/a\tb", "/a b", "/a%c2%85",
    "/a%c2%80",
    "/%", "/a%", "/a%2", "/a%zz", "/a%2g", "/%-1", "/a#b", "/a#", "/%%32%65",
    # no path
    "", "a", "a/b", "./a", "../a", "%2fa", "?a", ";/a", ".",
]  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED_PATHS)
def test_a_path_that_is_read_in_two_ways_is_refused(raw: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        at(raw)
    assert raised.value.code == "400"
    with pytest.raises(RemoteProtocolError):
        read_path(raw, keep_encoded_slashes=False)


@pytest.mark.parametrize(
    ("raw", "canonical", "decoded", "others"),
    [
        ("/a%2fb", "/a%2Fb", "/a%2Fb", ("/a/b",)),
        ("/@scope%2Fname/x", "/@scope%2Fname/x", "/@scope%2Fname/x", ("/@scope/name/x",)),
        ("/a%2f%c3%a9", "/a%2F%C3%A9", "/a%2F\u00e9", ("/a/\u00e9",)),
        ("/a%2Fb;c", "/a%2Fb;c", "/a%2Fb;c", ("/a/b;c", "/a%2Fb", "/a/b")),
        ("/a/b", "/a/b", "/a/b", ()),
    ],
)
def test_an_encoded_slash_that_is_kept_is_both(
    raw: str, canonical: str, decoded: str, others: tuple[str, ...]
) -> None:
    place = at(raw, keep_encoded_slashes=True)
    assert (place.path, place.decoded_path, place.other_paths) == (canonical, decoded, others)


@pytest.mark.parametrize(
    "raw",
    ["/a%2f..%2fb", "/a/..%2fb", "/a%2f%2e%2e", "/a%2f", "/a%2f/b", "/%2fb/c", "/a%2f%2fb", "/a%2f..;%2fb", "/a%5cb",
     "/a%252fb", "/a%2f%252e"],
)  # fmt: skip
def test_an_encoded_slash_that_is_kept_hides_nothing(raw: str) -> None:
    if raw == "/a%2f":  # a slash at the end, either way
        assert at(raw, keep_encoded_slashes=True).other_paths == ("/a/",)
        return
    with pytest.raises(RemoteProtocolError):
        at(raw, keep_encoded_slashes=True)


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("", ()),
        ("a=1&b=2&a=3", (("a", "1"), ("b", "2"), ("a", "3"))),
        ("a", (("a", ""),)),
        ("a=&=b", (("a", ""), ("", "b"))),
        ("&&a=1&", (("a", "1"),)),
        ("a=b=c", (("a", "b=c"),)),
        ("a+b=c+d%2B", (("a b", "c d+"),)),
        ("%61=%c3%a9", (("a", "\u00e9"),)),
        ("a=%26%3D", (("a", "&="),)),
        ("a=x?y/z", (("a", "x?y/z"),)),
        ("a[]=1", (("a[]", "1"),)),
        # A target that splits at `;` would see b as well
        ("a=1;b=2", (("a", "1;b=2"), ("a", "1"), ("b", "2"))),
        ("a=%3Bb", (("a", ";b"),)),
        ("a=%0A", (("a", "\n"),)),
    ],
)
def test_a_query(query: str, pairs: tuple[tuple[str, str], ...]) -> None:
    place = at(f"/a?{query}")
    assert (place.path, place.query, place.query_pairs) == ("/a", query, pairs)


@pytest.mark.parametrize(
    "query", ["a=%", "a=%zz", "a=%f", "a=%ff", "a=%c0%ae", "a=b#c", "a=b c", "a=\u00e9", "a=\x00", "a=%00"]
)
def test_a_query_that_is_refused(query: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        at(f"/a?{query}")
    assert raised.value.code == "400"


@pytest.mark.parametrize(
    ("target", "authority", "method", "expected"),
    [
        ("/x?y", "A.Example.", "GET", ("origin", "https", "a.example", 443, "/x")),
        ("/x", "", "GET", ("origin", "https", "", 443, "/x")),
        ("/x", "a.example:80", "GET", ("origin", "https", "a.example", 80, "/x")),
        ("http://a.example/x", "a.example", "GET", ("absolute", "http", "a.example", 80, "/x")),
        ("HTTP://A.example:80/x", "a.example", "GET", ("absolute", "http", "a.example", 80, "/x")),
        ("https://a.example", "a.example:443", "GET", ("absolute", "https", "a.example", 443, "/")),
        ("https://a.example?q", "a.example", "GET", ("absolute", "https", "a.example", 443, "/")),
        ("http://[::1]:8080/x", "[0:0::1]:8080", "GET", ("absolute", "http", "::1", 8080, "/x")),
        ("https://a.example/x", "", "GET", ("absolute", "https", "a.example", 443, "/x")),
        ("*", "a.example", "OPTIONS", ("asterisk", "https", "a.example", 443, "*")),
        ("a.example:443", "a.example:443", "CONNECT", ("authority", "https", "a.example", 443, "")),
        ("A.example:8443", "a.example", "CONNECT", ("authority", "https", "a.example", 8443, "")),
        ("[::1]:443", "", "CONNECT", ("authority", "https", "::1", 443, "")),
        ("", "a.example:443", "CONNECT", ("authority", "https", "a.example", 443, "")),
    ],
)
def test_the_forms_of_a_target(
    target: str, authority: str, method: str, expected: tuple[str, str, str, int, str]
) -> None:
    place = at(target, authority, method)
    assert (place.form, place.scheme, place.host, place.port, place.path) == expected


@pytest.mark.parametrize(
    ("target", "authority", "method", "code"),
    [
        ("http://b.example/", "a.example", "GET", "400"),
        ("http://a.example:81/", "a.example:80", "GET", "400"),
        ("https://a.example/", "a.example:80", "GET", "400"),
        ("http://a.example.evil/", "a.example", "GET", "400"),
        ("http://user@a.example/", "a.example", "GET", "400"),
        ("http://a.example@evil/", "a.example", "GET", "400"),
        ("http://user:pass@a.example/", "a.example", "GET", "400"),
        ("http://a.example\\@evil/", "a.example", "GET", "400"),
        ("http://a.example#@evil/", "a.example", "GET", "400"),
        ("http://a.example/#x", "a.example", "GET", "400"),
        ("http:///x", "a.example", "GET", "400"),
        ("http:/x", "a.example", "GET", "400"),
        ("http:x", "a.example", "GET", "400"),
        ("http://a.example/../x", "a.example", "GET", "400"),
        ("http://a.example//x", "a.example", "GET", "400"),
        ("ftp://a.example/", "a.example", "GET", "400"),
        ("file:///etc/passwd", "a.example", "GET", "400"),
        ("javascript://a.example/", "a.example", "GET", "400"),
        ("unix:/x", "a.example", "GET", "400"),
        ("*", "a.example", "GET", "400"),
        ("*/x", "a.example", "OPTIONS", "400"),
        ("a.example:443", "a.example", "GET", "400"),
        ("a.example", "a.example", "CONNECT", "400"),
        ("/x", "a.example", "CONNECT", "400"),
        ("https://a.example:443", "a.example", "CONNECT", "400"),
        ("a.example:0", "a.example", "CONNECT", "400"),
        ("a.example:65536", "a.example", "CONNECT", "400"),
        ("a.example:443/x", "a.example", "CONNECT", "400"),
        ("u@a.example:443", "a.example", "CONNECT", "400"),
        ("b.example:443", "a.example:443", "CONNECT", "400"),
        ("a.example:444", "a.example:443", "CONNECT", "400"),
        ("/", "a.example", "TRACE", "501"),
        ("/", "a.example", "TRACK", "501"),
    ],
)
def test_a_target_that_is_refused(target: str, authority: str, method: str, code: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        at(target, authority, method)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("a", ("a", 443)),
        ("A.B.", ("a.b", 443)),
        ("a_b.c-d:1", ("a_b.c-d", 1)),
        ("xn--bcher-kva.example", ("xn--bcher-kva.example", 443)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("[2001:DB8::0:1]", ("2001:db8::1", 443)),
        ("[::ffff:192.0.2.1]:80", ("::ffff:c000:201", 80)),
        ("1.example", ("1.example", 443)),
    ],
)
def test_a_host(authority: str, expected: tuple[str, int]) -> None:
    host, port = read_host(authority, "https")
    assert port == expected[1]
    assert host in {expected[0], "::ffff:192.0.2.1" if host.startswith("::ffff") else expected[0]}


@pytest.mark.parametrize(
    "authority",
    ["", ".", "..", "a..b", ".a", "a b", "a/b", "a?b", "a#b", "a@b", "a\\b", "a%2eb", "b\u00fccher.example", "a:", 
     "a:x",
     "a:-1",
     "a:+1", "a:0", "a:08", "a:65536", "a:1:2", "[::1", "::1", "[::1]x", "[]", "[:::]", "[fe80::1%eth0]", "[v1.x]",
     "[1.2.3.4]",
     "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3.4.5", "256.1.1.1", "1.2.3", "a" * 64,
     "a." * 127 + "a",
     "-a", "a-", "*", "a,b", "a;b", "\u217b.example", "a\uff0eexample", "a\u3002b", "a\x00", "a\n"],
)  # fmt: skip
def test_a_host_that_is_refused(authority: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        read_host(authority, "https")
    assert raised.value.code == "400"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/t/api", ("", "api", "/")),
        ("/t/api/", ("", "api", "/")),
        ("/t/api/v1/x?y=/t/z", ("", "api", "/v1/x?y=/t/z")),
        ("/t/api?x=/y", ("", "api", "/?x=/y")),
        ("/t/root+api/x", ("root", "api", "/x")),
        ("/t/me+you+api/x", ("me+you", "api", "/x")),
        ("/t/a%40b+api/x", ("a@b", "api", "/x")),
        ("/t/+api/x", ("", "api", "/x")),
        ("/t/", None),
        ("/t", None),
        ("/t//x", None),
        ("/t/root+/x", None),
        ("/tt/api", None),
        ("/T/api", None),
        ("/x/t/api", None),
        ("t/api", None),
        ("/t/a;b/x", None),
        ("/t/a\\b/x", None),
        ("/", None),
    ],
)
def test_a_prefix(path: str, expected: tuple[str, str, str] | None) -> None:
    assert split_prefix(path) == expected


def test_a_field_that_may_stand_once() -> None:
    headers = (("a", "1"), ("b", "2"), ("b", "2"))
    assert field_value(headers, "a") == "1"
    assert field_value(headers, "c") is None
    with pytest.raises(RemoteProtocolError):
        field_value(headers, "b")


@settings(max_examples=400, deadline=None)
@given(
    st.text(st.sampled_from("/.%;25eEfFcC0aA3bB?#\\ \u00e9x~+"), max_size=14).map(lambda text: "/" + text),
    st.booleans(),
)
def test_what_is_let_through_is_the_same_however_often_it_is_decoded(path: str, keep: bool) -> None:
    try:
        read = read_path(path, keep_encoded_slashes=keep)
    except ProtocolError:
        return
    assert read_path(read.canonical, keep_encoded_slashes=keep) == read
    for reading in (read.decoded, *read.others):
        assert reading.startswith("/")
        segments = reading.replace("%2F", "/").split("/")[1:]
        assert not {".", ".."} & {segment.partition(";")[0] for segment in segments}
        assert "" not in segments[:-1]
        assert "\\" not in reading

"""Which requests a browser has made for a page of another site, and which of them are refused."""

from __future__ import annotations

import pytest

from protocols.http.messages import Headers, RequestHead
from protocols.http.targets import destination
from proxyd.gates.http.refusals import Refusal
from proxyd.gates.http.sites import Origin, refuse_other_sites

TRUSTED: tuple[Origin, ...] = (("https", "app.example", 443),)


def is_refused(
    *fields: tuple[str, str],
    method: str = "POST",
    target: str = "/t/api/x",
    authority: str = "gateway.example",
    token_field: str = "",
    trusted: tuple[Origin, ...] = TRUSTED,
) -> bool:
    headers: Headers = fields
    head = RequestHead(method, target, "https", authority, headers)
    try:
        refuse_other_sites(head, destination(head), token_field, trusted)
    except Refusal as refusal:
        assert refusal.status == 403
        return True
    return False


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://gateway.example", False),
        ("HTTPS://Gateway.Example", False),
        ("https://gateway.example:443", False),
        ("", False),
        ("null", True),
        ("https://evil.example", True),
        ("http://gateway.example", True),
        ("https://gateway.example.evil", True),
        ("https://gateway.example:444", True),
        ("https://gateway.example@evil.example", True),
        ("https://gateway.example/", True),
        ("chrome-extension://abcdef", True),
        ("https://app.example", False),
        ("https://app.example:8443", True),
        ("http://app.example", True),
        ("https://sub.app.example", True),
    ],
)
def test_origins(origin: str, *, expected: bool) -> None:
    assert is_refused(("origin", origin)) is expected
    assert is_refused(("origin", origin), method="GET") is expected


def test_the_origin_of_a_page_that_was_asked_for_through_a_proxy() -> None:
    url = "http://api.internal/x"
    fields = {"target": url, "authority": "api.internal", "token_field": "proxy-authorization"}
    assert not is_refused(("origin", "http://api.internal"), **fields)
    assert is_refused(("origin", "https://api.internal"), **fields)


NAVIGATION = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))


@pytest.mark.parametrize(
    ("site", "more", "method", "expected"),
    [
        ("same-origin", (), "POST", False),
        ("none", (), "GET", False),
        ("cross-site", (), "GET", True),
        ("same-site", (), "GET", True),
        ("Cross-Site", (), "POST", True),
        ("of-tomorrow", (), "GET", True),
        ("cross-site", NAVIGATION, "GET", False),
        ("same-site", NAVIGATION, "HEAD", False),
        ("cross-site", NAVIGATION, "POST", True),
        ("cross-site", (NAVIGATION[0], ("sec-fetch-dest", "iframe")), "GET", True),
        ("cross-site", (NAVIGATION[0], ("sec-fetch-dest", "embed")), "GET", True),
        ("cross-site", (("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")), "GET", True),
        ("cross-site", (("origin", "https://app.example"),), "POST", False),
        ("cross-site", (("referer", "https://app.example/page?x"),), "GET", False),
        ("cross-site", (("referer", "https://app.example"),), "GET", False),
        ("cross-site", (("referer", "https://app.example@evil.example/"),), "GET", True),
        ("cross-site", (("referer", "https://app.example.evil.example/"),), "GET", True),
        ("cross-site", (("referer", "https://evil.example/?https://app.example/"),), "GET", True),
        ("cross-site", (("origin", "null"), ("referer", "https://app.example/")), "GET", True),
    ],
)
def test_fetch_metadata(site: str, more: Headers, method: str, *, expected: bool) -> None:
    assert is_refused(("sec-fetch-site", site), *more, method=method) is expected


@pytest.mark.parametrize(
    ("token_field", "value", "expected"),
    [
        ("authorization", "Bearer t.o.k", False),
        ("authorization", "Basic dTp0Lm8uaw==", True),
        ("authorization", "bAsIc dTp0Lm8uaw==", True),
        ("x-api-key", "t.o.k", False),
        ("api-key", "t.o.k", False),
        ("proxy-authorization", "Bearer t.o.k", True),
        ("proxy-authorization", "Basic dTp0Lm8uaw==", True),
    ],
)
def test_what_browsers_send_by_themselves(token_field: str, value: str, *, expected: bool) -> None:
    page = (("origin", "https://evil.example"), (token_field, value))
    assert is_refused(*page, token_field=token_field) is expected
    assert not is_refused(page[1], token_field=token_field)

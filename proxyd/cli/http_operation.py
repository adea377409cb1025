"""Options of `proxyd explain` that say what an HTTP request is, and the facts that they stand for.

Called by `proxyd.cli.explain`. The facts are those that a session would judge, made by the same functions.
"""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policy.facts import HttpFacts
    from policy.llm.prices import PriceTable
    from protocols.http.messages import RequestHead

_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class AskedTarget:
    """What of the target's configuration the facts depend on. api: "" for one that is no model's."""

    host: str
    scheme: str = "https"
    api: str = ""
    keeps_encoded_slashes: bool = False


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """head: the facts before the body is read. refusal: why the request is never judged, with no facts then."""

    facts: HttpFacts | None
    head: HttpFacts | None
    refusal: str = ""


def add_request(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: argparse._MutuallyExclusiveGroup
) -> None:
    what.add_argument(
        "--path", metavar="PATH[?QUERY]", help="an HTTP request: the path at the target, as it would be sent"
    )
    parser.add_argument("--method", default="GET", help="its method (GET)")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="K:V",
        type=_header,
        help="a field of its head (repeat)",
    )
    body = parser.add_mutually_exclusive_group()
    body.add_argument("--json-body", metavar="TEXT|@FILE", type=_content, help="a body of JSON")
    body.add_argument("--form-body", metavar="TEXT|@FILE", type=_content, help="a body like a=b&c=d")
    body.add_argument(
        "--body",
        metavar="TEXT|@FILE",
        type=_content,
        help="a body; say what it is by --header content-type:...",
    )
    parser.add_argument("--websocket", action="store_true", help="it asks for a WebSocket")


def has_request_options(options: argparse.Namespace) -> bool:
    """Is anything said that only a request has?"""
    bodies = (options.json_body, options.form_body, options.body)
    return bool(options.header or options.websocket or options.method != "GET") or any(
        body is not None for body in bodies
    )


def request_of(
    options: argparse.Namespace, target: AskedTarget, prices: PriceTable | None = None
) -> AskedRequest:
    """The request that the options name, as it would be judged for `target`."""
    from protocols.errors import ProtocolError
    from protocols.http.messages import RequestHead
    from protocols.http.targets import destination
    from proxyd.gates.http import requests
    from proxyd.gates.http.refusals import Refusal
    from proxyd.gates.http.routing import Route

    body, kind = _body(options)
    headers = tuple(options.header)
    if kind and not any(name == "content-type" for name, _ in headers):
        headers = (*headers, ("content-type", kind))
    head = RequestHead(
        options.method,
        options.path,
        target.scheme,
        target.host,
        headers,
        body_bytes=len(body),
        upgrade="websocket" if options.websocket else "",
    )
    if head.upgrade and (head.method != "GET" or body):
        return AskedRequest(None, None, "an upgrade to WebSocket by another method than GET, or with a body")
    try:
        asked = destination(head, keep_encoded_slashes=target.keeps_encoded_slashes)
        requests.refuse_doubled_fields(headers)
    except ProtocolError as error:
        return AskedRequest(None, None, error.message)
    except Refusal as refusal:
        return AskedRequest(None, None, refusal.detail)
    route = Route(target.host, "", asked.path, "")
    seen = requests.shown_headers(headers, "")
    facts = requests.head_facts(head, asked, route, target.host, target.scheme, seen)
    before = _with_call(facts, head, target.api, prices)
    if body:
        facts = requests.with_body(facts, body, requests.content_encoding_of(headers), is_whole=True)
    return AskedRequest(_with_call(facts, head, target.api, prices), before)


def _with_call(facts: HttpFacts, head: RequestHead, api: str, prices: PriceTable | None) -> HttpFacts:
    if not api:
        return facts
    from policy.facts import BodyState
    from policy.llm.prices import PriceTable
    from policy.llm.reading import read_call
    from proxyd.gates.http import requests

    body = facts.body if facts.body_state is BodyState.JSON else None
    call = read_call(
        api,
        head.method,
        facts.path,
        body,
        prices or PriceTable(()),
        query=facts.query,
        upgrade=facts.upgrade,
    )
    return requests.with_llm(facts, call)


def _body(options: argparse.Namespace) -> tuple[bytes, str]:
    """The body and its type, b"" for none."""
    for content, kind in (
        (options.json_body, "application/json"),
        (options.form_body, _FORM),
        (options.body, ""),
    ):
        if content is not None:
            return content, kind
    return b"", ""


def _content(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[1:]}: {error.strerror}") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not name.isascii() or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME: VALUE")
    return name.strip().lower(), value.strip()

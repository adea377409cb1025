"""A recorded HTTP session as a HAR 1.2 file, for browsers' developer tools and everything else that reads them.

HAR 1.2 as its author published it (softwareishard.com/blog/har-12-spec); what it has no word for begins with an
underscore, as it asks: `_proxyd` is who asked and what was decided, masked and omitted, `_webSocketMessages` are as
Chrome writes them. Entries come as the exchanges end. Pure but for the spool, which keeps long bodies out of memory:
entries of a tape in, pieces of JSON out, ASCII only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from policy.facts import HttpFacts
from proxyd.tape.entries import HTTP, Entry, TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.har_content import examined, text_json
from proxyd.tape.http_entries import TO_TARGET, HttpMessage
from proxyd.tape.http_exchanges import Exchange, Exchanges, Pairs, Way
from proxyd.tape.json_lines import to_json
from proxyd.tape.screen import plain
from proxyd.tape.spool import Spool, SpooledContent

MAX_OPEN: Final = 4096
LINGERING: Final = 64
_MICROSECONDS: Final = 1_000_000
_MILLISECONDS_US: Final = 1000
_UNKNOWN: Final = -1
_NOT_MEASURED: Final = dict.fromkeys(("blocked", "dns", "connect", "ssl"), _UNKNOWN)
_OPCODES: Final = {"text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}

_Entry = Exchange[SpooledContent]


class HarExport:
    """One export of one tape. A context manager, because of the spool."""

    def __init__(self, header: TapeHeader) -> None:
        if header.protocol != HTTP:
            raise TapeError(
                f"a HAR file is the recording of an HTTP session, and this is one of {plain(header.protocol)}; "
                "`proxyd tape show` prints it"
            )
        self._header = header
        self._spool = Spool()
        self._exchanges: Exchanges[SpooledContent] = Exchanges(
            self._spool.content, max_open=MAX_OPEN, lingering=LINGERING
        )
        self._messages: dict[_Entry, SpooledContent] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def pieces(self, entries: Iterable[Entry], ending: Callable[[], str]) -> Iterator[str]:
        """The file. `ending` is asked, once everything is read, in what state the tape is."""
        header = self._header
        creator = {"name": "proxyd", "version": _clean(header.software_version)}
        about = {"session": msgspec.to_builtins(header)}
        yield f'{{"log": {{"version": "1.2", "creator": {to_json(creator)}, "_proxyd": {to_json(about)}'
        yield ', "entries": ['
        separator = "\n"
        for exchange in self._over(entries):
            yield separator
            yield from self._entry(exchange)
            separator = ",\n"
        yield f'\n], "comment": {json.dumps(ending())}}}}}\n'

    def _over(self, entries: Iterable[Entry]) -> Iterator[_Entry]:
        exchanges = self._exchanges
        for entry in entries:
            exchange = exchanges.feed(entry)
            if exchange is not None and isinstance(entry, HttpMessage):
                self._keep(exchange, entry)
            yield from exchanges.taken()
        yield from exchanges.finish()

    def _keep(self, exchange: _Entry, entry: HttpMessage) -> None:
        messages = self._messages.get(exchange)
        if messages is None:
            messages = self._messages[exchange] = self._spool.content()
        is_text = entry.message_kind == "text" and not entry.omitted
        message: dict[str, object] = {
            "type": "send" if entry.way == TO_TARGET else "receive",
            "time": self._unix_s(entry.at_us),
            "opcode": _OPCODES.get(entry.message_kind, 0),
            "data": entry.raw.decode("utf-8", "replace") if is_text else entry.raw,
        }
        if entry.omitted:
            message["_omitted"] = {"bytes": entry.omitted, "sha256": entry.sha256.hex()}
        separator = ", " if messages.size else ""
        messages.add(f"{separator}{to_json(message)}".encode("ascii"))

    def _entry(self, exchange: _Entry) -> Iterator[str]:
        send, wait, receive = _timings(exchange)
        timings = {**_NOT_MEASURED, "send": send, "wait": wait, "receive": receive}
        yield f'{{"startedDateTime": "{self._stamp(exchange.request.at_us)}"'
        yield f', "time": {max(0, send) + max(0, wait) + max(0, receive)}, "timings": {to_json(timings)}'
        yield f', "cache": {{}}, "connection": {json.dumps(_clean(self._header.session))}'
        yield ', "request": {'
        yield from _request(exchange)
        yield '}, "response": {'
        yield from _response(exchange)
        yield f'}}, "_proxyd": {to_json(_about(exchange))}'
        messages = self._messages.pop(exchange, None)
        if messages is not None or exchange.is_websocket:
            yield ', "_resourceType": "websocket", "_webSocketMessages": ['
            if messages is not None:
                # In pieces of bytes, which is safe: to_json gives ASCII.
                yield from (piece.decode("ascii") for piece in messages.pieces())
                messages.close()
            yield "]"
        yield "}"
        exchange.close()

    def _unix_s(self, at_us: int) -> float:
        return self._header.started_at + at_us / _MICROSECONDS

    def _stamp(self, at_us: int) -> str:
        try:
            at = datetime.fromtimestamp(self._unix_s(at_us), UTC)
        except (ValueError, OverflowError, OSError):
            at = datetime.fromtimestamp(0, UTC)  # no calendar has it
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _request(exchange: _Entry) -> Iterator[str]:
    request, way = exchange.request, exchange.to_target
    url = _absolute(exchange)
    fields = {
        "method": _clean(request.method),
        "url": url,
        "httpVersion": f"HTTP/{_clean(request.version)}",
        "cookies": [],
        "headers": _named(way.headers),
        "queryString": _named(_query(url)),
        "headersSize": _UNKNOWN,
        "bodySize": way.size,
    }
    yield to_json(fields)[1:-1]
    if not way.content.size:
        return
    # The body is there as it was sent, and base64 has no place in HAR 1.2: hence the underscore.
    body = examined(way.content, _type(way), "", is_whole=not way.omitted)
    comment = _joined(body.comment, "in base64" if body.codec is None else "", _omitted(way))
    yield f', "postData": {{"mimeType": {json.dumps(_type(way))}, "text": '
    yield from text_json(body)
    yield ', "_encoding": "base64"' if body.codec is None else ""
    yield f', "comment": {json.dumps(comment)}}}' if comment else "}"


def _response(exchange: _Entry) -> Iterator[str]:
    response, way = exchange.response, exchange.to_client
    fields: dict[str, object] = {
        "status": response.status if response is not None else 0,
        "statusText": _phrase(response.status) if response is not None else "",
        "httpVersion": f"HTTP/{_clean(exchange.request.version)}" if response is not None else "",
        "cookies": [],
        "headers": _named(way.headers) if way is not None else [],
        "redirectURL": _clean(way.header("location")) if way is not None else "",
        "headersSize": _UNKNOWN,
        "bodySize": way.size if way is not None else _UNKNOWN,
    }
    if exchange.aborted is not None:
        fields["_error"] = _clean(exchange.aborted)
    yield to_json(fields)[1:-1]
    if way is None:
        yield ', "content": {"size": 0, "mimeType": "x-unknown"}'
        return
    is_whole = not way.omitted and way.ended_at_us is not None
    body = examined(way.content, _type(way), way.header("content-encoding"), is_whole=is_whole)
    size = body.size + way.omitted
    about: dict[str, object] = {"size": size, "mimeType": _type(way) or "x-unknown"}
    if body.content_encoding:
        about["compression"] = size - way.size
    comment = _joined(body.comment, _omitted(way))
    if comment:
        about["comment"] = comment
    yield f', "content": {to_json(about)[:-1]}'
    if way.content.size:
        yield ', "text": '
        yield from text_json(body)
        yield ', "encoding": "base64"' if body.codec is None else ""
    yield "}"


def _about(exchange: _Entry) -> dict[str, object]:
    """What HAR has no word for."""
    judgement = exchange.judgement
    about: dict[str, object] = {"exchange": exchange.request.exchange}
    if judgement is not None:
        about["policy"] = judgement.policy_version
        about["decisions"] = [
            {
                "effect": decision.effect.value,
                "reasons": [msgspec.to_builtins(reason) for reason in decision.reasons],
            }
            for decision in judgement.decisions
        ]
        for facts in judgement.facts:
            if isinstance(facts, HttpFacts) and facts.llm is not None:
                about["llm"] = msgspec.to_builtins(facts.llm)
    about["madeHere"] = exchange.response is not None and exchange.response.made_here
    if exchange.informational:
        about["informational"] = exchange.informational
    if exchange.counts:
        about["masked"] = exchange.counts
    if exchange.calls:
        about["toolCalls"] = [{"name": call.name, "arguments": call.arguments} for call in exchange.calls]
    if exchange.usage:
        about["usage"] = exchange.usage
    for name, way in (("request", exchange.to_target), ("response", exchange.to_client)):
        if way is not None and way.omitted:
            about[f"{name}Omitted"] = {"bytes": way.omitted, "sha256": way.sha256.hex()}
        if way is not None and way.trailers:
            about[f"{name}Trailers"] = _named(way.trailers)
    return about


def _timings(exchange: _Entry) -> tuple[float, float, float]:
    """Send, wait and receive in milliseconds. An answer may begin before the request is over."""
    began = exchange.request.at_us
    last = max(began, exchange.last_at_us)
    answered = exchange.response.at_us if exchange.response is not None else last
    sent = exchange.to_target.ended_at_us
    sent = answered if sent is None else max(began, min(sent, answered))
    answered = max(sent, answered)
    times = (sent - began, answered - sent, max(0, last - answered))
    send, wait, receive = (time / _MILLISECONDS_US for time in times)
    return send, wait, receive


def _absolute(exchange: _Entry) -> str:
    """HAR wants absolute URLs."""
    url = exchange.request.url
    facts = exchange.judgement.facts if exchange.judgement is not None else ()
    if url.startswith("/") and facts and isinstance(facts[0], HttpFacts):
        url = f"{facts[0].scheme}://{facts[0].host}{url}"
    return _clean(url)


def _query(url: str) -> Pairs:
    try:
        return tuple(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    except ValueError:
        return ()


def _named(pairs: Pairs) -> list[dict[str, str]]:
    return [{"name": _clean(name), "value": _clean(value)} for name, value in pairs]


def _type(way: Way[SpooledContent]) -> str:
    return _clean(way.header("content-type"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _omitted(way: Way[SpooledContent]) -> str:
    if not way.omitted:
        return ""
    digest = f", sha256 {way.sha256.hex()}" if way.sha256 else ""
    return f"{way.omitted} more bytes are not on the tape{digest}"


def _joined(*comments: str) -> str:
    return "; ".join(comment for comment in comments if comment)


def _clean(text: str) -> str:
    """Without lone surrogates, which not every reader of JSON takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()

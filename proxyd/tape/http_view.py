"""An HTTP session as lines for a person: each exchange with its times, sizes and decision, headers and bodies.

Called by `render`. An exchange is told when it is over, in one piece, since those of HTTP/2 go on side by side; what
lasts (a WebSocket, server-sent events) is told as it comes. Its number stands in brackets. Everything recorded has
passed `screen.plain`. Keeps the beginning of each open body; pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policy.decision import Decision
from proxyd.tape.entries import DENIED, Event, Judgement, TapeHeader
from proxyd.tape.http_content import ContentError, codings, decoded, is_text, media_type
from proxyd.tape.http_entries import (
    TO_CLIENT,
    TO_TARGET,
    HttpBody,
    HttpEntry,
    HttpMasked,
    HttpMessage,
    HttpResponse,
    HttpToolCall,
    HttpUsage,
)
from proxyd.tape.http_exchanges import Exchange, Exchanges, Pairs, Way
from proxyd.tape.screen import plain, plain_lines, shortened
from proxyd.tape.wording import (
    MAX_DATA_CHARACTERS,
    clock_time,
    data_text,
    decided_text,
    decision_lines,
    detail_lines,
    raw_line,
)

MAX_OPEN: Final = 1024
PREVIEW_BYTES: Final = 16 * 1024
"""Kept of each open body, to be shown."""
MAX_SHOWN_BYTES: Final = 64 * 1024
MAX_LINE_CHARACTERS: Final = 2000
MAX_URL_CHARACTERS: Final = 2000
MAX_HEADERS: Final = 200
EVENT_STREAM: Final = "text/event-stream"
_MICROSECONDS: Final = 1_000_000
_MILLISECONDS_US: Final = 1000
_MARKS: Final = ("> ", "< ")
_NAMES: Final = ("request", "answer")


class _Preview:
    """The beginning of a body."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw = b""

    def add(self, raw: bytes) -> None:
        room = PREVIEW_BYTES - len(self.raw)
        if room > 0:
            self.raw += raw[:room]

    def close(self) -> None:
        self.raw = b""


_Shown = Exchange[_Preview]


class _Following:
    """An exchange that is told as it comes: how many lines each way were, and what of a line is not over."""

    __slots__ = ("exchange", "lines", "rest")

    def __init__(self, exchange: _Shown) -> None:
        self.exchange = exchange
        self.lines = [0, 0]
        self.rest = b""


class HttpView:
    """The lines of one tape. `max_lines` of each body are shown, the others counted. `detailed` adds times, headers,
    bodies and facts.
    """

    def __init__(self, header: TapeHeader, *, max_lines: int, detailed: bool = False) -> None:
        self._started_at = header.started_at
        self._max_lines = max_lines
        self._detailed = detailed
        self._exchanges: Exchanges[_Preview] = Exchanges(_Preview, max_open=MAX_OPEN)
        self._followed: dict[int, _Following] = {}

    def judgement(self, entry: Judgement) -> None:
        """It is shown with its requests."""
        self._exchanges.feed(entry)

    def event(self, entry: Event) -> Iterator[str]:
        if entry.name == DENIED and "exchange" in entry.data:
            return  # the exchange says it
        told = ", ".join(f"{plain(str(key))}: {data_text(value)}" for key, value in entry.data.items())
        at = f" {self._clock(entry.at_us)}" if self._detailed else ""
        yield f"--{at} event {plain(entry.name)}{f': {shortened(told, MAX_DATA_CHARACTERS)}' if told else ''}"

    def entry(self, entry: HttpEntry) -> Iterator[str]:
        exchange = self._exchanges.feed(entry)
        for done in self._exchanges.taken():
            if done is not exchange:
                yield from self._over(done)
        if exchange is None:
            yield from self._late(entry)
            return
        number = exchange.request.exchange
        match entry:
            case HttpResponse() if exchange.response is entry and _lasts(exchange):
                self._followed[number] = _Following(exchange)
                yield from self._told(exchange)
                yield from self._content(number, TO_CLIENT, entry.raw)
            case HttpBody(way=way, raw=raw) if number in self._followed and way == TO_CLIENT:
                yield from self._content(number, way, raw)
            case HttpMessage():
                if number not in self._followed:
                    self._followed[number] = _Following(exchange)
                    yield from self._told(exchange)
                yield from self._message(self._followed[number], entry)
            case HttpToolCall() | HttpMasked() | HttpUsage() if number in self._followed:
                yield from self._note(entry)
        if exchange.is_over:
            yield from self._over(exchange)

    def standing(self) -> Iterator[str]:
        """What goes on at the moment and was told already, for somebody who comes in between."""
        for following in self._followed.values():
            yield from self._told(following.exchange)

    def finish(self) -> Iterator[str]:
        """What is left of exchanges that the tape does not end."""
        for exchange in self._exchanges.finish():
            yield from self._over(exchange)

    # --- an exchange ------------------------------------------------------------------------------------------

    def _over(self, exchange: _Shown) -> Iterator[str]:
        number = exchange.request.exchange
        following = self._followed.pop(number, None)
        if following is None:
            yield from self._told(exchange)
            yield from self._bodies(exchange)
            for call in exchange.calls:
                yield from self._note(call)
            if exchange.counts:
                yield f"-- [{number}] masked: {_counts(exchange.counts)}"
            for usage in exchange.usage:
                yield f"-- [{number}] usage: {_data(usage)}"
        else:
            if following.rest:
                yield from self._line(number, TO_CLIENT, following, following.rest)
            for way, count in enumerate(following.lines):
                if count > self._max_lines:
                    yield f"-- [{number}] {count - self._max_lines} more lines of the {_NAMES[way]}"
            yield f"{self._head(exchange.last_at_us, number)} ended: {_sizes(exchange)}"
        exchange.close()

    def _told(self, exchange: _Shown) -> Iterator[str]:
        request, response = exchange.request, exchange.response
        number = request.exchange
        url = plain(shortened(request.url, MAX_URL_CHARACTERS))
        status = f"{response.status}" if response is not None else "no answer"
        own = " by the gateway" if response is not None and response.made_here else ""
        head = f"{self._head(request.at_us, number)} {plain(request.method)} {url} -> {status}{own}"
        if exchange.is_over or response is None:
            head += f", {_sizes(exchange)}"
        decisions = exchange.judgement.decisions if exchange.judgement is not None else ()
        if not self._detailed:
            yield f"{head}; {_decided(decisions, exchange.judgement)}"
            return
        yield ""
        yield head
        judgement = exchange.judgement
        if judgement is None:
            yield f"-- judgement {request.judgement} is not at hand"
        else:
            for index, decision in enumerate(judgement.decisions):
                yield from decision_lines(decision)
                yield from detail_lines(judgement, index)
            if judgement.omitted:
                yield f"--   not among the facts: {plain(judgement.omitted)}"
        yield from _head_lines(TO_TARGET, exchange.to_target.headers)
        if exchange.to_client is not None and _lasts(exchange):
            yield from self._body(exchange, TO_TARGET, exchange.to_target)
            yield f"< {exchange.response.status}" if exchange.response is not None else "<"
            yield from _head_lines(TO_CLIENT, exchange.to_client.headers)

    def _bodies(self, exchange: _Shown) -> Iterator[str]:
        if not self._detailed:
            return
        yield from self._body(exchange, TO_TARGET, exchange.to_target)
        answer = exchange.to_client
        if answer is not None and exchange.response is not None:
            yield f"< {exchange.response.status}"
            yield from _head_lines(TO_CLIENT, answer.headers)
            yield from self._body(exchange, TO_CLIENT, answer)

    def _body(self, exchange: _Shown, way_number: int, way: Way[_Preview]) -> Iterator[str]:
        mark, number = _MARKS[way_number], exchange.request.exchange
        if way.content.raw:
            yield mark.rstrip()
            yield from self._text(mark, number, way)
        if way.omitted:
            digest = f", sha256 {way.sha256.hex()}" if way.sha256 else ""
            yield f"-- [{number}] {way.omitted} more bytes of the {_NAMES[way_number]} are not on the tape{digest}"
        yield from (f"{mark}{plain(name)}: {_value(value)} (trailer)" for name, value in way.trailers)

    def _text(self, mark: str, number: int, way: Way[_Preview]) -> Iterator[str]:
        text, is_whole = _preview_text(way)
        if text is None:
            yield f"{mark}{raw_line(way.content.raw, way.kept)}"
            return
        lines = plain_lines(text)
        if lines and not lines[-1]:
            lines.pop()
        yield from (f"{mark}{shortened(line, MAX_LINE_CHARACTERS)}" for line in lines[: self._max_lines])
        hidden = len(lines) - self._max_lines
        if hidden > 0 or not is_whole:
            counted = f"{hidden} more lines" if hidden > 0 and is_whole else "the rest"
            yield f"-- [{number}] {counted} {'are' if counted != 'the rest' else 'is'} not shown"

    # --- what lasts -------------------------------------------------------------------------------------------

    def _content(self, number: int, way: int, raw: bytes) -> Iterator[str]:
        """Lines of server-sent events, as they end."""
        following = self._followed[number]
        *lines, rest = (following.rest + raw).split(b"\n")
        following.rest = rest if len(rest) <= PREVIEW_BYTES else b""
        if rest and not following.rest:
            lines.append(rest)
        for line in lines:
            if line.strip():
                yield from self._line(number, way, following, line)

    def _line(self, number: int, way: int, following: _Following, line: bytes) -> Iterator[str]:
        following.lines[way] += 1
        if following.lines[way] <= self._max_lines:
            text = line.decode("utf-8", "backslashreplace").rstrip("\r")
            yield f"[{number}] {_MARKS[way]}{plain(shortened(text, MAX_LINE_CHARACTERS))}"

    def _message(self, following: _Following, entry: HttpMessage) -> Iterator[str]:
        way = TO_CLIENT if entry.way == TO_CLIENT else TO_TARGET
        following.lines[way] += 1
        if following.lines[way] > self._max_lines:
            return
        more = f" and {entry.omitted} more bytes" if entry.omitted else ""
        if entry.message_kind == "text":
            text = entry.raw.decode("utf-8", "backslashreplace")
            shown = plain(shortened(text, MAX_LINE_CHARACTERS))
        else:
            shown = f"{plain(entry.message_kind)}, {raw_line(entry.raw)}"
        at = f"{self._clock(entry.at_us)} " if self._detailed else ""
        yield f"{at}[{entry.exchange}] {_MARKS[way]}{shown}{more}"

    # --- notes ------------------------------------------------------------------------------------------------

    def _late(self, entry: HttpEntry) -> Iterator[str]:
        """About an exchange that is over, or that the tape does not begin."""
        if isinstance(entry, HttpToolCall | HttpMasked | HttpUsage):
            yield from self._note(entry)

    def _note(self, entry: HttpToolCall | HttpMasked | HttpUsage) -> Iterator[str]:
        head = f"-- [{entry.exchange}]"
        match entry:
            case HttpToolCall(name=name, arguments=arguments, omitted=omitted):
                more = f" and {omitted} more characters" if omitted else ""
                yield f"{head} tool call {plain(name)} {data_text(arguments)}{more}"
            case HttpMasked(counts=counts):
                yield f"{head} masked: {_counts(counts)}"
            case HttpUsage(data=data):
                yield f"{head} usage: {_data(data)}"

    def _head(self, at_us: int, number: int) -> str:
        return f"--{f' {self._clock(at_us)}' if self._detailed else ''} [{number}]"

    def _clock(self, at_us: int) -> str:
        return clock_time(self._started_at + at_us / _MICROSECONDS)


def _lasts(exchange: _Shown) -> bool:
    if exchange.is_websocket:
        return True
    answer = exchange.to_client
    return (
        answer is not None
        and media_type(answer.header("content-type")) == EVENT_STREAM
        and not codings(answer.header("content-encoding"))
    )


def _sizes(exchange: _Shown) -> str:
    answer = exchange.to_client
    lasted_ms = (exchange.last_at_us - exchange.request.at_us) / _MILLISECONDS_US
    sizes = f"{exchange.to_target.size} bytes up, {answer.size if answer is not None else 0} down"
    broke = f", broke off: {plain(exchange.aborted)}" if exchange.aborted is not None else ""
    return f"{sizes}, {lasted_ms:.1f} ms{broke}"


def _decided(decisions: tuple[Decision, ...], judgement: Judgement | None) -> str:
    if judgement is None:
        return "decision not at hand"
    return "; ".join(decided_text(decision) for decision in decisions) or "not judged"


def _head_lines(way: int, headers: Pairs) -> Iterator[str]:
    yield from (f"{_MARKS[way]}{plain(name)}: {_value(value)}" for name, value in headers[:MAX_HEADERS])
    if len(headers) > MAX_HEADERS:
        yield f"-- {len(headers) - MAX_HEADERS} more headers"


def _value(value: str) -> str:
    return plain(shortened(value, MAX_LINE_CHARACTERS))


def _preview_text(way: Way[_Preview]) -> tuple[str | None, bool]:
    """What is at hand of a body as text, or None when it is not one; and whether that is all of it."""
    raw = way.content.raw
    is_whole = len(raw) == way.kept  # what is not on the tape is told apart
    try:
        shown = bytearray()
        for piece in decoded([raw], way.header("content-encoding")):
            shown += piece
            if len(shown) > MAX_SHOWN_BYTES:
                is_whole = False
                break
    except ContentError:
        return None, is_whole
    if not is_text(way.header("content-type")):
        return None, is_whole
    text = bytes(shown[:MAX_SHOWN_BYTES]).decode("utf-8", "backslashreplace")
    return (None if "\x00" in text else text), is_whole


def _counts(counts: dict[str, int]) -> str:
    return shortened(
        ", ".join(f"{plain(name)} {count}" for name, count in counts.items()), MAX_DATA_CHARACTERS
    )


def _data(data: dict[str, object]) -> str:
    told = ", ".join(f"{plain(str(key)).replace('_', ' ')} {data_text(value)}" for key, value in data.items())
    return shortened(told, MAX_DATA_CHARACTERS)

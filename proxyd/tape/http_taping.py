"""Writes the tape of one HTTP session: one client connection, one subject, one target, one login.

The relay calls it as things happen, and `flush` before it forwards anything: all that is pending becomes one write, and
only what was flushed is on the tape. Exchanges are told apart by the numbers that the caller gives them (streams of
HTTP/2 go on side by side); a number may be used again once its exchange is over.

Repeated things are written once and referred to by id: the headers of a message, and the facts of a request with what
was decided. Of each body, and of the messages of a WebSocket each way, the first `body_bytes` are kept; what is beyond
is counted and hashed. Credentials in heads never get here (see `http_secrets`); bodies are recorded as they went on.

Every method is synchronous; TapeError means: it is not recorded, must not be forwarded, and the session ends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from policy.decision import Decision, Effect
from policy.facts import HttpFacts
from proxyd.tape.entries import DENIED, TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAX_FRAME_BYTES, Buffer
from proxyd.tape.frames import FrameKind
from proxyd.tape.http_entries import TO_CLIENT, TO_TARGET
from proxyd.tape.http_facts import recorded_facts
from proxyd.tape.http_frames import HttpFrames
from proxyd.tape.http_secrets import without_header_secrets, without_url_secrets
from proxyd.tape.writer import COPY_LIMIT_BYTES, Opener, create_file

MAX_OPEN_EXCHANGES: Final = 4096
MAX_REMEMBERED: Final = 512
"""Headers, and judgements, that later exchanges may refer to. Each connection has its own."""
MAX_REMEMBERED_BYTES: Final = 256 * 1024
MAX_ARGUMENTS: Final = 64 * 1024
USED_AGAIN: Final = "the number of the exchange was used again"

_REQUEST: Final = int(FrameKind.HTTP_REQUEST)
_RESPONSE: Final = int(FrameKind.HTTP_RESPONSE)
_BODY: Final = int(FrameKind.HTTP_BODY)
_MESSAGE: Final = int(FrameKind.HTTP_MESSAGE)
_HEADERS: Final = int(FrameKind.HTTP_HEADERS)
_JUDGEMENT: Final = int(FrameKind.JUDGEMENT)

_encode = msgspec.msgpack.Encoder().encode
_sha256 = hashlib.sha256

Headers = Iterable[tuple[str, str]]


class HttpTapeLimits(msgspec.Struct, frozen=True):
    """`body_bytes`: kept of each body. `is_hashing`: what is beyond is hashed, not only counted (about 0.7 s of
    processor time a gigabyte). `secret_headers`: names, in lower case, that are secret besides the well-known ones.
    """

    body_bytes: int
    is_hashing: bool = True
    secret_headers: frozenset[str] = frozenset()


class _Tally:
    """One way of an exchange: how much is kept, and what is known of the rest."""

    __slots__ = ("kept", "omitted", "rest")

    def __init__(self) -> None:
        self.kept = 0
        self.omitted = 0
        self.rest: hashlib._Hash | None = None


class _Exchange:
    __slots__ = ("has_ended", "tallies")

    def __init__(self) -> None:
        self.tallies: list[_Tally | None] = [None, None]
        self.has_ended = [False, False]


class HttpTape(HttpFrames):
    """The open tape of one HTTP session; `path` is its file."""

    def __init__(
        self,
        fd: int,
        path: Path,
        limits: HttpTapeLimits,
        *,
        clock: Callable[[], float],
        fsync: bool = False,
    ) -> None:
        """Takes over `fd`. Most callers want `open`."""
        super().__init__(fd, path, clock=clock, fsync=fsync)
        self._limits = limits
        self._exchanges: dict[int, _Exchange] = {}
        self._judged: dict[tuple[HttpFacts | None, Decision], int] = {}
        self._judgements = 0
        self._last_url = ("", "")  # as it came and as it is shown
        self._known_headers: dict[tuple[tuple[str, str], ...], int] = {}
        self._headers_count = 0
        self._remembered_bytes = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        header: TapeHeader,
        limits: HttpTapeLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        fsync: bool = False,
        opener: Opener | None = None,
    ) -> Self:
        """Create the tape and write its header, whose protocol is `entries.HTTP`. Raises TapeError."""
        path, fd = create_file(directory, header, opener)
        tape = cls(fd, path, limits, clock=clock, fsync=fsync)
        tape.begin(header)
        return tape

    # --- requests ---------------------------------------------------------------------------------------------

    def request(
        self,
        exchange: int,
        method: str,
        url: str,
        version: str,
        headers: Headers,
        facts: HttpFacts | None,
        decision: Decision,
    ) -> None:
        """The head of a request as it goes on, and what was decided; also of one that is refused.

        facts: None for a request that was refused before it was understood.
        """
        self.operations += 1
        if exchange in self._exchanges:
            self.aborted(exchange, USED_AGAIN)
        if url != self._last_url[0]:
            self._last_url = (url, without_url_secrets(url))
        url = self._last_url[1]
        judgement = self._judgement(method, url, facts, decision)
        if decision.effect is not Effect.ALLOW:
            reasons = [reason.message for reason in decision.reasons if reason.message]
            data = {"exchange": exchange, "effect": decision.effect.value, "message": "; ".join(reasons)}
            super().event(DENIED, data)
        known = self._headers(headers)
        head = (_REQUEST, self._now_us(), exchange, judgement, method, url, version, known)
        self._hold(exchange, TO_TARGET, head)
        self._open_exchange(exchange)

    def request_body(self, exchange: int, data: Buffer) -> None:
        """A piece of the body, as it goes on: after masking."""
        self._body(exchange, TO_TARGET, data)

    def request_end(self, exchange: int, trailers: Headers = ()) -> None:
        self._body_end(exchange, TO_TARGET, trailers)

    # --- answers ----------------------------------------------------------------------------------------------

    def response(self, exchange: int, status: int, headers: Headers, *, made_here: bool) -> None:
        """The head of an answer as the client gets it. Answers from 100 to 199 come before the real one."""
        known = self._headers(headers)
        head = (_RESPONSE, self._now_us(), exchange, status, known, bool(made_here))
        self._hold(exchange, TO_CLIENT, head)

    def response_body(self, exchange: int, data: Buffer) -> None:
        """A piece of the body, as the client gets it: after masking."""
        self._body(exchange, TO_CLIENT, data)

    def response_end(self, exchange: int, trailers: Headers = ()) -> None:
        """The exchange is over, even if the request is not: nobody waits for the rest of its body."""
        self._body_end(exchange, TO_CLIENT, trailers)

    # --- what else happens to an exchange ---------------------------------------------------------------------

    def message(self, exchange: int, from_client: bool, kind: str, data: Buffer) -> None:
        """One message of a WebSocket: "text", "binary", "ping", "pong" or "close"."""
        way = TO_TARGET if from_client else TO_CLIENT
        tally = self._tally(exchange, way)
        kept = bytes(data[: max(0, self._limits.body_bytes - tally.kept)])
        kept = kept[: MAX_FRAME_BYTES // 2]
        tally.kept += len(kept)
        omitted = len(data) - len(kept)
        digest = b""
        if omitted and self._limits.is_hashing:
            digest = _sha256(memoryview(data)[len(kept) :]).digest()
        self._write_frame(
            self._packed((_MESSAGE, self._now_us(), exchange, way, kind, kept, omitted, digest))
        )

    def aborted(self, exchange: int, reason: str) -> None:
        """The exchange broke off; nothing more comes of it."""
        self._settle(exchange)
        self._write_packed(FrameKind.HTTP_ABORTED, exchange, reason)

    def masked(self, exchange: int, counts: Mapping[str, int]) -> None:
        """How often which mask or detector replaced something, either way."""
        self._write_packed(FrameKind.HTTP_MASKED, exchange, dict(counts))

    def tool_call(self, exchange: int, name: str, arguments: object) -> None:
        """A model asks for a tool. `arguments`: the JSON text as the model gave it, or what it stands for."""
        if not isinstance(arguments, str):
            try:
                arguments = msgspec.json.encode(arguments).decode()
            except (TypeError, ValueError, RecursionError):
                arguments = repr(arguments)
        kept = arguments[: min(MAX_ARGUMENTS, self._limits.body_bytes)]
        omitted = len(arguments) - len(kept)
        self._write_packed(FrameKind.HTTP_TOOL_CALL, exchange, name, kept, omitted)

    def usage(self, exchange: int, data: Mapping[str, object]) -> None:
        """What a call of a model took: tokens, costs. Plain values."""
        self._write_packed(FrameKind.HTTP_USAGE, exchange, dict(data))

    # --- the tape ---------------------------------------------------------------------------------------------

    def event(self, name: str, data: Mapping[str, object]) -> None:
        """Written at once: it may be about the session (somebody watches it), with no exchange to flush it."""
        super().event(name, data)
        self.flush()

    def end(self, reason: str) -> str:
        """Finish the tape; its final chain hash, which proves the whole tape when it is kept elsewhere.

        A tape that has failed already is only closed.
        """
        if not self.is_usable:
            self.close()
            return self.chain
        try:
            for exchange in tuple(self._exchanges):
                self._settle(exchange)
        except TapeError:
            self.close()
            raise
        return super().end(reason)

    # --- written once -----------------------------------------------------------------------------------------

    def _headers(self, headers: Headers) -> int:
        """Id of these headers, which are written when they are new."""
        key = headers if isinstance(headers, tuple) else tuple(headers)
        known = self._known_headers.get(key)
        if known is not None:
            return known
        identifier = self._headers_count
        self._headers_count += 1
        flat: list[str] = []
        for name, value in without_header_secrets(key, more=self._limits.secret_headers):
            flat += (name, value)
        payload = self._packed((_HEADERS, self._now_us(), identifier, flat))
        self._write_frame(payload)
        self._make_room(len(payload))
        self._known_headers[key] = identifier
        return identifier

    def _judgement(self, method: str, url: str, facts: HttpFacts | None, decision: Decision) -> int:
        """Id of the facts and what was decided, which are written when they are new."""
        is_whole = facts is None or facts.body is None
        if is_whole:
            known = self._judged.get((facts, decision))
            if known is not None:
                return known
        identifier = self._judgements
        self._judgements += 1
        shown: list[object] = []
        lack = ""
        if facts is not None:
            limits = self._limits
            known_facts, lack = recorded_facts(
                facts, body_bytes=limits.body_bytes, secret_headers=limits.secret_headers
            )
            shown.append(known_facts)
        head = (_JUDGEMENT, self._now_us(), identifier, f"{method} {url}")
        payload = self._packed((*head, shown, [decision], decision.policy_version, None, lack))
        self._write_frame(payload)
        if is_whole:
            self._make_room(len(payload))
            self._judged[(facts, decision)] = identifier
        return identifier

    def _make_room(self, size: int) -> None:
        """All is forgotten at once, so that readers need no longer a memory than the last MAX_REMEMBERED ids."""
        self._remembered_bytes += size
        if (
            self._remembered_bytes > MAX_REMEMBERED_BYTES
            or len(self._known_headers) >= MAX_REMEMBERED
            or len(self._judged) >= MAX_REMEMBERED
        ):
            self._known_headers.clear()
            self._judged.clear()
            self._remembered_bytes = size

    # --- bodies -----------------------------------------------------------------------------------------------

    def _open_exchange(self, exchange: int) -> _Exchange:
        if len(self._exchanges) >= MAX_OPEN_EXCHANGES:
            self._settle(next(iter(self._exchanges)))
        state = self._exchanges[exchange] = _Exchange()
        return state

    def _tally(self, exchange: int, way: int) -> _Tally:
        state = self._exchanges.get(exchange) or self._open_exchange(exchange)
        tally = state.tallies[way]
        if tally is None:
            tally = state.tallies[way] = _Tally()
        return tally

    def _body(self, exchange: int, way: int, data: Buffer) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        if not data:
            return
        tally = self._tally(exchange, way)
        room = self._limits.body_bytes - tally.kept
        if len(data) > room:
            data = self._omit(tally, memoryview(data), room)
            if not data:
                return
        tally.kept += len(data)
        if len(data) > COPY_LIMIT_BYTES:
            self._write_raw(_encode((_BODY, self._now_us(), exchange, way, b"")), data)
            return
        if (
            self._held is not None
            and self._held_exchange == exchange
            and self._held_way == way
            and len(self._held_body) + len(data) <= COPY_LIMIT_BYTES
        ):
            self._held_body = self._held_body + bytes(data) if self._held_body else bytes(data)
            return
        self._write_frame(_encode((_BODY, self._now_us(), exchange, way, data)))

    def _body_end(self, exchange: int, way: int, trailers: Headers) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        state = self._exchanges.get(exchange)
        tally = None
        if state is not None:
            tally = state.tallies[way]
            state.has_ended[way] = True
            if way == TO_CLIENT:
                self._settle(exchange)
        if (
            self._held is not None
            and self._held_exchange == exchange
            and self._held_way == way
            and not trailers
            and (tally is None or not tally.omitted)
        ):
            self._held_has_ended = True
        else:
            self._write_end(exchange, way, tally, trailers)

    def _write_end(self, exchange: int, way: int, tally: _Tally | None, trailers: Headers) -> None:
        kept, omitted = (tally.kept, tally.omitted) if tally is not None else (0, 0)
        digest = tally.rest.digest() if tally is not None and tally.rest is not None else b""
        flat: list[str] = []
        for name, value in without_header_secrets(tuple(trailers), more=self._limits.secret_headers):
            flat += (name, value)
        self._write_packed(FrameKind.HTTP_BODY_END, exchange, way, kept, omitted, digest, flat)

    def _settle(self, exchange: int) -> None:
        """Say what is known of bodies that did not end and are not wholly here, and forget the exchange."""
        state = self._exchanges.pop(exchange, None)
        if state is None:
            return
        for way, tally in enumerate(state.tallies):
            if tally is not None and tally.omitted and not state.has_ended[way]:
                self._write_end(exchange, way, tally, ())

    def _omit(self, tally: _Tally, data: memoryview, room: int) -> memoryview:
        """Count and hash what is beyond `room`; what is within is returned."""
        rest = data[room:]
        tally.omitted += len(rest)
        if self._limits.is_hashing:
            if tally.rest is None:
                tally.rest = _sha256()
            tally.rest.update(rest)
        return data[:room]

"""Builds HTTP tapes for the tests, on a clock that is set by hand."""

from __future__ import annotations

from pathlib import Path

from policy.decision import Decision, Effect, Reason
from policy.facts import BodyState, HttpFacts, LlmFacts
from proxyd.tape.entries import Entry, Judgement
from proxyd.tape.http_taping import HttpTape, HttpTapeLimits
from proxyd.tape.reader import read_tape
from tests.proxyd.tape.tapes import Clock, header

ALLOWED = Decision(Effect.ALLOW, (Reason("read-customers", "allowed"),), (), "p1")
DENIED = Decision(Effect.DENY, (Reason("no-delete", "Nothing is deleted here.", "Ask."),), (), "p1")
HELD = Decision(Effect.HOLD, (Reason("ask-first", "needs an approval by ops"),), (), "p1")
URL = "https://api.internal/v1/customers/7"
HEADERS = (("accept", "application/json"), ("user-agent", "curl/8.5.0"))
ANSWER_HEADERS = (("content-type", "application/json"), ("server", "nginx"))


def facts(path: str = "/v1/customers/7", method: str = "GET", **more: object) -> HttpFacts:
    values: dict[str, object] = {"headers": HEADERS}
    return HttpFacts(method, "https", "api.internal", path, **(values | more))  # type: ignore[arg-type]


def http_header(**changes: object) -> object:
    values: dict[str, object] = {"protocol": "http", "target": "api", "login": "default", "database": ""}
    return header(**(values | changes))


def http_tape(
    directory: Path,
    clock: Clock | None = None,
    *,
    limit: int = 1 << 20,
    is_hashing: bool = True,
    secret_headers: frozenset[str] = frozenset(),
    **changes: object,
) -> HttpTape:
    values: dict[str, object] = {"protocol": "http", "target": "api", "login": "default", "database": ""}
    limits = HttpTapeLimits(limit, is_hashing, secret_headers)
    return HttpTape.open(directory, header(**(values | changes)), limits, clock=clock or Clock())


def get(
    tape: HttpTape,
    clock: Clock,
    exchange: int = 1,
    *,
    url: str = URL,
    body: bytes = b'{"name": "Ada"}',
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = ANSWER_HEADERS,
    decision: Decision = ALLOWED,
) -> None:
    """A small exchange, as the relay records it."""
    tape.request(exchange, "GET", url, "1.1", HEADERS, facts(), decision)
    tape.request_end(exchange)
    tape.flush()
    clock.now_s += 0.012
    tape.response(exchange, status, headers, made_here=decision is not ALLOWED)
    tape.response_body(exchange, body)
    tape.response_end(exchange)
    tape.flush()


def small_http_tape(directory: Path, **changes: object) -> Path:
    """A whole tape with a frame of every kind."""
    clock = Clock()
    tape = http_tape(directory, clock, limit=32, **changes)
    get(tape, clock)
    clock.now_s += 0.5
    post = facts("/v1/chat", "POST", body_bytes=40, body_state=BodyState.JSON, body={"model": "m", "n": 1.5})
    llm = LlmFacts("openai", "chat", "gpt-4o", 100, 12, 0.001, ("search",), True)
    chat = HttpFacts(**{**{name: getattr(post, name) for name in post.__struct_fields__}, "llm": llm})
    tape.request(2, "POST", "https://api.internal/v1/chat", "2", HEADERS, chat, ALLOWED)
    tape.request_body(2, b'{"model": "m", "n": 1.5, "x": "' + b"y" * 20 + b'"}')
    tape.request_end(2, (("x-sum", "1"),))
    tape.flush()
    clock.now_s += 0.1
    tape.response(2, 200, (("content-type", "text/event-stream"),), made_here=False)
    tape.response_body(2, b"data: one\n\n")
    tape.flush()
    clock.now_s += 0.1
    tape.tool_call(2, "search", '{"q": "cats"}')
    tape.usage(2, {"input_tokens": 12, "output_tokens": 3})
    tape.masked(2, {"email": 2})
    tape.response_body(2, b"data: two\n\n")
    tape.response_end(2)
    tape.flush()
    get(tape, clock, 3, status=403, decision=DENIED, body=b"{}")
    upgrade = facts("/ws", upgrade="websocket")
    tape.request(4, "GET", "https://api.internal/ws", "1.1", HEADERS, upgrade, ALLOWED)
    tape.request_end(4)
    tape.response(4, 101, (("upgrade", "websocket"),), made_here=False)
    tape.message(4, True, "text", b"hello")
    clock.now_s += 0.25
    tape.message(4, False, "binary", b"\x00\x01" * 30)
    tape.aborted(4, "the client left")
    tape.event("note", {"text": "x"})
    clock.now_s += 1
    tape.end("client left")
    return tape.path


def entries_of(path: Path) -> list[Entry]:
    with read_tape(path) as tape:
        return list(tape.entries())


def judgements_of(path: Path) -> list[Judgement]:
    return [entry for entry in entries_of(path) if isinstance(entry, Judgement)]

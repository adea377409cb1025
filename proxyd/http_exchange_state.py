"""What the parts of one exchange share: its streams, its session, how far it has come.

Made by `http_exchange` for each request, worked on by it, `http_judging`, `http_forwarding` and `http_answering`. Also
what the exchange asks of its connection, and what follows from the head of a request alone.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio

from policy.decision import Decision
from policy.facts import HttpFacts, Subject
from policy.http.masks import HttpMasks
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead
from protocols.http.targets import Destination
from proxyd.gates.http import requests
from proxyd.gates.http.bodies.interfaces import Transformer
from proxyd.gates.http.llm.call import LlmCall
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.gates.http.routing import Route
from proxyd.gateway import Gateway, PolicyInForce
from proxyd.http_credentials.injecting import Injected
from proxyd.http_listener import HttpListenerRuntime
from proxyd.http_sessions import HttpSession, HttpSessions
from proxyd.http_streams import ClientStream, PeerGone
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.identity.standing import Shown
from proxyd.metrics import Operations
from proxyd.tape.errors import TapeError
from proxyd.telemetry import Log


class Prepared:
    """What follows from the head of a request alone. `decision` and `out` where nothing else matters."""

    __slots__ = (
        *("account", "asked", "decision", "facts", "field", "head", "headers", "in_force", "masks", "out"),
        *("checked_at", "encoded", "injected", "token", "route", "sent", "subject", "target", "url"),
    )

    def __init__(
        self,
        head: RequestHead,
        in_force: PolicyInForce,
        subject: Subject,
        field: str,
        asked: Destination,
        route: Route,
        target: HttpTargetRuntime,
        account: HttpAccount,
        headers: Headers,
        facts: HttpFacts,
        masks: HttpMasks,
    ) -> None:
        self.head = head
        self.in_force = in_force
        self.subject = subject
        self.field = field
        self.asked = asked
        self.route = route
        self.target = target
        self.account = account
        self.headers = headers
        self.facts = facts
        self.masks = masks
        self.decision: Decision | None = None
        self.out: RequestHead | None = None
        self.url = ""
        # With the credential that the injector gave last, and as bytes.
        self.injected: Injected | None = None
        self.token = ""
        self.checked_at = 0.0
        self.sent: RequestHead | None = None
        self.encoded = b""


class Caller(Protocol):
    """The connection that the request came on. `prepared`: what is known of heads, by their identity."""

    prepared: dict[int, Prepared]

    listener: HttpListenerRuntime
    gateway: Gateway
    log: Log
    sessions: HttpSessions
    operations: Operations

    async def identify(self, head: RequestHead, *, is_proxied: bool) -> tuple[Subject, str]: ...
    def shown_of(self, subject: Subject) -> tuple[Shown, ...]: ...
    def locate(
        self, asked: Destination, head: RequestHead, subject: Subject
    ) -> tuple[Route, HttpTargetRuntime, HttpAccount]: ...
    def model_call(self, session: HttpSession) -> LlmCall: ...
    def forwarded(self, head: RequestHead) -> str: ...
    def log_refusal(self, refusal: Refusal, head: RequestHead | None, subject: Subject | None) -> None: ...
    def log_failure(self, session: HttpSession, refusal: Refusal) -> None: ...
    def log_denial(self, session: HttpSession, refusal: Refusal) -> None: ...
    def is_current(self, prepared: Prepared) -> bool: ...
    def remember(self, prepared: Prepared) -> None: ...


class ExchangeState:
    """One exchange. `has_answered`: the head of an answer has left, or is about to. Times are monotonic seconds."""

    __slots__ = (
        *(
            "answered",
            "awaits_client",
            "call",
            "client_gone",
            "has_final",
            "connection",
            "gateway",
            "has_answered",
            "head",
            "held_body_bytes",
            "is_recorded",
            "is_switched",
        ),
        *(
            "last_data",
            "may_send",
            "moved_at",
            "number",
            "route",
            "session",
            "stream",
            "subject",
            "trailers",
            "waits_since",
            "websocket_keys",
        ),
    )

    def __init__(self, connection: Caller, stream: ClientStream) -> None:
        self.connection = connection
        self.gateway = connection.gateway
        self.stream = stream
        self.head = stream.head
        self.session: HttpSession | None = None
        self.subject: Subject | None = None  # as soon as it is known who asks
        self.number = 0
        self.route: Route | None = None
        self.call: LlmCall | None = None
        self.has_answered = False
        self.has_final = False  # the target has, though perhaps nothing of it has gone on
        self.answered: ResponseHead | None = None  # the head of the target's answer, as the client got it
        self.last_data = b""
        self.is_recorded = False
        self.is_switched = False
        self.client_gone: PeerGone | None = None
        self.may_send: trio.Event | None = None  # made where a client waits for a 100
        self.held_body_bytes = 0  # of the gateway's, which are given back at the end
        self.trailers: Headers = ()  # of a request that was read whole
        self.websocket_keys = ("", "")  # the client's, and the one that the target was sent; "" over HTTP/2
        self.waits_since = 0.0
        self.awaits_client = False  # it is the client's turn to say something
        self.moved_at = time.monotonic()

    async def from_client(self) -> Data | MessageEnded:
        timeout_s = self.connection.listener.config.timeouts.body
        self.awaits_client = True  # and stays so when nothing comes: it is not the target that was late
        with trio.move_on_after(timeout_s):
            event = await self.stream.receive()
            self.moved_at = time.monotonic()
            self.awaits_client = False
            return event
        raise Refusal(
            408, Kind.PROTOCOL, f"Nothing of the body has come for {timeout_s:g} seconds.", closes=True
        )

    async def flush(self, session: HttpSession) -> None:
        """What has been put together for the client leaves, and is on the tape before."""
        session.tape.flush()
        await self.client_flush()

    async def client_flush(self) -> None:
        try:
            await self.stream.flush()
        except PeerGone as gone:
            self.client_gone = gone
            raise

    def note_masked(self, masker: Transformer) -> None:
        counts = requests.told_counts(masker.counts)
        if counts and self.session is not None:
            self.session.tape.masked(self.number, counts)
            self.gateway.metrics.masked(counts)

    def note_abort(self, reason: str) -> None:
        session = self.session
        if session is None or not session.tape.is_usable or not self.is_recorded:
            return
        try:
            session.tape.aborted(self.number, reason)
            session.tape.flush()
        except TapeError as fault:
            self.connection.log.error("tape cannot be written", reason=str(fault))

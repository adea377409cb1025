"""One request from its head to the end of its answer: who, where, may it, record, forward, mask, record, answer.

Theory of operation. Deciding is done by the gates; here is the order of things, and every wait. What a request says is
recorded before it goes to the target, what an answer says before it goes to the client: `_flush` writes the tape, then
the socket. A request that is here whole is sent in one go; one that streams is sent by a second task while the answer
is read. Whatever goes wrong before the answer's head has left becomes an answer of the gateway's own; after that, an
answer that visibly breaks off.
"""

from __future__ import annotations

import hashlib
import time
from typing import Final, Protocol

import msgspec
import trio

from policy.decision import Decision, Effect, Reason
from policy.facts import BodyState, HttpFacts, Subject
from policy.http.evaluate import judge_http, needs_of
from policy.http.masks import HttpMasks, masks_for_http
from protocols.errors import ProtocolError
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead
from protocols.http.targets import Destination, destination
from proxyd.gates.http import requests
from proxyd.gates.http.answers import client_headers
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.bodies.transformers import transformer_for
from proxyd.gates.http.llm.call import LlmCall, in_shape_of, sdk_of
from proxyd.gates.http.refusals import GRPC, Answer, Kind, Refusal, answer, denied
from proxyd.gates.http.routing import Route
from proxyd.gateway import Gateway, PolicyInForce
from proxyd.http1_connection import Http1Client, Http1Target, encoded_request
from proxyd.http_credentials.injecting import CredentialUnavailable, Injected, Injector, injected_into
from proxyd.http_listener import HttpListenerRuntime
from proxyd.http_pool import TargetUnavailable
from proxyd.http_sessions import HttpSession, HttpSessions
from proxyd.http_streams import ClientStream, PeerGone, TargetStream
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.http_websocket import relay_messages
from proxyd.metrics import Operations, SessionOutcome
from proxyd.tape.errors import TapeError
from proxyd.telemetry import Log

# A target that says nothing to `Expect` for so long is sent the body all the same (RFC 9110, 10.1.1).
CONTINUE_TIMEOUT_S: Final = 1.0
# How long the target may think before the client's own connection is watched too.
WATCH_AFTER_S: Final = 1.0
# Of an answer that has to be masked so much is looked at before anything leaves, so that one that cannot be masked
# becomes an error and not half an answer.
HELD_BACK_BYTES: Final = 64 * 1024
# What of a refused body is read away, so that the connection can be used again.
MAX_DRAINED_BYTES: Final = 1 << 20
DRAIN_TIMEOUT_S: Final = 2.0
CUT_OFF_TIMEOUT_S: Final = 2.0
PROGRESS_GRACE_S: Final = 5.0
# Bodies that are kept whole to be judged, of all requests together.
MAX_HELD_BODIES: Final = 256 << 20
# RFC 9110, 9.2.2: what may be asked again when nobody knows whether it was heard.
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
STREAMED_TYPES: Final = ("text/event-stream", "application/x-ndjson", "application/jsonl", GRPC)

CONTINUE = ResponseHead(100, ())


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
    def locate(
        self, asked: Destination, head: RequestHead, subject: Subject
    ) -> tuple[Route, HttpTargetRuntime, HttpAccount]: ...
    def model_call(self, session: HttpSession) -> LlmCall: ...
    def forwarded(self, head: RequestHead) -> str: ...
    def log_refusal(self, refusal: Refusal, session: HttpSession | None) -> None: ...
    def log_denial(self, session: HttpSession, refusal: Refusal) -> None: ...
    def is_current(self, prepared: Prepared) -> bool: ...
    def remember(self, prepared: Prepared) -> None: ...


class Exchange:
    """`run` serves it, within `scope`. `stream` is the client's side.

    Whoever cancels `scope` has to call `cut_off` behind it.
    """

    def __init__(self, connection: Caller, stream: ClientStream, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._waits_since = 0.0
        self._moved_at = time.monotonic()
        self._is_switched = False
        self._held_body_bytes = 0
        self._cut: Refusal | None = None
        self._connection = connection
        self._gateway = connection.gateway
        self._stream = stream
        self._head = stream.head
        self._session: HttpSession | None = None
        self._number = 0
        self._has_answered = False  # the head of an answer has left, or is about to
        self._is_recorded = False
        self._call: LlmCall | None = None
        # An answer that has to be masked, until enough of it is known to be maskable.
        self._held: ResponseHead | None = None
        self._held_data: list[bytes] = []
        self._held_bytes = 0
        self._transformer: Transformer | None = None
        self._route: Route | None = None
        self._upload_fault: Refusal | None = None
        self._client_gone: PeerGone | None = None
        self._may_send: trio.Event | None = None  # made where a client waits for a 100

    async def run(self) -> None:
        """Raises PeerGone when the client has gone, TapeError when nothing can be recorded any more."""
        try:
            await self._serve()
        except Refusal as refusal:
            await self._refuse(refusal)
        except TapeError as fault:
            self._gateway.metrics.tape_errors += 1
            if self._session is not None:
                self._session.end(SessionOutcome.TAPE, "the session cannot be recorded")
            self._connection.log.error("tape cannot be written", reason=str(fault))
            await self._refuse(
                Refusal(
                    503,
                    Kind.INTERNAL,
                    "The session cannot be recorded, so it ends here.",
                    hint="Tell the operators of the gateway.",
                    closes=True,
                ),
                is_taped=False,
            )
        except PeerGone as gone:
            self._note_abort(f"client: {gone.reason}")
            raise
        except Exception:
            self._gateway.metrics.session_crashes += 1
            self._connection.log.exception("an exchange failed")
            text, hint = "The gateway has failed.", "Tell the operators of the gateway."
            await self._refuse(Refusal(500, Kind.INTERNAL, text, hint=hint, closes=True))
        finally:
            self._gateway.held_body_bytes -= self._held_body_bytes
            if self._call is not None:
                self._call.settle()
                if self._call.fault:
                    self._connection.log.error("what was spent is not written down", reason=self._call.fault)

    # From outside

    def end(self) -> None:
        """The session is over: this goes no further."""
        self._scope.cancel()

    def check(self, now: float) -> None:
        """Called every moment by the connection's watcher. `now` is monotonic."""
        session = self._session
        if session is None or self._is_switched:
            return
        if not self._waits_since:
            self._check_progress(now)
            return
        waited_s = now - self._waits_since
        timeout_s = session.target.config.timeouts.response
        if waited_s >= timeout_s:
            self._cut = Refusal(
                504,
                Kind.TARGET,
                f"The target has said nothing for {timeout_s:g} seconds.",
                hint="Ask for less at once, or try again.",
            )
            self._scope.cancel()
        elif waited_s >= WATCH_AFTER_S and self._stream.is_received and self._stream.is_gone:
            self._client_gone = PeerGone("closed by the peer")
            self._scope.cancel()

    def _check_progress(self, now: float) -> None:
        """Somebody has to take what is sent: a client or a target that does not read holds up what others wait for."""
        timeout_s = self._connection.listener.config.timeouts.body
        if now - self._moved_at >= timeout_s + PROGRESS_GRACE_S:
            text = f"Nothing could be sent for {timeout_s:g} seconds."
            self._cut = Refusal(408, Kind.PROTOCOL, text, closes=True)
            self._scope.cancel()

    async def cut_off(self) -> None:
        """It was cancelled: tell the client why, if that can still be said. Raises PeerGone."""
        session = self._session
        if session is not None:
            session.running.discard(self)
            session.moved_at = time.monotonic()
        if self._client_gone is not None:
            self._note_abort(f"client: {self._client_gone.reason}")
            raise self._client_gone
        refusal = self._cut
        if refusal is None and session is not None and session.ended is not None:
            refusal = session.over()
        if refusal is None:
            refusal = Refusal(503, Kind.NOT_ADMITTED, "The gateway is shutting down.", closes=True)
        with trio.move_on_after(CUT_OFF_TIMEOUT_S, shield=True):
            await self._refuse(refusal)

    # Who and where

    async def _serve(self) -> None:
        connection, head = self._connection, self._head
        prepared = connection.prepared.get(id(head))
        if prepared is None or prepared.head is not head or not connection.is_current(prepared):
            prepared = await self._prepare(head)
        session = connection.sessions.get(prepared.subject, prepared.target, prepared.account)
        self._route = prepared.route
        self._number = session.begin_request()
        self._session = session
        session.running.add(self)
        try:
            if prepared.decision is None:
                await self._judge(session, prepared)
            else:
                await self._forward_known(session, prepared)
        finally:
            session.running.discard(self)
            session.moved_at = time.monotonic()

    async def _prepare(self, head: RequestHead) -> Prepared:
        """Everything that follows from the head alone. Raises Refusal."""
        connection, gateway = self._connection, self._gateway
        try:
            asked = destination(head, keep_encoded_slashes=True)
        except ProtocolError as fault:
            raise Refusal(int(fault.code or 400), Kind.PROTOCOL, fault.message) from fault
        subject, field = await connection.identify(head, is_proxied=asked.form == "absolute")
        if not field:
            requests.refuse_other_sites(head)
        in_force = gateway.in_force
        route, target, account = connection.locate(asked, head, subject)
        config, document, name = target.config, in_force.document, account.login.name
        if "%2F" in asked.path and config.encoded_slashes == "refuse":
            raise Refusal(
                400, Kind.PROTOCOL, "The path holds an encoded slash, which this target does not take."
            )
        headers = requests.shown_headers(head.headers, field)
        facts = requests.head_facts(head, asked, route, config.url.host, config.url.scheme, headers)
        masks = masks_for_http(document, subject, target.facts)
        prepared = Prepared(
            head, in_force, subject, field, asked, route, target, account, headers, facts, masks
        )
        if (
            config.api is None
            and head.body_bytes == 0
            and not head.upgrade
            and not account.injector.needs_body_hash
            and masks.request.is_empty
        ):
            prepared.decision = judge_http(document, subject, target.facts, name, facts)
            if prepared.decision.effect is Effect.ALLOW:
                prepared.out = self._target_head(prepared, 0, is_masked=not masks.response.is_empty)
                connection.remember(prepared)
        return prepared

    def _target_head(self, prepared: Prepared, body_bytes: int | None, *, is_masked: bool) -> RequestHead:
        upstream, config = prepared.account.upstream, prepared.target.config
        return requests.target_head(
            prepared.head,
            prepared.route,
            prepared.asked,
            prepared.headers,
            base_path=upstream.base_path,
            authority=upstream.authority,
            scheme=upstream.scheme,
            body_bytes=body_bytes,
            is_masked=is_masked,
            forwarded=self._connection.forwarded(prepared.head) if config.forwarded else "",
        )

    # May it

    async def _forward_known(self, session: HttpSession, prepared: Prepared) -> None:
        """Nothing about the request is open but the target's credential."""
        decision, out = prepared.decision, prepared.out
        if decision is None:
            raise RuntimeError("not judged")
        self._count(decision)
        if decision.effect is not Effect.ALLOW or out is None:
            raise self._denial(session, prepared, prepared.facts, decision)
        if prepared.url:
            tape = session.tape
            tape.request(
                self._number,
                out.method,
                prepared.url,
                prepared.head.version,
                out.headers,
                prepared.facts,
                decision,
            )
            self._is_recorded = True
        else:
            prepared.url = self._record_request(
                session, out, out.target, out.headers, prepared.facts, decision, b""
            )
        injector = prepared.account.injector
        injected = injector.ready(out)
        if injected is None or injected is not prepared.injected:
            prepared.sent = await self._with_credential(injector, out, None)
            prepared.injected = injected
            prepared.encoded = encoded_request(prepared.sent)
        sent = prepared.sent
        if sent is None:
            raise RuntimeError("a request without a head")
        await self._forward(session, sent, prepared.masks, b"", None, is_whole=True, encoded=prepared.encoded)

    def _denial(
        self, session: HttpSession, prepared: Prepared, facts: HttpFacts, decision: Decision
    ) -> Refusal:
        path = prepared.route.path
        self._record_request(session, prepared.head, path, prepared.headers, facts, decision, b"")
        refusal = denied(decision)
        self._connection.log_denial(session, refusal)
        return refusal

    async def _with_credential(self, injector: Injector, out: RequestHead, digest: str | None) -> RequestHead:
        try:
            injected = injector.ready(out, digest)
            if injected is None:
                injected = await injected_into(injector, out, digest)
        except CredentialUnavailable as fault:
            if self._call is not None:
                self._call.unsent()
            status, kind = (400, Kind.PROTOCOL) if fault.is_request else (502, Kind.TARGET)
            raise Refusal(status, kind, fault.told, hint=fault.hint, reason=fault.reason) from fault
        return requests.with_credential(out, injected)

    async def _judge(self, session: HttpSession, prepared: Prepared) -> None:
        gateway, head, target = self._gateway, self._head, session.target
        config = target.config
        document = prepared.in_force.document
        subject, name = session.subject, session.account.login.name
        headers, facts, masks = prepared.headers, prepared.facts, prepared.masks
        injector = session.account.injector
        call = None
        if config.api is not None:
            call = self._call = self._connection.model_call(session)
            facts = call.read_head(facts)
        needs = needs_of(document, subject, target.facts, name, facts)
        body, is_whole = b"", head.body_bytes == 0 or self._stream.is_received
        is_masked = not masks.request.is_empty
        if not is_whole and (
            needs.body or is_masked or injector.needs_body_hash or (call is not None and call.reads_body)
        ):
            body, is_whole = await self._read_body(self._connection.listener.http_limits.judged_body)
            encoding = requests.content_encoding_of(headers)
            facts = requests.with_body(facts, body, encoding, is_whole=is_whole)
            if call is not None:
                facts = call.read_body(facts)
        decision = judge_http(document, subject, target.facts, name, facts)
        self._count(decision)
        if decision.effect is not Effect.ALLOW:
            if is_masked and facts.body is not None:  # it did not go through the masks: not for the tape
                facts = msgspec.structs.replace(facts, body_state=BodyState.UNREAD, body=None)
            raise self._denial(session, prepared, facts, decision)
        masker, sent, sent_facts = self._masked_request(masks, headers, body, facts, is_whole=is_whole)
        length = len(sent) if is_whole else (None if masker is not None else head.body_bytes)
        is_readable = not masks.response.is_empty or call is not None
        out = self._target_head(prepared, length, is_masked=is_readable)
        if call is not None:
            try:
                call.reserve(document, subject, target.facts, gateway.clock())
            except Refusal as refusal:
                self._record_request(session, head, out.target, headers, sent_facts, _refused(refusal), b"")
                raise
        if injector.needs_body_hash and not is_whole:
            raise Refusal(
                413,
                Kind.LIMIT,
                "The body is longer than can be signed for this target.",
                hint="Send less at once.",
            )
        digest = hashlib.sha256(sent).hexdigest() if injector.needs_body_hash else None
        with_credential = await self._with_credential(injector, out, digest)
        self._record_request(session, out, out.target, out.headers, sent_facts, decision, sent)
        await self._forward(session, with_credential, masks, sent, masker, is_whole=is_whole)

    async def _read_body(self, limit: int) -> tuple[bytes, bool]:
        """The body, or its beginning when it is longer than `limit`; and whether that is all of it."""
        if self._head.expects_continue:
            self._stream.put_head(CONTINUE)
            await self._stream.flush()
            self._may_send = trio.Event()
            self._may_send.set()
        pieces: list[bytes] = []
        size = 0
        while size <= limit:
            event = await self._from_client()
            if isinstance(event, MessageEnded):
                return b"".join(pieces), True
            pieces.append(event.data)
            size += len(event.data)
            self._hold_body(len(event.data))
        return b"".join(pieces), False

    def _hold_body(self, size: int) -> None:
        gateway = self._gateway
        if gateway.held_body_bytes + size > MAX_HELD_BODIES:
            raise Refusal(
                503,
                Kind.LIMIT,
                "Too many bodies are being looked into just now.",
                hint="Try again in a moment.",
                headers=(("retry-after", "5"),),
            )
        gateway.held_body_bytes += size
        self._held_body_bytes += size

    async def _from_client(self) -> Data | MessageEnded:
        timeout_s = self._connection.listener.config.timeouts.body
        with trio.move_on_after(timeout_s):
            return await self._stream.receive()
        raise Refusal(
            408, Kind.PROTOCOL, f"Nothing of the body has come for {timeout_s:g} seconds.", closes=True
        )

    def _masked_request(
        self,
        masks: HttpMasks,
        headers: Headers,
        body: bytes,
        facts: HttpFacts,
        *,
        is_whole: bool,
    ) -> tuple[Transformer | None, bytes, HttpFacts]:
        """What masks the rest of the body, what of it is there already in its masked form, and the facts of that."""
        if masks.request.is_empty or (is_whole and not body):
            return None, body, facts
        content_type = requests.content_type_of(headers)
        encoding = requests.content_encoding_of(headers)
        try:
            masker = transformer_for(
                content_type, masks.request, content_encoding="" if requests.is_plain(encoding) else encoding
            )
            if masker is None:
                return None, body, facts
            if not requests.is_plain(encoding):
                raise BodyRefused("the body is compressed, and masks apply to it", "Send it as it is.")
            sent = masker.feed(body)
            if is_whole:
                sent += masker.finish()
        except BodyRefused as refused:
            raise Refusal(
                415, Kind.DENIED, f"The body cannot be masked: {refused.reason}.", hint=refused.hint
            ) from refused
        if is_whole:
            facts = (
                requests.with_body(facts, sent, encoding, is_whole=True) if facts.body is not None else facts
            )
            self._note_masked(masker)
        return masker, sent, facts

    def _count(self, decision: Decision) -> None:
        operations = self._connection.operations
        if decision.effect is Effect.ALLOW:
            operations.allowed += 1
            return
        if decision.effect is Effect.HOLD:
            operations.held += 1
        else:
            operations.denied += 1
        for reason in decision.reasons:
            self._gateway.metrics.denied_by(reason.rule)

    def _record_request(
        self,
        session: HttpSession,
        head: RequestHead,
        target: str,
        headers: Headers,
        facts: HttpFacts,
        decision: Decision,
        body: bytes,
    ) -> str:
        """The address that stands on the tape."""
        upstream = session.account.upstream
        url = f"{upstream.scheme}://{upstream.authority}{target if target != '*' else '/*'}"
        tape, number = session.tape, self._number
        tape.request(number, head.method, url, self._head.version, headers, facts, decision)
        self._is_recorded = True
        if body:
            tape.request_body(number, body)
        return url

    # To the target

    async def _forward(
        self,
        session: HttpSession,
        head: RequestHead,
        masks: HttpMasks,
        body: bytes,
        masker: Transformer | None,
        *,
        is_whole: bool,
        encoded: bytes = b"",
    ) -> None:
        """`encoded`: the head as HTTP/1.1 has it, where it is known."""
        tape, number = session.tape, self._number
        if is_whole:
            tape.request_end(number)
        tape.flush()
        pool = self._gateway.http_pools.of(session.target, session.account)
        may_repeat = is_whole and not head.upgrade
        is_idempotent = head.method in IDEMPOTENT
        is_fresh = bool(head.upgrade)
        while True:
            try:
                upstream, release = await pool.acquire(is_fresh=is_fresh)
            except TargetUnavailable as fault:
                if self._call is not None:
                    self._call.unsent()
                raise Refusal(
                    fault.status, Kind.TARGET, fault.text, hint="Try again in a moment.", reason=fault.reason
                ) from fault
            try:
                upstream.put_head(head, encoded)
                if body:
                    upstream.put_data(body)
                if is_whole:
                    upstream.put_end()
                    await upstream.flush()
                    await self._answer(session, upstream, masks)
                else:
                    await self._exchange_bodies(session, upstream, masks, masker)
                return
            except PeerGone as gone:
                if self._client_gone is gone:
                    raise
                is_unheard = gone.is_unheard or (gone.is_untouched and is_idempotent)
                if is_unheard and may_repeat and not is_fresh and not self._has_answered:
                    is_fresh = True  # a connection kept open was closed meanwhile: once more, on a new one
                    continue
                raise self._target_lost(gone) from gone
            finally:
                release()

    def _target_lost(self, gone: PeerGone) -> Refusal:
        return Refusal(
            502,
            Kind.TARGET,
            "The target has closed the connection, or answered what is not HTTP.",
            hint="Try again in a moment.",
            reason=f"target: {gone.reason}",
        )

    async def _exchange_bodies(
        self,
        session: HttpSession,
        upstream: TargetStream,
        masks: HttpMasks,
        masker: Transformer | None,
    ) -> None:
        """Send the rest of the body and read the answer, at the same time."""
        lost: PeerGone | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload, session, upstream, masker, nursery.cancel_scope)
            try:
                await self._answer(session, upstream, masks)
            except PeerGone as gone:
                lost = gone
            nursery.cancel_scope.cancel()
        if self._upload_fault is not None:
            raise self._upload_fault
        if self._client_gone is not None:
            raise self._client_gone
        if lost is not None:
            raise lost

    async def _upload(
        self,
        session: HttpSession,
        upstream: TargetStream,
        masker: Transformer | None,
        scope: trio.CancelScope,
    ) -> None:
        try:
            await self._upload_rest(session, upstream, masker)
        except BodyRefused as refused:
            self._upload_fault = Refusal(
                415,
                Kind.DENIED,
                f"The body cannot be masked: {refused.reason}.",
                hint=refused.hint,
                closes=True,
            )
        except Refusal as refusal:
            self._upload_fault = refusal
        except PeerGone as gone:
            if self._client_gone is not gone:
                return  # the target reads no more: what it answers is still read
        else:
            return
        scope.cancel()

    async def _upload_rest(
        self, session: HttpSession, upstream: TargetStream, masker: Transformer | None
    ) -> None:
        tape, number, stream = session.tape, self._number, self._stream
        if self._head.expects_continue and self._may_send is None:
            may_send = self._may_send = trio.Event()
            await upstream.flush()
            with trio.move_on_after(CONTINUE_TIMEOUT_S):
                await may_send.wait()
            if not may_send.is_set():
                may_send.set()
                stream.put_head(CONTINUE)
                await self._client_flush()
        while True:
            is_target = False
            try:
                event = stream.poll()
                if event is None:
                    tape.flush()
                    is_target = True
                    await upstream.flush()
                    is_target = False
                    event = await self._from_client()
            except PeerGone as gone:
                if not is_target:
                    self._client_gone = gone
                raise
            session.moved_at = self._moved_at = time.monotonic()
            if isinstance(event, Data):
                data = event.data if masker is None else masker.feed(event.data)
                if data:
                    tape.request_body(number, data)
                    upstream.put_data(data)
                continue
            rest = b"" if masker is None else masker.finish()
            if rest:
                tape.request_body(number, rest)
                upstream.put_data(rest)
            if masker is not None:
                self._note_masked(masker)
            tape.request_end(number, event.trailers)
            tape.flush()
            upstream.put_end(event.trailers)
            await upstream.flush()
            return

    # And back

    async def _answer(
        self,
        session: HttpSession,
        upstream: TargetStream,
        masks: HttpMasks,
    ) -> None:
        tape, number, stream = session.tape, self._number, self._stream
        while True:
            event = upstream.poll()
            if event is None:
                if self._has_answered:
                    await self._flush(session)
                session.moved_at = self._waits_since = time.monotonic()
                event = await upstream.receive()
                self._waits_since = 0.0
                self._moved_at = time.monotonic()
            kind = (
                event.__class__
            )  # a match would ask each of the classes in turn, and this is asked for every piece
            if kind is Data:
                self._pass_on(session, event.data)  # type: ignore[union-attr]
            elif kind is MessageEnded:
                trailers = event.trailers  # type: ignore[union-attr]
                self._finish_body(session)
                tape.response_end(number, trailers)
                stream.put_end(trailers)
                await self._flush(session)
                return
            elif isinstance(event, ResponseHead):
                if event.status == 101:
                    await self._switch(session, event, upstream, masks)
                    return
                if event.status < 200:
                    self._interim(session, event)
                    await self._flush(session)
                    continue
                if event.status == 401:
                    session.account.injector.invalidate()
                self._start_answer(session, event, masks)

    def _interim(self, session: HttpSession, head: ResponseHead) -> None:
        if head.status == 100:
            if self._may_send is not None and not self._may_send.is_set():
                self._may_send.set()
                self._stream.put_head(CONTINUE)
        elif self._head.version != "1.0":
            session.tape.response(self._number, head.status, head.headers, made_here=False)
            self._stream.put_head(head)

    def _start_answer(self, session: HttpSession, head: ResponseHead, masks: HttpMasks) -> None:
        route = self._route
        if route is None:
            raise RuntimeError("an answer without a route")
        upstream = session.account.upstream
        if masks.response.is_empty and self._call is None:
            headers = client_headers(head.headers, route, upstream, is_changed=False)
            if headers is not head.headers or not head.keep_alive:
                head = ResponseHead(head.status, headers, head.body_bytes)
            self._has_answered = True
            session.tape.response(self._number, head.status, headers, made_here=False)
            self._stream.put_head(head)
            return
        has_body = self._head.method != "HEAD" and head.status not in (204, 304) and head.body_bytes != 0
        transformer = None
        content_type = requests.content_type_of(head.headers)
        if has_body:
            transformer = self._response_transformer(head, content_type, masks)
        is_changed = transformer is not None or (not has_body and not masks.response.is_empty)
        headers = client_headers(head.headers, route, upstream, is_changed=is_changed)
        self._transformer = transformer
        length = None if transformer is not None else head.body_bytes
        self._held = ResponseHead(head.status, headers, length)
        if transformer is None or content_type.startswith(STREAMED_TYPES):
            self._let_go(session)

    def _let_go(self, session: HttpSession) -> None:
        """From here on the answer is the target's, whatever comes."""
        head, self._held = self._held, None
        if head is None:
            return
        self._has_answered = True
        session.tape.response(self._number, head.status, head.headers, made_here=False)
        self._stream.put_head(head)
        for data in self._held_data:
            self._put(session, data)
        self._held_data = []

    def _response_transformer(
        self, head: ResponseHead, content_type: str, masks: HttpMasks
    ) -> Transformer | None:
        if masks.response.is_empty and self._call is None:
            return None
        encoding = requests.content_encoding_of(head.headers)
        try:
            encoding = "" if requests.is_plain(encoding) else encoding
            if self._call is not None:
                return self._call.answer_transformer(head.status, content_type, encoding, masks.response)
            if head.status == 206:
                raise BodyRefused("the target sent a part of a body, and masks apply to it")
            return transformer_for(content_type, masks.response, content_encoding=encoding)
        except BodyRefused as refused:
            raise self._unmaskable(refused) from refused

    def _unmaskable(self, refused: BodyRefused) -> Refusal:
        return Refusal(
            502, Kind.TARGET, f"The target's answer cannot be masked: {refused.reason}.", hint=refused.hint
        )

    def _pass_on(self, session: HttpSession, data: bytes) -> None:
        transformer = self._transformer
        if transformer is not None:
            try:
                data = transformer.feed(data)
            except BodyRefused as refused:
                raise self._unmaskable(refused) from refused
        if not data:
            return
        if self._held is not None:
            self._held_data.append(data)
            self._held_bytes += len(data)
            if self._held_bytes >= HELD_BACK_BYTES:
                self._let_go(session)
            return
        self._put(session, data)

    def _put(self, session: HttpSession, data: bytes) -> None:
        session.tape.response_body(self._number, data)
        self._stream.put_data(data)

    def _finish_body(self, session: HttpSession) -> None:
        transformer = self._transformer
        if transformer is not None:
            try:
                rest = transformer.finish()
            except BodyRefused as refused:
                raise self._unmaskable(refused) from refused
            self._let_go(session)
            if rest:
                self._put(session, rest)
            self._note_masked(transformer)
        if self._call is not None:
            self._call.record_answer(session.tape, self._number)

    def _note_masked(self, masker: Transformer) -> None:
        counts = requests.told_counts(masker.counts)
        if counts and self._session is not None:
            self._session.tape.masked(self._number, counts)
            self._gateway.metrics.masked(counts)

    async def _flush(self, session: HttpSession) -> None:
        """What has been put together for the client leaves, and is on the tape before."""
        session.tape.flush()
        await self._client_flush()

    async def _client_flush(self) -> None:
        try:
            await self._stream.flush()
        except PeerGone as gone:
            self._client_gone = gone
            raise

    async def _switch(
        self, session: HttpSession, head: ResponseHead, upstream: TargetStream, masks: HttpMasks
    ) -> None:
        """The target changes to WebSocket: from here on it is messages."""
        stream = self._stream
        if not isinstance(stream, Http1Client) or not isinstance(upstream, Http1Target):
            raise Refusal(501, Kind.PROTOCOL, "An upgrade over HTTP/2 is not done.", hint="Use HTTP/1.1.")
        headers = tuple(field for field in head.headers if field[0] != "sec-websocket-extensions")
        session.tape.response(self._number, 101, headers, made_here=False)
        session.tape.flush()
        self._has_answered = True
        self._stream.put_head(ResponseHead(101, headers, 0, upgrade=head.upgrade))
        await self._client_flush()
        stream.upgraded = self._is_switched = True
        await relay_messages(stream, upstream, session, self._number, masks.request, masks.response)
        session.tape.response_end(self._number)
        session.tape.flush()

    # Refusing

    async def _refuse(self, refusal: Refusal, *, is_taped: bool = True) -> None:
        """Tell the client. Raises PeerGone."""
        session, connection = self._session, self._connection
        if refusal.kind not in (Kind.DENIED, Kind.HELD):
            connection.log_refusal(refusal, session)
        if self._has_answered:
            self._note_abort(refusal.reason)
            self._stream.abandon(refusal.reason)
            return
        is_grpc = requests.content_type_of(self._head.headers).startswith(GRPC)
        sdk = sdk_of(self._head.headers) if self._call is None and not is_grpc else ""
        if self._call is not None and not is_grpc:
            refusal = self._call.in_its_shape(refusal)
        elif sdk:
            refusal = in_shape_of(sdk, refusal)
        if self._head.version != "2" and not refusal.closes and not await self._drained():
            refusal.closes = True  # the rest of the body would be taken for the next request
        told = answer(refusal, is_grpc=is_grpc)
        if session is not None and is_taped and session.tape.is_usable:
            self._record_refusal(session, told, refusal)
        self._stream.put_head(told.head)
        self._stream.put_data(told.body)
        self._stream.put_end(told.trailers)
        await self._stream.flush()

    async def _drained(self) -> bool:
        """Read away what is left of the body, if that is little and on its way: then the connection stays usable."""
        stream = self._stream
        if stream.is_received:
            return True
        if self._head.expects_continue and (self._may_send is None or not self._may_send.is_set()):
            return False  # it may come or not
        left = MAX_DRAINED_BYTES
        with trio.move_on_after(DRAIN_TIMEOUT_S):
            while left > 0:
                event = await stream.receive()
                if isinstance(event, MessageEnded):
                    return True
                left -= len(event.data)
        return False

    def _record_refusal(self, session: HttpSession, told: Answer, refusal: Refusal) -> None:
        tape, number = session.tape, self._number
        try:
            if not self._is_recorded:
                url = self._head.target
                headers = requests.shown_headers(self._head.headers, "")
                tape.request(
                    number, self._head.method, url, self._head.version, headers, None, _refused(refusal)
                )
            elif refusal.kind is Kind.TARGET:
                tape.event("answer refused", {"exchange": number, "reason": refusal.reason})
            tape.response(number, told.head.status, told.head.headers, made_here=True)
            tape.response_body(number, told.body)
            tape.response_end(number)
            tape.flush()
        except TapeError as fault:
            self._connection.log.error("tape cannot be written", reason=str(fault))
            session.end(SessionOutcome.TAPE, "the session cannot be recorded")

    def _note_abort(self, reason: str) -> None:
        session = self._session
        if session is None or not session.tape.is_usable or not self._is_recorded:
            return
        try:
            session.tape.aborted(self._number, reason)
            session.tape.flush()
        except TapeError as fault:
            self._connection.log.error("tape cannot be written", reason=str(fault))


def _refused(refusal: Refusal) -> Decision:
    """On the tape: refused for a reason outside of the policy's rules."""
    return Decision(Effect.DENY, (Reason(refusal.rule, refusal.reason, refusal.hint),))

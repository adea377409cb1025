"""May this request go on, and as what: who asks, for what target, judged with as much of the body as that takes.

Deciding is done by the gates and the policy; here is the order of it, and what is on the tape before anything goes to
the target. What follows from a head alone is kept for when the same head comes again. Called by `http_exchange`.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
import trio

from policy.decision import Decision, Effect
from policy.facts import BodyState, HttpFacts
from policy.http.evaluate import judge_http, needs_of
from policy.http.masks import HttpMasks, masks_for_http
from protocols.errors import ProtocolError
from protocols.http.messages import Headers, MessageEnded, RequestHead
from protocols.http.targets import destination
from proxyd.gates.http import requests, upgrades
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.bodies.transformers import transformer_for
from proxyd.gates.http.refusals import Kind, Refusal, denied
from proxyd.gates.http.sites import refuse_other_sites
from proxyd.http1_connection import encoded_request
from proxyd.http_answering import CONTINUE
from proxyd.http_credentials.injecting import CredentialUnavailable, Injector, injected_into
from proxyd.http_exchange_state import ExchangeState, Prepared
from proxyd.http_forwarding import Forwarding
from proxyd.http_refusing import refused_decision
from proxyd.http_sessions import HttpSession

# On the average, of a body that is held while it comes: who sends more slowly would keep the room from others.
SLOWEST_BYTES_S: Final = 1024


class Judging:
    """One request."""

    __slots__ = ("_state",)

    def __init__(self, state: ExchangeState) -> None:
        self._state = state

    # Who and where

    def known(self) -> Prepared | None:
        """What has followed from the very same head before, if it still does."""
        connection, head = self._state.connection, self._state.head
        known = connection.prepared.get(id(head))
        is_current = known is not None and known.head is head and connection.is_current(known)
        return known if is_current else None

    async def prepare(self) -> Prepared:
        """Everything that follows from the head alone. Raises Refusal."""
        connection, gateway, head = self._state.connection, self._state.gateway, self._state.head
        upgrades.refuse_unknown(head)
        try:
            asked = destination(head, keep_encoded_slashes=True)
        except ProtocolError as fault:
            raise Refusal(int(fault.code or 400), Kind.PROTOCOL, fault.message) from fault
        requests.refuse_doubled_fields(head.headers)
        subject, field = await connection.identify(head, is_proxied=asked.form == "absolute")
        self._state.subject = subject
        in_force = gateway.in_force
        route, target, account = connection.locate(asked, head, subject)
        config, document, name = target.config, in_force.document, account.login.name
        refuse_other_sites(head, asked, field, target.origins)
        if "%2F" in asked.path and config.encoded_slashes == "refuse":
            raise Refusal(
                400,
                Kind.PROTOCOL,
                "The path holds an encoded slash, which this target does not take.",
                hint="Leave it out. Where the target needs it, its `encoded_slashes` can be set to `keep`.",
            )
        headers = requests.without_tokens(
            requests.shown_headers(head.headers, field), gateway.tokens.is_of_issuer
        )
        if config.api is not None:
            headers = requests.without_payers(headers)
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
            forwarded=self._state.connection.forwarded(prepared.head) if config.forwarded else "",
        )

    # May it

    async def run(self, session: HttpSession, prepared: Prepared) -> None:
        """Judge it, record it, forward it. Raises Refusal, PeerGone, TapeError."""
        if prepared.decision is None:
            await self._judge(session, prepared)
        else:
            await self._forward_known(session, prepared)

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
                self._state.number,
                out.method,
                prepared.url,
                prepared.head.version,
                out.headers,
                prepared.facts,
                decision,
            )
            self._state.is_recorded = True
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
        await Forwarding(self._state).run(
            session, sent, prepared.masks, b"", None, is_whole=True, encoded=prepared.encoded
        )

    def _denial(
        self, session: HttpSession, prepared: Prepared, facts: HttpFacts, decision: Decision
    ) -> Refusal:
        path = prepared.route.path
        self._record_request(session, prepared.head, path, prepared.headers, facts, decision, b"")
        refusal = denied(decision)
        if facts.body_state is BodyState.TOO_LARGE and "`judged_body`" in refusal.hint:
            limit = self._state.connection.listener.http_limits.judged_body
            refusal.hint += f" That is {limit} bytes here."
        self._state.connection.log_denial(session, refusal)
        return refusal

    async def _with_credential(self, injector: Injector, out: RequestHead, digest: str | None) -> RequestHead:
        try:
            injected = injector.ready(out, digest)
            if injected is None:
                injected = await injected_into(injector, out, digest)
        except CredentialUnavailable as fault:
            if self._state.call is not None:
                self._state.call.unsent()
            status, kind = (400, Kind.PROTOCOL) if fault.is_request else (502, Kind.TARGET)
            raise Refusal(status, kind, fault.told, hint=fault.hint, reason=fault.reason) from fault
        return requests.with_credential(out, injected)

    async def _judge(self, session: HttpSession, prepared: Prepared) -> None:
        gateway, head, target = self._state.gateway, self._state.head, session.target
        config = target.config
        document = prepared.in_force.document
        subject, name = session.subject, session.account.login.name
        headers, facts, masks = prepared.headers, prepared.facts, prepared.masks
        injector = session.account.injector
        call = None
        if config.api is not None:
            call = self._state.call = self._state.connection.model_call(session)
            facts = call.read_head(facts)
        needs = needs_of(document, subject, target.facts, name, facts)
        body, is_whole = b"", head.body_bytes == 0 or self._state.stream.is_received
        is_masked = not masks.request.is_empty
        if not is_whole and (
            needs.body or is_masked or injector.needs_body_hash or (call is not None and call.reads_body)
        ):
            body, is_whole = await self._read_body(self._state.connection.listener.http_limits.judged_body)
            encoding = requests.content_encoding_of(headers)
            facts = requests.with_body(facts, body, encoding, is_whole=is_whole)
            if call is not None:
                facts = call.read_body(facts)
        decision = judge_http(document, subject, target.facts, name, facts)
        if call is None or decision.effect is not Effect.ALLOW:
            self._count(decision)
        if decision.effect is not Effect.ALLOW:
            if is_masked and facts.body is not None:  # it did not go through the masks: not for the tape
                facts = msgspec.structs.replace(facts, body_state=BodyState.UNREAD, body=None)
            raise self._denial(session, prepared, facts, decision)
        masker, sent, sent_facts = self._masked_request(masks, headers, body, facts, is_whole=is_whole)
        length = len(sent) if is_whole else (None if masker is not None else head.body_bytes)
        if self._state.trailers:
            length = None  # they come behind chunks only
        is_readable = not masks.response.is_empty or call is not None
        out = self._target_head(prepared, length, is_masked=is_readable)
        if injector.needs_body_hash and not is_whole:
            raise Refusal(
                413,
                Kind.LIMIT,
                "The body is longer than can be signed for this target.",
                hint="Send less at once.",
            )
        if call is not None:
            try:
                call.reserve(document, subject, target.facts, gateway.clock())
            except Refusal as refusal:
                refused = refused_decision(refusal)
                self._record_request(session, head, out.target, headers, sent_facts, refused, b"")
                if refusal.kind is Kind.DENIED:
                    self._count(refused)
                    self._state.connection.log_denial(session, refusal)
                raise
            self._count(decision)
        digest = hashlib.sha256(sent).hexdigest() if injector.needs_body_hash else None
        with_credential = await self._with_credential(injector, out, digest)
        self._record_request(session, out, out.target, out.headers, sent_facts, decision, sent)
        await Forwarding(self._state).run(session, with_credential, masks, sent, masker, is_whole=is_whole)

    async def _read_body(self, limit: int) -> tuple[bytes, bool]:
        """The body, or its beginning when it is longer than `limit`; and whether that is all of it."""
        if self._state.head.expects_continue:
            self._state.stream.put_head(CONTINUE)
            await self._state.stream.flush()
            self._state.may_send = trio.Event()
            self._state.may_send.set()
        pieces: list[bytes] = []
        size, timeout_s = 0, self._state.connection.listener.config.timeouts.body
        began = trio.current_time()
        while size <= limit:
            event = await self._state.from_client()
            if trio.current_time() - began > timeout_s + size / SLOWEST_BYTES_S:
                raise Refusal(
                    408, Kind.PROTOCOL, "The body, which has to be judged, comes too slowly.", closes=True
                )
            if isinstance(event, MessageEnded):
                self._state.trailers = event.trailers
                return b"".join(pieces), True
            pieces.append(event.data)
            size += len(event.data)
            self._hold_body(len(event.data))
        return b"".join(pieces), False

    def _hold_body(self, size: int) -> None:
        session = self._state.session
        if session is None or not self._state.gateway.held_bodies.take(session.subject.name, size):
            raise Refusal(
                503,
                Kind.LIMIT,
                "Too many bodies are being looked into just now.",
                hint="Try again in a moment.",
                headers=(("retry-after", "5"),),
            )
        self._state.held_body_bytes += size

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
            masker = transformer_for(content_type, masks.request)
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
            self._state.note_masked(masker)
        return masker, sent, facts

    def _count(self, decision: Decision) -> None:
        operations = self._state.connection.operations
        if decision.effect is Effect.ALLOW:
            operations.allowed += 1
            return
        if decision.effect is Effect.HOLD:
            operations.held += 1
        else:
            operations.denied += 1
        for reason in decision.reasons:
            self._state.gateway.metrics.denied_by(reason.rule)

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
        tape, number = session.tape, self._state.number
        tape.request(number, head.method, url, self._state.head.version, headers, facts, decision)
        self._state.is_recorded = True
        if body:
            tape.request_body(number, body)
        return url

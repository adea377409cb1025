"""One HTTP connection from accept to close: TLS, the version of HTTP, its exchanges, tunnels inside of it, the end.

Theory of operation. HTTP/1.1 is served by one task, an exchange after the other. HTTP/2 has a task that reads and one
for each stream. A watcher looks at the sessions every few seconds and at the silence between requests. Nothing that
goes wrong in here leaves this connection.
"""

from __future__ import annotations

import math
import time
from typing import Final

import trio

from policy.facts import Subject
from policy.ssh.evaluate import may_reach
from protocols.errors import ProtocolError
from protocols.http.http1 import Http1Limits, RequestReader
from protocols.http.http2 import Http2Limits
from protocols.http.messages import RequestHead
from protocols.http.targets import Destination, destination
from proxyd.gates.http.llm.call import LlmCall
from proxyd.gates.http.refusals import Kind, Refusal, answer
from proxyd.gates.http.routing import LOGIN_FIELD, OwnNames, Route, Tunnel, route
from proxyd.gateway import Gateway
from proxyd.http1_connection import Http1Client
from proxyd.http2_connection import Http2Connection, Http2Request
from proxyd.http_exchange import Exchange
from proxyd.http_exchange_state import Prepared
from proxyd.http_identity import identify, presented
from proxyd.http_link import Link
from proxyd.http_listener import HttpListenerRuntime
from proxyd.http_refusing import told_of
from proxyd.http_sessions import HttpSession, HttpSessions, not_admitted
from proxyd.http_streams import PeerGone
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.http_tunnel import TunnelFailed, open_tunnel
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.telemetry import Log
from proxyd.wire import ConnectionLost

TICK_S: Final = 1.0
SESSIONS_TICK_S: Final = 2.0
ENDING_TICK_S: Final = 0.05
MAX_PREPARED: Final = 64
BELIEVED_S: Final = 1.0
LAST_WORD_TIMEOUT_S: Final = 2.0
HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_FAILURES: Final = {
    Kind.UNKNOWN: HandshakeFailure.IDENTITY,
    Kind.NOT_ADMITTED: HandshakeFailure.NOT_ADMITTED,
    Kind.PROTOCOL: HandshakeFailure.PROTOCOL,
    Kind.TARGET: HandshakeFailure.TARGET,
    Kind.LIMIT: HandshakeFailure.SUBJECT_LIMIT,
    Kind.INTERNAL: HandshakeFailure.INTERNAL,
}


class HttpConnection:
    """`certificate`: the subject of the client's certificate, None without one. `tunnel`: what a CONNECT was for,
    `tunnel_head`: the request itself, by which whoever asks inside is known.
    """

    def __init__(
        self,
        link: Link,
        listener: HttpListenerRuntime,
        gateway: Gateway,
        log: Log,
        *,
        client: str,
        address: str,
        certificate: Subject | None,
        scheme: str,
        sessions: HttpSessions | None = None,
        tunnel: Tunnel | None = None,
        tunnel_head: RequestHead | None = None,
    ) -> None:
        self.listener = listener
        self.gateway = gateway
        self.log = log
        self.sessions = sessions or HttpSessions(listener, gateway, log, client)
        self.operations = gateway.metrics.operations("http")
        self._link = link
        self._client = client
        self._certificate = certificate
        self._scheme = scheme
        self._own = OwnNames(listener.own.domain, listener.own.hosts, address)
        self._tunnel = tunnel
        self._tunnel_head = tunnel_head
        self._tunnel_token = ""
        self._began_at = self._moved_at = time.monotonic()
        self._is_stranger = certificate is None and tunnel is None  # until a request says who asks
        self._http1: Http1Client | None = None
        self._http2: Http2Connection | None = None
        self._has_tunnel = False
        self._tunnel_asker: Subject | None = None
        self._logins: dict[tuple[int, str, int], tuple[Subject, HttpAccount]] = {}
        self._scope = trio.CancelScope()
        self._running: set[Exchange] = set()
        self.prepared: dict[int, Prepared] = {}

    # What exchanges ask

    async def identify(self, head: RequestHead, *, is_proxied: bool) -> tuple[Subject, str]:
        """Who asks, and the field of the token. Raises Refusal."""
        if self._tunnel_head is not None:
            return await self._who_opened_the_tunnel(self._tunnel_head), ""
        return await self._identified(head, is_proxied=is_proxied)

    async def _identified(self, head: RequestHead, *, is_proxied: bool) -> tuple[Subject, str]:
        known = await identify(
            self.listener.config.factors,
            self._certificate,
            head,
            self.gateway.tokens,
            self.gateway.clock(),
            is_proxied=is_proxied,
        )
        self._is_stranger = False
        return known

    async def _who_opened_the_tunnel(self, head: RequestHead) -> Subject:
        """Asked anew with each request: the issuer may have taken the key of a token back, or have been taken out."""
        try:
            subject, field = await self._identified(head, is_proxied=True)
        except Refusal as refusal:
            raise Refusal(
                401,
                Kind.UNKNOWN,
                f"Who has opened this tunnel is not known any more. {refusal.detail}",
                hint="Get a new token, and open another tunnel.",
                reason=refusal.reason,
                closes=True,
            ) from refusal
        self._tunnel_token = presented(head.headers, is_proxied=True).token if field else ""
        return subject

    def locate(
        self, asked: Destination, head: RequestHead, subject: Subject
    ) -> tuple[Route, HttpTargetRuntime, HttpAccount]:
        """Where the request goes, and by which account. Raises Refusal."""
        way = route(asked, self._own, self._target_at, self._tunnel)
        target = self.gateway.http_target(way.target)
        if target is None and way.is_host_name:  # host names know no case
            target = self.gateway.http_target_named(way.target)
        if target is None:
            raise not_admitted(subject, way.target, "no such target")
        named = way.login or next((value for name, value in head.headers if name == LOGIN_FIELD), "")
        return way, target, self._account(subject, target, named)

    def is_current(self, prepared: Prepared) -> bool:
        """Does what followed from the head still follow?"""
        gateway = self.gateway
        if prepared.in_force is not gateway.in_force:
            return False
        subject, now = prepared.subject, gateway.clock()
        if subject.expires_at is not None and subject.expires_at <= now:
            return False
        if not prepared.field and not self._tunnel_token:
            return True
        if self._certificate is not None:
            return False
        # Of a token: is it still one that is believed? Its issuer may have taken back the key.
        if not prepared.checked_at <= now < prepared.checked_at + BELIEVED_S:
            if not prepared.token:
                is_proxied = prepared.asked.form == "absolute"
                shown = self._tunnel_token or presented(prepared.head.headers, is_proxied=is_proxied).token
                prepared.token = shown
            if gateway.tokens.known(prepared.token) is not subject:
                return False
            prepared.checked_at = now
        return True

    def remember(self, prepared: Prepared) -> None:
        """Kept by the head itself: the reader gives the same one for the same bytes."""
        if self._http2 is not None:
            return
        if len(self.prepared) >= MAX_PREPARED:
            self.prepared.clear()
        self.prepared[id(prepared.head)] = prepared

    def _target_at(self, host: str, port: int | None) -> str | None:
        found = self.gateway.http_target_of(host, port)
        return None if found is None else found.facts.name

    def _account(self, subject: Subject, target: HttpTargetRuntime, named: str) -> HttpAccount:
        if named:
            account = target.accounts.get(named)
            if account is None:
                raise not_admitted(subject, target.facts.name, f"no login {named[:64]!r}")
            return account
        key = (id(subject), target.facts.name, self.gateway.in_force.serial)
        known = self._logins.get(key)
        if known is not None and known[0] is subject:
            return known[1]
        logins = self._logins_for(subject, target)
        if len(logins) > 1:
            raise Refusal(
                403,
                Kind.NOT_ADMITTED,
                f"There are several logins at {target.facts.name}: {', '.join(logins)}.",
                hint="Name one, by the field Proxyd-Login or as /t/LOGIN+TARGET/.",
            )
        if len(self._logins) > 256:
            self._logins.clear()
        self._logins[key] = (subject, target.accounts[logins[0]])
        return target.accounts[logins[0]]

    def _logins_for(self, subject: Subject, target: HttpTargetRuntime) -> tuple[str, ...]:
        """At least one. Raises Refusal."""
        usable = may_reach(self.gateway.policy, subject, [(target.facts, tuple(target.accounts))])
        logins = tuple(usable[0][1]) if usable else ()
        if not logins:
            raise not_admitted(subject, target.facts.name, "no access entry gives a login")
        return logins

    def model_call(self, session: HttpSession) -> LlmCall:
        return LlmCall(session.target.config.api or "", self.gateway.model_prices, self.gateway.budgets)

    def forwarded(self, head: RequestHead) -> str:
        """RFC 7239: who asked, and by what name."""
        host = self._client.rpartition(":")[0] or "unknown"
        node = f'"[{host.strip("[]")}]"' if ":" in host else host
        by = head.authority.replace('"', "").replace("\\", "")
        return f'for={node};host="{by}";proto={self._scheme}'

    def log_refusal(
        self, refusal: Refusal, head: RequestHead | None = None, subject: Subject | None = None
    ) -> None:
        """Of what has no session, and so no tape: the line is all that is kept of it. `subject`: None while unknown."""
        failure = _FAILURES.get(refusal.kind, HandshakeFailure.INTERNAL)
        self.gateway.metrics.handshake_failed(self.listener.name, failure)
        known = {} if head is None else told_of(head)
        if subject is not None:
            known |= {"subject": subject.name, "by": subject.method}
        elif self._certificate is not None:
            known["certificate"] = self._certificate.name
        self.log.warning(
            "request refused",
            **known,
            status=refusal.status,
            reason=refusal.reason,
            failure=failure.value,
        )

    def log_failure(self, session: HttpSession, refusal: Refusal) -> None:
        self.log.warning(
            "request failed",
            session=session.session.id,
            subject=session.subject.name,
            target=session.target.facts.name,
            status=refusal.status,
            reason=refusal.reason,
        )

    def log_denial(self, session: HttpSession, refusal: Refusal) -> None:
        self.log.info(
            "request denied",
            session=session.session.id,
            subject=session.subject.name,
            target=session.target.facts.name,
            rule=refusal.rule,
        )

    # Serving

    async def serve(self, protocol: str, received: bytes = b"") -> None:
        """Until the connection is over."""
        outcome, reason = SessionOutcome.FAILED, "failed"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                with self._scope:
                    if protocol == "h2":
                        outcome, reason = await self._serve_http2(received)
                    else:
                        outcome, reason = await self._serve_http1(received)
                if self._scope.cancelled_caught:
                    outcome, reason = await self._cut_off()
                nursery.cancel_scope.cancel()
        finally:
            if self._tunnel is None:
                self.sessions.close(outcome, reason)

    async def _cut_off(self) -> tuple[SessionOutcome, str]:
        """The connection was ended between two requests, or its one exchange was in the middle of it."""
        running, self._running = self._running, set()
        if self._http2 is not None or not running:
            return SessionOutcome.IDLE, "no request for too long"
        for exchange in running:
            try:
                await exchange.cut_off()
            except PeerGone as gone:
                return SessionOutcome.CLIENT_CLOSED, f"client: {gone.reason}"
        with trio.move_on_after(LAST_WORD_TIMEOUT_S, shield=True):
            await self._linger()
        return SessionOutcome.ENDED, "an exchange was ended"

    async def _serve_http1(self, received: bytes) -> tuple[SessionOutcome, str]:
        limits = self.listener.http_limits
        reader = RequestReader(Http1Limits(head_bytes=limits.head, fields=limits.headers), self._scheme)
        if received:
            reader.feed(received)
        client = self._http1 = Http1Client(self._link, reader)
        while True:
            try:
                if not await self._await_request(client):
                    return SessionOutcome.CLIENT_CLOSED, "client: closed by the peer"
            except ConnectionLost as lost:
                return SessionOutcome.CLIENT_CLOSED, f"client: {lost}"
            except ProtocolError as fault:
                await self._tell_fault(fault)
                return SessionOutcome.PROTOCOL, f"client broke the protocol: {fault.message}"
            if client.head.method == "CONNECT":
                return await self._serve_connect(client)
            exchange = Exchange(self, client, self._scope)
            self._running.add(exchange)
            try:
                await exchange.run()
            except PeerGone as gone:
                self._running.discard(exchange)
                return SessionOutcome.CLIENT_CLOSED, f"client: {gone.reason}"
            self._running.discard(exchange)  # not when it was cancelled: then it is told so
            self._moved_at = time.monotonic()
            if client.upgraded:
                return SessionOutcome.CLIENT_CLOSED, "client: the messages are over"
            if client.is_abandoned:
                return SessionOutcome.TARGET_CLOSED, "an answer broke off"
            if client.closes or not client.is_received or self.gateway.drain.is_set():
                await self._linger()
                return SessionOutcome.CLIENT_CLOSED, "client: asked to close"
            client.start_next()

    async def _await_request(self, client: Http1Client) -> bool:
        """Wait for a head. False: the client has gone between two requests. Raises ConnectionLost, ProtocolError."""
        timeouts = self.listener.config.timeouts
        if client.announced() is not None:
            return True
        deadline = math.inf
        while True:
            if not client.is_idle and deadline == math.inf:
                deadline = trio.current_time() + timeouts.head
            if deadline == math.inf:
                await client.more()  # the watcher ends what is idle for too long
            else:
                with trio.move_on_at(deadline) as scope:
                    await client.more()
                if scope.cancelled_caught:
                    raise ProtocolError(f"no head of a request within {timeouts.head:g} seconds", "408")
            self._moved_at = time.monotonic()
            if client.announced() is not None:
                return True

    async def _tell_fault(self, fault: ProtocolError) -> None:
        status = int(fault.code) if fault.code.isdigit() else 400
        refusal = Refusal(
            status, Kind.PROTOCOL, f"{fault.message[:1].upper()}{fault.message[1:]}.", closes=True
        )
        self.log_refusal(refusal)
        reader = RequestReader(Http1Limits(), self._scheme)
        client = Http1Client(self._link, reader)
        client.head = RequestHead("GET", "/", self._scheme, "", ())
        told = answer(refusal)
        client.put_head(told.head)
        client.put_data(told.body)
        client.put_end()
        try:
            await client.flush()
        except PeerGone:
            return
        await self._linger()

    async def _linger(self) -> None:
        self._link.send_last(b"")
        await self._link.linger(LAST_WORD_TIMEOUT_S)

    async def _serve_http2(self, received: bytes) -> tuple[SessionOutcome, str]:
        limits = self.listener.http_limits
        async with trio.open_nursery() as nursery:

            def take(stream: Http2Request) -> None:
                nursery.start_soon(self._serve_stream, stream)

            connection = self._http2 = Http2Connection(
                self._link,
                Http2Limits(streams=limits.streams, head_bytes=limits.head, fields=limits.headers),
                is_server=True,
                scheme=self._scheme,
                on_request=take,
                received=received,
            )
            try:
                await connection.begin()
            except ConnectionLost as lost:
                return SessionOutcome.CLIENT_CLOSED, f"client: {lost}"
            await connection.run()
            nursery.cancel_scope.cancel()
        ended = connection.ended
        if connection.is_broken_protocol and ended is not None:
            self.gateway.metrics.handshake_failed(self.listener.name, HandshakeFailure.PROTOCOL)
            self.log.warning("connection broke the protocol", reason=ended.reason)
            await self._link.linger(LAST_WORD_TIMEOUT_S)
            return SessionOutcome.PROTOCOL, f"client broke the protocol: {ended.reason}"
        return SessionOutcome.CLIENT_CLOSED, f"client: {ended.reason if ended else 'closed'}"

    async def _serve_stream(self, stream: Http2Request) -> None:
        """A fault in one stream ends that stream."""
        scope = trio.CancelScope()
        exchange = Exchange(self, stream, scope)
        stream.on_lost = exchange.lose
        self._running.add(exchange)
        try:
            with scope:
                if stream.head.method == "CONNECT":
                    await self._refuse_connect(stream)
                else:
                    await exchange.run()
            if scope.cancelled_caught:
                await exchange.cut_off()
        except PeerGone:
            return
        except Exception:
            self.gateway.metrics.session_crashes += 1
            self.log.exception("an exchange failed")
            stream.abandon("failed")
        finally:
            self._running.discard(exchange)
            self._moved_at = time.monotonic()
            stream.close()

    async def _refuse_connect(self, stream: Http2Request) -> None:
        refusal = Refusal(
            501, Kind.PROTOCOL, "Tunnels are not opened over HTTP/2.", hint="Use HTTP/1.1 for the proxy."
        )
        self.log_refusal(refusal, stream.head)
        told = answer(refusal)
        stream.put_head(told.head)
        stream.put_data(told.body)
        stream.put_end()
        await stream.flush()

    # A tunnel

    async def _serve_connect(self, client: Http1Client) -> tuple[SessionOutcome, str]:
        try:
            tunnel, subject = await self._admit_tunnel(client.head)
        except Refusal as refusal:
            refusal.closes = True
            self.log_refusal(refusal, client.head, self._tunnel_asker)
            told = answer(refusal)
            client.head = RequestHead("GET", "/", self._scheme, "", ())
            client.put_head(told.head)
            client.put_data(told.body)
            client.put_end()
            try:
                await client.flush()
            except PeerGone:
                return SessionOutcome.CLIENT_CLOSED, "client: closed by the peer"
            await self._linger()
            return SessionOutcome.CLIENT_CLOSED, f"refused: {refusal.reason}"
        inspection = self.listener.inspection
        log = self.log.bind(subject=subject.name, tunnel=f"{tunnel.host}:{tunnel.port}")
        try:
            if inspection is None:
                raise TunnelFailed(SessionOutcome.FAILED, "no authority for tunnels")
            inner = await open_tunnel(client, tunnel, inspection, self.listener.limits.handshake_timeout)
        except TunnelFailed as failed:
            if failed.is_distrusted:
                self.gateway.metrics.handshake_failed(self.listener.name, HandshakeFailure.TLS)
            log.warning("tunnel refused", reason=failed.reason)
            return failed.outcome, failed.reason
        log.info("tunnel opened")
        self._has_tunnel = True
        inside = HttpConnection(
            inner,
            self.listener,
            self.gateway,
            self.log,
            client=self._client,
            address=self._own.address,
            certificate=self._certificate,
            scheme="https",
            sessions=self.sessions,
            tunnel=tunnel,
            tunnel_head=client.head,
        )
        await inside.serve(inner.alpn_protocol or "http/1.1")
        return SessionOutcome.CLIENT_CLOSED, "client: the tunnel is closed"

    async def _admit_tunnel(self, head: RequestHead) -> tuple[Tunnel, Subject]:
        """Raises Refusal."""
        if self.listener.inspection is None or self._tunnel is not None:
            raise Refusal(
                405,
                Kind.PROTOCOL,
                "This listener opens no tunnels.",
                hint="Use the address of the target at the gateway in place of a proxy.",
                headers=(("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),),
            )
        try:
            asked = destination(head)
        except ProtocolError as fault:
            raise Refusal(int(fault.code or 400), Kind.PROTOCOL, fault.message) from fault
        subject, _ = await self.identify(head, is_proxied=True)
        self._tunnel_asker = subject
        found = self.gateway.http_target_of(asked.host, asked.port)
        if found is None:
            raise not_admitted(subject, f"{asked.host}:{asked.port}", "no target is there")
        self._logins_for(subject, found)  # who may not go there at all is told so now
        return Tunnel(asked.host, asked.port, found.facts.name), subject

    # The end

    def _is_idle(self, now: float) -> bool:
        """For too long; of a stranger, who could hold the places of others, the time for a handshake is enough."""
        if self._is_stranger and now - self._began_at >= self.listener.limits.handshake_timeout:
            return True
        return now - self._moved_at >= self.listener.config.timeouts.idle

    async def _watch(self) -> None:
        sessions, drain = self.sessions, self.gateway.drain
        checked_at = 0.0
        while True:
            with trio.move_on_after(ENDING_TICK_S if sessions.is_ending else TICK_S):
                await sessions.one_ended.wait()
            now = time.monotonic()
            if self._has_tunnel:
                return  # whoever watches what is inside closes it
            for exchange in tuple(self._running):
                exchange.check(now)
            is_over = False
            if now - checked_at >= SESSIONS_TICK_S or sessions.one_ended.is_set() or sessions.is_ending:
                checked_at = now
                is_over = sessions.check()
            if drain.is_set() and self._http1 is not None:
                self._http1.closes = True  # what runs is answered, and is the last
            is_quiet = is_over or drain.is_set() or self._is_idle(now)
            if is_quiet and not self._running:
                if self._http2 is not None:
                    self._http2.http2.close()
                    self._http2.flush_soon()
                else:
                    self._link.send_last(b"")
                self._scope.cancel()
                return

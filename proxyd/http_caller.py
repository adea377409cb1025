"""Who asks over one connection, where a request goes and by which account: what exchanges ask of their connection.

Knows what the connection is (its listener, its certificate, the tunnel that it may be) and remembers what it has found
out for requests that come again. Implements `http_exchange_state.Caller`; made by `http_door`, for each tunnel anew.
"""

from __future__ import annotations

from typing import Final

from policy.facts import Subject
from policy.ssh.evaluate import may_reach
from protocols.http.messages import RequestHead
from protocols.http.targets import Destination
from proxyd.gates.http.llm.call import LlmCall
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.gates.http.routing import LOGIN_FIELD, OwnNames, Route, Tunnel, route
from proxyd.gateway import Gateway
from proxyd.http_exchange_state import Prepared
from proxyd.http_identity import identify, presented
from proxyd.http_listener import HttpListenerRuntime
from proxyd.http_sessions import HttpSession, HttpSessions, not_admitted
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.metrics import HandshakeFailure
from proxyd.telemetry import Log

MAX_PREPARED: Final = 64
BELIEVED_S: Final = 1.0

_FAILURES: Final = {
    Kind.UNKNOWN: HandshakeFailure.IDENTITY,
    Kind.NOT_ADMITTED: HandshakeFailure.NOT_ADMITTED,
    Kind.PROTOCOL: HandshakeFailure.PROTOCOL,
    Kind.TARGET: HandshakeFailure.TARGET,
    Kind.LIMIT: HandshakeFailure.SUBJECT_LIMIT,
    Kind.INTERNAL: HandshakeFailure.INTERNAL,
}


class HttpCaller:
    """`certificate`: the subject of the client's certificate, None without one. `tunnel`: what a CONNECT was for, and
    `opener` who has opened it."""

    def __init__(
        self,
        listener: HttpListenerRuntime,
        gateway: Gateway,
        log: Log,
        *,
        client: str,
        address: str,
        certificate: Subject | None,
        scheme: str,
        tunnel: Tunnel | None = None,
        opener: Subject | None = None,
    ) -> None:
        self.listener = listener
        self.gateway = gateway
        self.log = log
        self.sessions = HttpSessions(listener, gateway, log, client)
        self.operations = gateway.metrics.operations("http")
        self.prepared: dict[int, Prepared] = {}
        self.scheme = scheme
        self.tunnel = tunnel
        self._client = client
        self._certificate = certificate
        self._own = OwnNames(listener.own.domain, listener.own.hosts, address)
        self._opener = opener
        self._logins: dict[tuple[int, str, int], tuple[Subject, HttpAccount]] = {}

    def within(self, tunnel: Tunnel, opener: Subject) -> HttpCaller:
        """The same client, as it asks inside of a tunnel."""
        return HttpCaller(
            self.listener,
            self.gateway,
            self.log,
            client=self._client,
            address=self._own.address,
            certificate=self._certificate,
            scheme="https",
            tunnel=tunnel,
            opener=opener,
        )

    async def identify(self, head: RequestHead, *, is_proxied: bool) -> tuple[Subject, str]:
        """Who asks, and the field of the token. Raises Refusal."""
        if self._opener is not None:
            return self._opener, ""
        return await identify(
            self.listener.config.factors,
            self._certificate,
            head,
            self.gateway.tokens,
            self.gateway.clock(),
            is_proxied=is_proxied,
        )

    def locate(
        self, asked: Destination, head: RequestHead, subject: Subject
    ) -> tuple[Route, HttpTargetRuntime, HttpAccount]:
        """Where the request goes, and by which account. Raises Refusal."""
        way = route(asked, self._own, self._target_at, self.tunnel)
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
        if not prepared.field:
            return True
        if self._certificate is not None:
            return False
        # Of a token: is it still one that is believed? Its issuer may have taken back the key.
        if not prepared.checked_at <= now < prepared.checked_at + BELIEVED_S:
            if not prepared.token:
                is_proxied = prepared.asked.form == "absolute"
                prepared.token = presented(prepared.head.headers, is_proxied=is_proxied).token
            if gateway.tokens.known(prepared.token) is not subject:
                return False
            prepared.checked_at = now
        return True

    def remember(self, prepared: Prepared) -> None:
        """Kept by the head itself: the reader gives the same one for the same bytes."""
        if prepared.head.version == "2":
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
        logins = self.logins_for(subject, target)
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

    def logins_for(self, subject: Subject, target: HttpTargetRuntime) -> tuple[str, ...]:
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
        return f'for={node};host="{by}";proto={self.scheme}'

    def log_refusal(self, refusal: Refusal, session: HttpSession | None) -> None:
        metrics = self.gateway.metrics
        if session is None:
            failure = _FAILURES.get(refusal.kind, HandshakeFailure.INTERNAL)
            metrics.handshake_failed(self.listener.name, failure)
            self.log.warning(
                "request refused", status=refusal.status, reason=refusal.reason, failure=failure.value
            )
            return
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

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
from proxyd.http_refusing import told_of
from proxyd.http_sessions import HttpSession, HttpSessions, not_admitted
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.identity.oidc.factors import has_both_factors
from proxyd.identity.standing import CertificateShown, Shown, token_shown
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
    """`shown`: the client's certificate, with its subject; None without one. `generation`: of `Sessions`, in which it
    was looked at last. `tunnel`: what a CONNECT was for, `tunnel_head`: the request itself, by which whoever asks
    inside is known.
    """

    def __init__(
        self,
        listener: HttpListenerRuntime,
        gateway: Gateway,
        log: Log,
        *,
        client: str,
        address: str,
        shown: CertificateShown | None,
        generation: int,
        scheme: str,
        tunnel: Tunnel | None = None,
        tunnel_head: RequestHead | None = None,
    ) -> None:
        self.listener = listener
        self.gateway = gateway
        self.log = log
        self.sessions = HttpSessions(listener, gateway, log, client)
        self.operations = gateway.metrics.operations("http")
        self.prepared: dict[int, Prepared] = {}
        self.scheme = scheme
        self.tunnel = tunnel
        self.is_stranger = shown is None and tunnel is None  # until a request says who asks
        self._client = client
        self._shown = shown
        self._certificate = None if shown is None else shown.subject
        self._generation = generation
        self._own = OwnNames(listener.own.domain, listener.own.hosts, address)
        self._tunnel_head = tunnel_head
        self._tunnel_token = ""
        self._logins: dict[tuple[int, str, int], tuple[Subject, HttpAccount]] = {}

    def within(self, tunnel: Tunnel, head: RequestHead) -> HttpCaller:
        """The same client, as it asks inside of a tunnel that it has opened by `head`."""
        return HttpCaller(
            self.listener,
            self.gateway,
            self.log,
            client=self._client,
            address=self._own.address,
            shown=self._shown,
            generation=self._generation,
            scheme="https",
            tunnel=tunnel,
            tunnel_head=head,
        )

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
        self._look_again()
        self.is_stranger = False
        return known

    def _look_again(self) -> None:
        """After a reload: does the certificate of the connection still count? Raises Refusal."""
        generation = self.gateway.sessions.generation
        if generation == self._generation:
            return
        problem = "" if self._shown is None else self._shown.problem()
        if problem:
            raise Refusal(
                401,
                Kind.UNKNOWN,
                f"{problem[:1].upper()}{problem[1:]}.",
                hint="Connect again, with what counts now.",
                closes=True,
            )
        self._generation = generation

    def shown_of(self, subject: Subject) -> tuple[Shown, ...]:
        """What makes somebody who has just been identified the subject."""
        by_token = token_shown(self.gateway.tokens, subject)
        by_certificate = None if by_token is not None and not has_both_factors(subject) else self._shown
        return tuple(shown for shown in (by_certificate, by_token) if shown is not None)

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

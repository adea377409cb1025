"""One SSH session from the end of authentication to its last byte: admit, record, connect the target, relay, end.

Theory of operation. One nursery: a task for each leg, one for each connection of a jump, one that watches the
session's deadlines; this one waits for the end. Where something is refused the client is let in to hear why: the gate
then has no target, and answers each channel with the reason. A session that has named no target has no tape until it
reaches for one.
"""

from __future__ import annotations

import contextlib

import trio

from policy.decision import SessionLimits
from policy.facts import Target
from policy.patterns import Glob
from proxyd.gates.ssh.actions import Dial
from proxyd.gates.ssh.gate import SshGate
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.lobby import Lobby, Refusal
from proxyd.gates.ssh.state import EXIT_REFUSED, EXIT_UNREACHABLE, GateSettings
from proxyd.gateway import Gateway, SshTargetRuntime
from proxyd.identity.expiry import proof_of
from proxyd.identity.ssh_identity import SshIdentity
from proxyd.identity.user_name import UserName
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.sessions import Session
from proxyd.ssh_admission import (
    Admitted,
    NotAdmitted,
    admit_client,
    jump_addresses,
    jump_target,
    new_judge,
    places,
    tighter,
)
from proxyd.ssh_credentials import SshAuthority
from proxyd.ssh_jumps import Jumps
from proxyd.ssh_listener import SshListenerRuntime
from proxyd.ssh_relay import SshEnd, SshRelay, tape_end
from proxyd.ssh_transport import Leg
from proxyd.ssh_upstream import TargetUnavailable, open_target
from proxyd.standing import access_problem
from proxyd.tape.entries import TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.ssh_taping import InputMode, SshTape, SshTapeLimits
from proxyd.telemetry import Log

TICK_S = 5.0
KEEPALIVES_MISSED = 3
KEY_EXCHANGE_TIMEOUT_S = 60.0
REFUSED_TIMEOUT_S = 60.0

# Variables that clients may set for a target that has not been chosen yet.
_MENU_ENVIRONMENT = (Glob("LANG"), Glob("LC_*"), Glob("COLORTERM"))


class SshSession:
    """One session. `run` returns once it is over; `session` is its entry in the registry."""

    def __init__(
        self,
        client: Leg,
        relay: SshRelay,
        session: Session,
        identity: SshIdentity,
        user: UserName,
        listener: SshListenerRuntime,
        gateway: Gateway,
        log: Log,
    ) -> None:
        self._client = client
        self._relay = relay
        self._session = session
        self._identity = identity
        self._user = user
        self._listener = listener
        self._gateway = gateway
        self._log = log
        self._reached: dict[str, tuple[Target, str]] = {}  # by name: targets, and the login there
        self._jump_judges: dict[str, SshJudge] = {}
        self._limits = SessionLimits()
        self._has_new_limits = trio.Event()
        self._refusal = ""  # why nothing can be had, where that is so
        self._started_at = trio.current_time()
        self._has_opened = False

    async def run(self, nursery: trio.Nursery) -> None:
        """Serve until the end. The client's leg is running already; `nursery` ends with the session."""
        self._session.end = self._end_from_outside
        self._session.idle_s = lambda: trio.current_time() - self._relay.moved_at
        self._session.is_idle = self._is_idle
        self._client.on_gone = self._client_gone
        if self._client.is_gone:
            self._client_gone()
        Jumps(nursery, self._relay, self._target_of)
        guarded = self._relay.guarded
        nursery.start_soon(guarded, self._watch)
        nursery.start_soon(guarded, self._relay.show_held)
        nursery.start_soon(guarded, self._begin, nursery)
        try:
            await self._relay.ended.wait()
        finally:
            self._finish()

    # Beginning

    async def _begin(self, nursery: trio.Nursery) -> None:
        """Goes on while the session lasts; whoever ends it does not have to wait for a target that does not answer."""
        if self._user.target is None:
            self._limit(self._lobby_limits())
            self._relay.begin(SshGate(self._settings(_MENU_ENVIRONMENT), None, self._lobby()))
            await self._await_choice(nursery)
            return
        try:
            admitted = admit_client(self._gateway, self._identity, self._user.target, self._user.login)
            await self._connect(nursery, admitted)
        except NotAdmitted as refused:
            self._refuse(Refusal(refused.text), refused.reason, HandshakeFailure.NOT_ADMITTED)
        except TargetUnavailable as fault:
            self._refuse(Refusal(fault.text, EXIT_UNREACHABLE), fault.reason, HandshakeFailure.TARGET)
        except TapeError as fault:
            self._gateway.metrics.tape_errors += 1
            text = "proxyd: the session cannot be recorded, so it does not begin. Tell the operators of the gateway."
            self._refuse(Refusal(text), f"tape: {fault}", HandshakeFailure.TAPE)
        else:
            settings = self._settings(admitted.environment)
            gate = SshGate(settings, self._judge(admitted), is_openssh_target=self._is_openssh())
            self._relay.begin(gate)

    def _settings(self, environment: tuple[Glob, ...]) -> GateSettings:
        config = self._gateway.config
        return GateSettings(environment, self._listener.config.limits.channels, config.tapes.file_content)

    def _limit(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._has_new_limits.set()

    def _judge(self, admitted: Admitted) -> SshJudge:
        return new_judge(
            self._gateway, self._identity, admitted.target.facts, admitted.login.name, admitted.limits
        )

    def _is_openssh(self) -> bool:
        target = self._relay.target
        return target is not None and target.peer_version.startswith("SSH-2.0-OpenSSH_")

    def _lobby(self) -> Lobby:
        return Lobby(
            places(self._gateway, self._identity),
            self._jump_judge,
            may_use_pty=self._identity.may_use_pty,
        )

    def _lobby_limits(self) -> SessionLimits:
        expires_at = self._identity.subject.expires_at
        left_s = None if expires_at is None else max(0.0, expires_at - self._gateway.clock())
        return SessionLimits(max_age_s=left_s)

    def _refuse(self, refusal: Refusal, reason: str, failure: HandshakeFailure) -> None:
        """Nothing can be had: let the client hear it on whatever channel it opens, for a while."""
        self._gateway.metrics.handshake_failed(self._listener.name, failure)
        self._log.warning("connection refused", reason=reason, failure=failure.value)
        self._refusal = refusal.text.removeprefix("proxyd: ")
        with contextlib.suppress(TapeError):  # what it cannot take now it says at the end
            self._session.record("refused", {"reason": reason})
        age_s = trio.current_time() - self._started_at
        self._limit(SessionLimits(max_age_s=age_s + REFUSED_TIMEOUT_S))
        if self._relay.gate is None:
            self._relay.begin(SshGate(self._settings(()), None, Lobby([], refusal=refusal)))
        else:
            self._relay.act(lambda gate: gate.turn_away(refusal.text, refusal.status))

    async def _connect(self, nursery: trio.Nursery, admitted: Admitted) -> None:
        """Record that somebody goes there, and only then go. Raises TapeError, TargetUnavailable."""
        gateway, session = self._gateway, self._session
        session.target, session.login = admitted.target.facts.name, admitted.login.name
        self._reached[session.target] = (admitted.target.facts, session.login)
        self._log = self._log.bind(target=session.target, login=session.login)
        self._open_tape(admitted.target.facts, admitted.login.name)
        authority = gateway.config.ssh_authority
        leg = await open_target(
            nursery,
            admitted.target.config,
            admitted.login,
            None if authority is None else SshAuthority.from_config(authority),
            subject=self._identity.subject.name,
            session=session.id,
            clock=gateway.clock,
            version=gateway.version,
            on_message=self._relay.target_message,
            run=lambda leg: self._relay.guarded(self._run_target, leg),
        )
        leg.on_batch = self._relay.flush
        self._relay.target = leg
        self._limit(admitted.limits)

    def _open_tape(self, target: Target, login: str) -> None:
        gateway, session = self._gateway, self._session
        header = TapeHeader(
            session=session.id,
            protocol="ssh",
            subject=self._identity.subject,
            target=target.name,
            login=login,
            client=session.client,
            policy_version=gateway.policy.version,
            software_version=gateway.version,
            started_at=session.started_at,
            target_labels=dict(target.labels),
        )
        tapes = gateway.config.tapes
        limits = SshTapeLimits(tapes.reply_limit, InputMode(tapes.input), tapes.file_content)
        tape = SshTape.open(gateway.tape_directory, header, limits)
        self._relay.tape = tape
        session.tape_path = tape.path
        session.record = tape.event
        session.operations = lambda: tape.operations
        self._has_opened = True
        gateway.metrics.session_opened(self._listener.name, "ssh")
        self._log.info("session opened", tape=str(tape.path))

    # The menu and jumps

    async def _await_choice(self, nursery: trio.Nursery) -> None:
        await self._relay.chosen.wait()
        choice = self._relay.choice
        if choice is None:
            return
        if self._relay.tape is not None:
            # The tape is about the target that was jumped to; another one takes another session.
            text = "proxyd: this connection is in use for `ssh -J`. Connect again for a shell."
            self._relay.act(lambda gate: gate.turn_away(text, EXIT_REFUSED))
            return
        try:
            admitted = admit_client(self._gateway, self._identity, choice.target, choice.login)
            await self._connect(nursery, admitted)
        except NotAdmitted as refused:
            self._refuse(Refusal(refused.text, EXIT_REFUSED), refused.reason, HandshakeFailure.NOT_ADMITTED)
        except TargetUnavailable as fault:
            self._refuse(Refusal(fault.text, EXIT_UNREACHABLE), fault.reason, HandshakeFailure.TARGET)
        except TapeError as fault:
            self._relay.finish(tape_end(fault))
        else:
            settings, judge = self._settings(admitted.environment), self._judge(admitted)
            is_openssh = self._is_openssh()
            self._relay.act(lambda gate: gate.enter(settings, judge, is_openssh_target=is_openssh))

    def _jump_judge(self, host: str, port: int) -> SshJudge | None:
        """Who judges a jump there: one judge a target, so that its count goes on. None: it is no target."""
        found = jump_target(self._gateway, self._identity, self._user.login, host, port)
        if found is None:
            return None
        target, limits = found
        name = target.facts.name
        if name not in self._jump_judges:
            self._jump_judges[name] = new_judge(
                self._gateway, self._identity, target.facts, self._user.login, limits, jump_addresses(target)
            )
            self._limit(tighter(self._limits, limits))
        return self._jump_judges[name]

    def _target_of(self, dial: Dial) -> SshTargetRuntime | None:
        """The target of a jump; from its first one on the session has a tape."""
        target = self._gateway.ssh_target(dial.target)
        if target is None:
            return None
        self._reached[target.facts.name] = (target.facts, self._user.login)
        if self._relay.tape is None:
            self._session.target, self._session.login = target.facts.name, self._user.login
            self._log = self._log.bind(target=self._session.target, login=self._session.login)
            self._open_tape(target.facts, self._user.login)
        return target

    # Tasks

    async def _run_target(self, leg: Leg) -> None:
        try:
            await leg.run()
        finally:
            leg.close_socket()
        lost = leg.lost.reason if leg.lost is not None else "closed"
        if self._relay.target is leg:
            # What it has said before still goes out.
            self._relay.flush()
            self._relay.finish(
                SshEnd(
                    SessionOutcome.TARGET_CLOSED, f"target: {lost}", "the target has closed the connection"
                )
            )

    def _client_gone(self) -> None:
        lost = self._client.lost.reason if self._client.lost is not None else "closed"
        self._relay.finish(SshEnd(SessionOutcome.CLIENT_CLOSED, f"client: {lost}"))

    async def _watch(self) -> None:
        """The session's deadlines, and whether the peers are there."""
        asked_at = exchanging_since = None
        while True:
            with trio.move_on_after(self._until_next_look()):
                await self._has_new_limits.wait()
            self._has_new_limits = trio.Event()
            now = trio.current_time()
            self._check_limits(now)
            asked_at = self._ask_if_alive(now, asked_at)
            exchanging_since = self._check_key_exchange(now, exchanging_since)

    def access_problem(self) -> str:
        """Why what the session has reached is not for its subject any more; "" when all of it is."""
        gateway, subject = self._gateway, self._identity.subject
        problems = (
            access_problem(gateway, subject, target, login) for target, login in self._reached.values()
        )
        return next(filter(None, problems), "")

    def _until_next_look(self) -> float:
        now, waits = trio.current_time(), [TICK_S, self._listener.config.keepalive]
        if self._limits.max_age_s is not None:
            waits.append(self._started_at + self._limits.max_age_s - now)
        if self._limits.idle_s is not None:
            waits.append(self._relay.moved_at + self._limits.idle_s - now)
        return max(0.01, min(waits))

    def _check_limits(self, now: float) -> None:
        limits = self._limits
        if limits.max_age_s is not None and now - self._started_at >= limits.max_age_s:
            expires_at = self._identity.subject.expires_at
            if expires_at is not None and self._gateway.clock() >= expires_at:
                proof = proof_of(self._identity.subject)
                reason, farewell = f"{proof} expired", f"your {proof} has expired; connect with a new one"
            else:
                reason, farewell = "maximum age", "this session has reached its longest time"
            self._relay.finish(SshEnd(SessionOutcome.MAX_AGE, reason, self._refusal or farewell))
        elif limits.idle_s is not None and now - self._relay.moved_at >= limits.idle_s:
            self._relay.finish(SshEnd(SessionOutcome.IDLE, "idle", "this session was idle for too long"))

    def _ask_if_alive(self, now: float, asked_at: float | None) -> float | None:
        """Ask both ends after a silence; an end that leaves several questions unanswered is gone."""
        interval_s = self._listener.config.keepalive
        last = max(self._relay.moved_at, asked_at or 0.0)
        if self._relay.gate is None or now - last < interval_s:
            return asked_at
        unanswered: dict[str, int] = {}
        moved_at = self._relay.moved_at
        self._relay.act(lambda gate: unanswered.update(client=gate.ask_client()))
        if self._relay.target is not None:
            self._relay.act(lambda gate: unanswered.update(target=gate.ask_target()))
        self._relay.moved_at = moved_at
        if unanswered.get("client", 0) > KEEPALIVES_MISSED:
            self._relay.finish(SshEnd(SessionOutcome.CLIENT_CLOSED, "the client does not answer"))
        elif unanswered.get("target", 0) > KEEPALIVES_MISSED:
            what = "the target does not answer"
            self._relay.finish(SshEnd(SessionOutcome.TARGET_CLOSED, what, what))
        return now

    def _check_key_exchange(self, now: float, since: float | None) -> float | None:
        legs = [leg for leg in (self._client, self._relay.target) if leg is not None]
        if not any(leg.is_exchanging_keys for leg in legs):
            return None
        if since is not None and now - since > KEY_EXCHANGE_TIMEOUT_S:
            self._relay.finish(SshEnd(SessionOutcome.PROTOCOL, "a key exchange that does not end"))
        return since if since is not None else now

    # End

    def _is_idle(self) -> bool:
        return self._relay.gate is not None and self._relay.gate.is_idle

    def _end_from_outside(self, outcome: SessionOutcome, reason: str) -> None:
        self._relay.finish(SshEnd(outcome, reason, reason))

    def _finish(self) -> None:
        """Whatever cannot be done here must not keep the rest from being done."""
        relay, metrics = self._relay, self._gateway.metrics
        end = relay.end or SshEnd(SessionOutcome.DRAINED, "cancelled", "the gateway is shutting down")
        try:
            relay.say_farewell(end)
            if relay.target is not None:
                relay.target.disconnect("the session has ended")
            self._client.disconnect(f"proxyd: {end.farewell}" if end.farewell else "closed")
        finally:
            if self._has_opened:
                metrics.session_ended(self._listener.name, "ssh", end.outcome)
            if end.outcome is SessionOutcome.TAPE:
                metrics.tape_errors += 1
            self._log.info(
                "session ended", reason=end.reason, outcome=end.outcome.value, **self._end_tape(end)
            )

    def _end_tape(self, end: SshEnd) -> dict[str, object]:
        """What the log says of the tape."""
        tape, metrics = self._relay.tape, self._gateway.metrics
        if tape is None:
            return {"operations": 0, "chain": ""}
        chain = ""
        try:
            chain = tape.end(end.reason)
        except TapeError as fault:
            metrics.tape_errors += 1
            self._log.error("tape could not be finished", reason=str(fault))
        metrics.tape_bytes += tape.bytes_written
        return {"operations": tape.operations, "chain": chain}

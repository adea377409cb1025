"""Operations of one SSH session, judged: by the client's certificate, by the session's limit, by the policy.

Turns the client's bytes into facts, asks `policy`, counts, and words the answer. Pure but for its counts. Called by
the channel gate for each operation, and by the sftp gate for each of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from policy.decision import Decision, Effect, Reason, SessionLimits
from policy.detection import detection_for
from policy.detectors import Detection
from policy.document import PolicyDocument
from policy.facts import SshFacts, SshOperation, Subject, Target
from policy.shell.analyze import analyze_command
from policy.ssh.evaluate import depends_on_paths, judge_ssh
from proxyd.metrics import Operations


@dataclass(frozen=True, slots=True)
class Permits:
    """What the client's credential lets it ask for at all (extensions and options of an OpenSSH certificate)."""

    pty: bool = True
    forwarding: bool = True
    agent: bool = True
    x11: bool = True
    forced_command: str | None = None


class SshJudge:
    """Judges for one subject, target and login. `policy` is asked anew each time: a reload is felt at once.

    known_as: hosts and ports that all are the one place to which forwards lead here (a jump's target). A rule that
    denies or holds one of them means it under each.
    """

    def __init__(
        self,
        subject: Subject,
        target: Target,
        login: str,
        policy: Callable[[], PolicyDocument],
        permits: Permits = Permits(),
        limits: SessionLimits = SessionLimits(),  # noqa: B008 (frozen)
        denied_by: Callable[[str], None] = lambda rule: None,
        counts: Operations | None = None,
        known_as: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.target = target
        self.permits = permits
        self.counts = counts or Operations()
        self._subject = subject
        self._login = login
        self._policy = policy
        self._limit = limits.statements
        self._denied_by = denied_by
        self._operations = 0
        self._known_as = [SshFacts(SshOperation.FORWARD, host=host, port=port) for host, port in known_as]

    @property
    def depends_on_paths(self) -> bool:
        return depends_on_paths(self._policy(), self._subject, self.target)

    @property
    def detection(self) -> Detection | None:
        """What detectors are to look for in what the target shows, None for nothing."""
        return detection_for(self._policy(), self._subject, self.target)

    def judge(self, facts: SshFacts) -> Decision:
        """The decision about one operation. File operations inside an sftp subsystem do not count as operations."""
        decision = self._decided(self._not_permitted(facts) or self._used_up(facts), facts)
        match decision.effect:
            case Effect.ALLOW:
                self.counts.allowed += 1
            case Effect.HOLD:
                self.counts.held += 1
            case Effect.DENY:
                self.counts.denied += 1
                self._denied_by(decision.reasons[0].rule if decision.reasons else "")
        return decision

    def review(self, facts: SshFacts) -> Decision:
        """Would it still be allowed? For what follows from an operation that was; counts nothing."""
        return self._decided(self._not_permitted(facts), facts)

    def _decided(self, refused: Reason | None, facts: SshFacts) -> Decision:
        document = self._policy()
        if refused is not None:
            return Decision(Effect.DENY, (refused,), policy_version=document.version)
        decision = judge_ssh(document, self._subject, self.target, self._login, facts)
        if facts.operation is SshOperation.FORWARD and decision.effect is Effect.ALLOW:
            for known_as in self._known_as:
                other = judge_ssh(document, self._subject, self.target, self._login, known_as)
                if other.effect is not Effect.ALLOW and any(reason.rule for reason in other.reasons):
                    return other
        return decision

    def _not_permitted(self, facts: SshFacts) -> Reason | None:
        permits = self.permits
        match facts.operation:
            case SshOperation.FORWARD | SshOperation.LISTEN if not permits.forwarding:
                what = "port forwarding"
            case SshOperation.AGENT if not permits.agent:
                what = "agent forwarding"
            case SshOperation.X11 if not permits.x11:
                what = "X11 forwarding"
            case _:
                return None
        return Reason("", f"your certificate does not permit {what}", "Ask for one that does.")

    def _used_up(self, facts: SshFacts) -> Reason | None:
        if facts.operation is SshOperation.FILE or self._limit is None:
            return None
        if self._operations >= self._limit:
            return Reason("", f"this session has used its {self._limit} operations", "Connect again.")
        self._operations += 1
        return None


def exec_facts(command: bytes, *, has_pty: bool) -> SshFacts:
    analysis = analyze_command(command)
    return SshFacts(
        SshOperation.EXEC,
        command.decode(errors="surrogateescape"),
        analysis.commands,
        analysis.unresolved,
        has_pty=has_pty,
    )

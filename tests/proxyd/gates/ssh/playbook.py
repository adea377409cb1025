"""A gate between a scripted client and a scripted target, message by message.

    play = Playbook()
    play.client(opening(), to_target=[open_of(0)], tape=[("opened", 0, "session")])
    play.target(confirmed(0, 40), to_client=[confirmation_of(0)])

Each step hands the gate what one side says and names everything that has to come of it: what goes on the tape (first),
to the client and to the target. What a step does not name must not happen, so forgetting to look is an error.

The client's own numbers for its channels begin at 10, the target's at 40; the gate's, for both, at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy.decision import Decision, SessionLimits
from policy.document import PolicyDocument, load_document
from policy.facts import SshFacts, Subject, Target
from policy.patterns import Glob
from protocols.ssh import messages as wire
from protocols.ssh.requests import ExecRequest, ExitStatus, PtyRequest, SubsystemRequest, WindowChange
from proxyd.gates.files import FileRecord
from proxyd.gates.ssh.actions import Actions, Choice, Dial, Record
from proxyd.gates.ssh.gate import SshGate
from proxyd.gates.ssh.judge import Permits, SshJudge
from proxyd.gates.ssh.lobby import Lobby
from proxyd.gates.ssh.state import GateSettings
from proxyd.gates.ssh.windows import MAX_PACKET_BYTES, WINDOW_BYTES

POLICY = """
version: 1
roles:
  operator: {groups: [operators]}
access:
  - {name: operators, roles: [operator], targets: {protocol: ssh}, logins: [deploy]}
rules:
  - name: everyday
    effect: allow
    roles: [operator]
    ssh:
      shell: true
      exec: ["ls *", "cat *", "scp *", "internal-tool"]
      subsystems: [netconf]
      files: [read, list, stat]
      paths: ["/srv/**"]
      forward: ["db.internal:5432", "unix:/run/app.sock"]
      listen: ["localhost:*", "unix:/tmp/*.sock"]
      agent: true
      x11: true
  - {name: no-secrets, effect: deny, roles: [operator], message: secrets stay where they are,
     ssh: {exec: ["cat /etc/shadow *"]}}
  - {name: careful, effect: hold, roles: [operator], ssh: {exec: ["reboot *"]},
     approval: {approvers: [operators], approvals: 1, timeout: 10m}}
"""
WITHOUT_WAYS = POLICY.replace("      agent: true\n      x11: true\n", "")
NOTHING = POLICY[: POLICY.index("rules:")]

SUBJECT = Subject("alice@example.com", ("operators",))
WEB1 = Target("web1", "ssh", {"env": "prod"})

CLIENT, TARGET = 10, 40
"""Numbers of the peers' own."""
PEER_WINDOW = 64 * 1024
PEER_PACKET = 32 * 1024


def document(text: str = POLICY) -> PolicyDocument:
    return load_document(text, "policy.yaml")


# What the peers say


def opening(
    kind: str = "session",
    sender: int = CLIENT,
    window: int = PEER_WINDOW,
    max_packet: int = PEER_PACKET,
    body: bytes = b"",
) -> bytes:
    return wire.channel_open(kind, sender, window, max_packet, body)


def confirmed(
    recipient: int = 0, sender: int = TARGET, window: int = PEER_WINDOW, max_packet: int = PEER_PACKET
) -> bytes:
    return wire.open_confirmation(recipient, sender, window, max_packet)


def asking(name: str, body: bytes = b"", recipient: int = 0, *, reply: bool = True) -> bytes:
    return wire.channel_request(recipient, name, reply, body)


def exec_of(command: bytes | str, recipient: int = 0, *, reply: bool = True) -> bytes:
    text = command.encode() if isinstance(command, str) else command
    return asking("exec", ExecRequest(text).encode(), recipient, reply=reply)


def shell(recipient: int = 0, *, reply: bool = True) -> bytes:
    return asking("shell", recipient=recipient, reply=reply)


def subsystem(name: str, recipient: int = 0, *, reply: bool = True) -> bytes:
    return asking("subsystem", SubsystemRequest(name).encode(), recipient, reply=reply)


PTY = PtyRequest("xterm", 80, 24).encode()
TTY_OF_0 = ("terminal", 0, "xterm", 80, 24)


def pty(recipient: int = 0, *, reply: bool = True) -> bytes:
    return asking("pty-req", PTY, recipient, reply=reply)


def resize(columns: int, rows: int, recipient: int = 0) -> bytes:
    return asking("window-change", WindowChange(columns, rows).encode(), recipient, reply=False)


def exit_status(status: int, recipient: int = 0) -> bytes:
    return asking("exit-status", ExitStatus(status).encode(), recipient, reply=False)


def data(payload: bytes, recipient: int = 0) -> bytes:
    return wire.channel_data(recipient, payload)


def stderr(payload: bytes, recipient: int = 0) -> bytes:
    return wire.extended_data(recipient, 1, payload)


def adjust(added: int, recipient: int = 0) -> bytes:
    return wire.window_adjust(recipient, added)


def eof(recipient: int = 0) -> bytes:
    return wire.channel_eof(recipient)


def close(recipient: int = 0) -> bytes:
    return wire.channel_close(recipient)


def success(recipient: int = 0) -> bytes:
    return wire.channel_success(recipient)


def failure(recipient: int = 0) -> bytes:
    return wire.channel_failure(recipient)


# What the gate says


def open_of(number: int = 0, kind: str = "session", body: bytes = b"", window: int = WINDOW_BYTES) -> bytes:
    return wire.channel_open(kind, number, window, MAX_PACKET_BYTES, body)


def confirmation_of(number: int = 0, recipient: int = CLIENT, window: int = WINDOW_BYTES) -> bytes:
    return wire.open_confirmation(recipient, number, window, MAX_PACKET_BYTES)


def refused(text: str, recipient: int = CLIENT, status: int = 126) -> list[bytes]:
    """The answer to something that is not done, after its SUCCESS: a line, a status, the end."""
    return [
        stderr(f"{text}\r\n".encode(), recipient),
        exit_status(status, recipient),
        eof(recipient),
        close(recipient),
    ]


class Tape:
    """What would be on the tape, as plain tuples."""

    def __init__(self) -> None:
        self.entries: list[tuple[object, ...]] = []

    def judged(self, channel: int | None, facts: SshFacts, decision: Decision) -> None:
        self.entries.append(("judged", channel, facts.operation.value, decision.effect.value))

    def opened(self, channel: int, kind: str, data: dict[str, object]) -> None:
        self.entries.append(("opened", channel, kind, *data.values()))

    def closed(self, channel: int, data: dict[str, object]) -> None:
        self.entries.append(("closed", channel, *(f"{key}={value}" for key, value in data.items())))

    def counted(self, channel: int) -> None:
        self.entries.append(("counted", channel))

    def kept(self, channel: int) -> None:
        self.entries.append(("kept", channel))

    def terminal(self, channel: int, term: str, columns: int, rows: int) -> None:
        self.entries.append(("terminal", channel, term, columns, rows))

    def resized(self, channel: int, columns: int, rows: int) -> None:
        self.entries.append(("resized", channel, columns, rows))

    def input(self, channel: int, data: bytes) -> None:
        self.entries.append(("input", channel, bytes(data)))

    def output(self, channel: int, stream: int, data: bytes) -> None:
        self.entries.append(("output", channel, stream, bytes(data)))

    def file(self, channel: int, record: FileRecord) -> None:
        self.entries.append(("file", channel, record.path, record.verb, record.byte_count))

    def event(self, name: str, data: dict[str, object]) -> None:
        self.entries.append(("event", name, *data.values()))

    def take(self, records: list[Record]) -> list[tuple[object, ...]]:
        for record in records:
            record(self)
        records.clear()
        entries, self.entries = self.entries, []
        return entries


def said(text: str, number: int = 0) -> tuple[object, ...]:
    """A line of the gateway's own on a channel, as the tape has it."""
    return ("output", number, 2, f"{text}\r\n".encode())


@dataclass
class Playbook:
    policy: str = POLICY
    permits: Permits = field(default_factory=Permits)
    limits: SessionLimits = field(default_factory=SessionLimits)
    settings: GateSettings = field(default_factory=lambda: GateSettings((Glob("LANG"), Glob("LC_*"))))
    lobby: Lobby | None = None

    def __post_init__(self) -> None:
        self.document = document(self.policy)
        self.judge = self.new_judge()
        self.gate = SshGate(self.settings, None if self.lobby else self.judge, self.lobby)
        self._tape = Tape()

    def new_judge(self) -> SshJudge:
        return SshJudge(SUBJECT, WEB1, "deploy", lambda: self.document, self.permits, self.limits)

    @property
    def actions(self) -> Actions:
        return self.gate.actions

    # Steps

    def client(self, *payloads: bytes, **wanted: Any) -> None:
        for payload in payloads:
            self.gate.from_client(payload)
        self.gives(**wanted)

    def target(self, *payloads: bytes, **wanted: Any) -> None:
        for payload in payloads:
            self.gate.from_target(payload)
        self.gives(**wanted)

    def after_client(self, *payloads: bytes) -> Playbook:
        """What the client has said before the matter of the test begins."""
        for payload in payloads:
            self.gate.from_client(payload)
        return self.forget()

    def after_target(self, *payloads: bytes) -> Playbook:
        for payload in payloads:
            self.gate.from_target(payload)
        return self.forget()

    def act(self, change: Callable[[SshGate], object], **wanted: Any) -> None:
        """The relay has the gate do something."""
        change(self.gate)
        self.gives(**wanted)

    def gives(
        self,
        *,
        to_client: Sequence[bytes] = (),
        to_target: Sequence[bytes] = (),
        tape: Sequence[tuple[object, ...]] = (),
        streams: Sequence[tuple[int, bytes]] = (),
        dials: Sequence[Dial] = (),
        hang_ups: Sequence[int] = (),
    ) -> None:
        actions = self.actions
        _check("the tape", self._tape.take(actions.records), list(tape))
        _check("the client", _shown(actions.to_client), _shown(to_client))
        _check("the target", _shown(actions.to_target), _shown(to_target))
        _check("streams", actions.streams, list(streams))
        _check("dials", actions.dials, list(dials))
        _check("hang_ups", actions.hang_ups, list(hang_ups))
        self.forget()

    def taped(self) -> list[tuple[object, ...]]:
        return self._tape.take(self.actions.records)

    def forget(self) -> Playbook:
        """What came so far is no matter of the test."""
        actions = self.actions
        self._tape.take(actions.records)
        for waiting in (actions.to_client, actions.to_target, actions.streams, actions.dials):
            waiting.clear()
        actions.hang_ups.clear()
        return self

    # Where many tests begin

    def opened(self, *, window: int = PEER_WINDOW, client_window: int = PEER_WINDOW) -> Playbook:
        """A session's channel that both sides have opened: 10 at the client, 40 at the target, 0 here."""
        return self.after_client(opening(window=client_window)).after_target(confirmed(window=window))

    def running(self, command: str = "ls /srv", **windows: int) -> Playbook:
        """The same with a command that runs."""
        return self.opened(**windows).after_client(exec_of(command)).after_target(success())

    def chosen(self, *early: bytes) -> Playbook:
        """The menu has led to web1, which has been asked to open the channel. `early`: what came behind the choice."""
        self.after_client(opening(), pty(), shell(), data(b"1\r"), *early)
        assert self.actions.choice == Choice("web1", "deploy")
        self.gate.enter(self.settings, self.judge, is_openssh_target=True)
        return self.forget()


def _check(what: str, found: object, wanted: object) -> None:
    assert found == wanted, f"{what} gets\n  {found}\nand should get\n  {wanted}"


def _shown(payloads: Sequence[bytes]) -> list[wire.Message]:
    """Messages are easier to compare by eye than their bytes; `build` of each gives the bytes back."""
    messages = [wire.parse(bytes(payload)) for payload in payloads]
    assert [wire.build(message) for message in messages] == list(payloads)
    return messages

"""Sessions that have named no target, or one that cannot be had: a menu for shells, jumps, and refusals with reasons.

The gateway itself answers here; nothing reaches any target before one was chosen. Called by the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from policy.decision import Effect
from policy.facts import SshFacts, SshOperation
from protocols.ssh import messages as wire
from protocols.ssh.opens import DirectTcpip
from protocols.ssh.requests import EnvRequest, PtyRequest, WindowChange
from proxyd.gates.refusals import printable, refusal_text
from proxyd.gates.ssh.actions import Choice, Dial
from proxyd.gates.ssh.channel import Channel, Local, Stage
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.state import EXIT_REFUSED, SshState

MAX_LINE_CHARACTERS = 256
MAX_PLACES_SHOWN = 200
MAX_STORED = 64
_CODE = wire.OpenFailureCode

_INTERRUPT, _END, _RETURN, _NEWLINE = 0x03, 0x04, 0x0D, 0x0A
_ERASE = frozenset({0x7F, 0x08})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing can be done here, and the exit status that says so to scripts."""

    text: str
    status: int = EXIT_REFUSED


class Lobby:
    """`places`: what may be chosen. `jump`: the judge of the target that a jump's destination is, None for no target.

    `refusal`: given instead of a menu. `may_use_pty`: the client's credential permits a terminal.
    """

    def __init__(
        self,
        places: Sequence[Choice],
        jump: Callable[[str, int], SshJudge | None] = lambda host, port: None,
        refusal: Refusal | None = None,
        *,
        may_use_pty: bool = True,
    ) -> None:
        self._places = list(places)
        self._jump = jump
        self._refusal = refusal
        self._may_use_pty = may_use_pty
        self._state: SshState

    def attach(self, state: SshState) -> None:
        self._state = state

    # Requests on a session's channel

    def request(self, channel: Channel, request: wire.ChannelRequest) -> None:
        """Raises ProtocolError for a body that is not one."""
        match request.name:
            case "pty-req":
                PtyRequest.parse(request.body)
                may_have = self._may_use_pty and not channel.has_pty and not channel.has_started
                channel.has_pty = self._store(channel, request, is_success=may_have) or channel.has_pty
            case "env":
                asked = EnvRequest.parse(request.body)
                name = asked.name.decode(errors="replace")
                allowed = any(glob.matches(name) for glob in self._state.settings.environment)
                self._store(channel, request, is_success=allowed)
            case "window-change":
                self._resize(channel, request)
            case "shell" if not channel.has_started:
                channel.has_started = True
                self._answer(channel, request, is_success=True)
                self._greet(channel)
            case "exec" | "subsystem" if not channel.has_started:
                channel.has_started = True
                self._answer(channel, request, is_success=True)
                refusal = self._refusal or Refusal(self._no_target())
                self._state.refuse(channel, refusal.text, refusal.status)
            case _:
                self._answer(channel, request, is_success=False)

    @staticmethod
    def _answer(channel: Channel, request: wire.ChannelRequest, *, is_success: bool) -> None:
        if request.want_reply:
            channel.owe(Local(is_success))

    def _store(self, channel: Channel, request: wire.ChannelRequest, *, is_success: bool) -> bool:
        """Keep a request for the target that will be chosen; False when it is refused."""
        is_success = is_success and len(channel.stored) < MAX_STORED
        if is_success:
            channel.stored.append(wire.ChannelRequest(channel.number, request.name, False, request.body))
        self._answer(channel, request, is_success=is_success)
        return is_success

    def _resize(self, channel: Channel, request: wire.ChannelRequest) -> None:
        """The terminal that the target will get has the size it has then."""
        size = WindowChange.parse(request.body)
        if not channel.has_pty:
            self._answer(channel, request, is_success=False)
            return
        for index, stored in enumerate(channel.stored):
            if stored.name == "pty-req":
                old = PtyRequest.parse(stored.body)
                new = PtyRequest(old.term, size.columns, size.rows, size.width_px, size.height_px, old.modes)
                channel.stored[index] = wire.ChannelRequest(channel.number, "pty-req", False, new.encode())
        self._answer(channel, request, is_success=True)

    # The menu

    def _greet(self, channel: Channel) -> None:
        if self._refusal is not None:
            self._state.refuse(channel, self._refusal.text, self._refusal.status)
        elif not self._places:
            self._state.refuse(channel, self._no_target())
        else:
            channel.line = bytearray()
            lines = [f"{index:>4}  {printable(_shown(place))}" for index, place in self._numbered()]
            hidden = len(self._places) - len(lines)
            if hidden > 0:
                lines.append(f"      and {hidden} more")
            self._print(channel, "\r\n".join(["proxyd: which target?", *lines, ""]))
            self._prompt(channel)
            early, channel.early = bytes(channel.early), bytearray()
            self.data(channel, early)
            if channel.client.eof_received:
                self.end_of_input(channel)

    def _numbered(self) -> list[tuple[int, Choice]]:
        return list(enumerate(self._places[:MAX_PLACES_SHOWN], 1))

    def _prompt(self, channel: Channel) -> None:
        self._print(channel, "Its number, or LOGIN+TARGET (q to leave): ")

    @staticmethod
    def _print(channel: Channel, text: str) -> None:
        if channel.client.has_room:  # who does not read is not told more
            channel.client.send(text.encode())

    def data(self, channel: Channel, data: bytes) -> None:
        """Keystrokes (with a terminal, which the client has put into raw mode: echo is ours to do) or lines."""
        line = channel.line
        if line is None:
            # Chosen already, or not begun: what the shell is to read.
            channel.early += data
            return
        for position, byte in enumerate(data):
            if byte in {_RETURN, _NEWLINE}:
                if byte == _NEWLINE and position and data[position - 1] == _RETURN:
                    continue
                self._echo(channel, b"\r\n")
                text = line.decode(errors="replace").strip()
                line.clear()
                rest = data[position + 1 :]
                if self._chosen(channel, text, rest.removeprefix(b"\n") if byte == _RETURN else rest):
                    return
            elif byte in {_INTERRUPT, _END}:
                self._leave(channel)
                return
            elif byte in _ERASE:
                if line:
                    line.pop()
                    self._echo(channel, b"\b \b")
            elif 0x20 <= byte < 0x7F and len(line) < MAX_LINE_CHARACTERS:
                line.append(byte)
                self._echo(channel, bytes([byte]))

    @staticmethod
    def _echo(channel: Channel, data: bytes) -> None:
        if channel.has_pty and channel.client.has_room:
            channel.client.send(data)

    def _leave(self, channel: Channel) -> None:
        self._echo(channel, b"\r\n")
        channel.line = None
        channel.stage = Stage.REFUSED
        self._state.finish_for_client(channel, 0)

    def _chosen(self, channel: Channel, text: str, rest: bytes) -> bool:
        """True when the menu is over for this channel."""
        if text.lower() in {"q", "quit", "exit"}:
            self._leave(channel)
            return True
        place = self._find(text)
        if self._state.actions.choice is not None:
            self._print(channel, "A target is chosen on this connection already. Connect again.\r\n")
            self._leave(channel)
            return True
        if place is None:
            if text:
                self._print(channel, f"There is no {printable(text)!r} here.\r\n")
            self._prompt(channel)
            return False
        channel.line = None
        channel.early += rest
        channel.is_chosen = True
        self._state.actions.choice = place
        return True

    def _find(self, text: str) -> Choice | None:
        if text.isascii() and text.isdigit() and len(text) < 6:
            number = int(text)
            return (
                self._places[number - 1] if 1 <= number <= min(len(self._places), MAX_PLACES_SHOWN) else None
            )
        return next((place for place in self._places if _shown(place) == text), None)

    def end_of_input(self, channel: Channel) -> None:
        if channel.line is not None:
            self._leave(channel)

    def _no_target(self) -> str:
        if not self._places:
            return "proxyd: you may reach no target. Ask the owners of the gateway's policy for access."
        shown = ", ".join(printable(_shown(place)) for place in self._places[:20])
        more = f" and {len(self._places) - 20} more" if len(self._places) > 20 else ""
        return f"proxyd: no target was named. Use LOGIN+TARGET as the user name: {shown}{more}."

    # Jumps

    def open_direct(self, asked: wire.ChannelOpen) -> None:
        """`ssh -J`: a connection to the address of a target, and to nothing else. Raises ProtocolError."""
        state = self._state
        if self._refusal is not None:
            self._fail(asked, self._refusal.text)
            return
        if asked.kind != "direct-tcpip":
            self._fail(asked, "proxyd: only `ssh -J` to a target is possible without a target")
            return
        where = DirectTcpip.parse(asked.body)
        judge = self._jump(where.host, where.port)
        if judge is None:
            self._fail(asked, "proxyd: there is no target at that address that you may reach")
            return
        facts = SshFacts(SshOperation.FORWARD, host=where.host, port=where.port)
        decision = judge.judge(facts)
        channel = state.new_channel(asked.kind, by_client=True)
        number, kind, target = channel.number, channel.kind, judge.target.name
        state.actions.records.append(lambda tape: tape.judged(number, facts, decision))
        if decision.effect is not Effect.ALLOW:
            del state.channels[number]
            self._fail(asked, refusal_text(decision))
            return
        channel.client.asked(asked.sender, asked.window, asked.max_packet)
        channel.target.leave_out()
        state.actions.records.append(lambda tape: tape.opened(number, kind, {"to": target}))
        state.actions.dials.append(Dial(number, target))

    def _fail(self, asked: wire.ChannelOpen, text: str) -> None:
        self._state.actions.to_client.append(
            wire.open_failure(asked.sender, _CODE.ADMINISTRATIVELY_PROHIBITED, text, "en")
        )


def _shown(place: Choice) -> str:
    return f"{place.login}+{place.target}"

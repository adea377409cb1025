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
from protocols.ssh.requests import EnvRequest, PtyRequest, WindowChange, X11Request, parse_empty
from proxyd.gates.refusals import printable, refusal_text
from proxyd.gates.ssh.actions import Choice, Dial
from proxyd.gates.ssh.channel import Channel, Local, Stage
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.menu import Menu, place_name
from proxyd.gates.ssh.state import EXIT_REFUSED, SshState

MAX_STORED = 64
_CODE = wire.OpenFailureCode


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
            case "auth-agent-req@openssh.com" if not channel.has_started:
                parse_empty(request.body, request.name)
                self._store(channel, request, is_success=self._refusal is None)
            case "x11-req" if not channel.has_started:
                X11Request.parse(request.body)
                self._store(channel, request, is_success=self._refusal is None)
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
            menu = channel.menu = Menu(self._places, is_echoing=channel.has_pty)
            channel.client.send(menu.greeting())
            early, channel.early = bytes(channel.early), bytearray()
            self.data(channel, early)
            if channel.client.eof_received:
                self.end_of_input(channel)

    def data(self, channel: Channel, data: bytes) -> None:
        """Input of a session's channel that has no target yet."""
        if channel.menu is None:
            # Chosen already, or not begun: what the shell is to read.
            channel.early += data
            return
        typed = channel.menu.typed(data)
        if channel.client.has_room:  # who does not read is not told more
            channel.client.send(typed.shown)
        if typed.has_left:
            self._leave(channel)
        elif typed.choice is not None:
            self._choose(channel, typed.choice, typed.rest)

    def _choose(self, channel: Channel, choice: Choice, rest: bytes) -> None:
        actions = self._state.actions
        if actions.choice is not None:
            channel.client.send(b"A target is chosen on this connection already. Connect again.\r\n")
            self._leave(channel)
            return
        channel.menu = None
        channel.early += rest
        channel.is_chosen = True
        actions.choice = choice

    def _leave(self, channel: Channel) -> None:
        channel.menu = None
        channel.stage = Stage.REFUSED
        self._state.finish_for_client(channel, 0)

    def end_of_input(self, channel: Channel) -> None:
        if channel.menu is not None:
            self._leave(channel)

    def _no_target(self) -> str:
        if not self._places:
            return "proxyd: you may reach no target. Ask the owners of the gateway's policy for access."
        shown = ", ".join(printable(place_name(place)) for place in self._places[:20])
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

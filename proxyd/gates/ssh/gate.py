"""The gate of one SSH session: messages from both legs in, judged, answered or passed on.

Every message is known here or refused; what opens something is judged before the target hears of it; numbers and
windows of the two legs never meet. `ClientSide` and `TargetSide` take the messages, `Flow` the data of channels;
`SessionRequests` does what clients ask on a session's channel, `Forwards` connections and listeners, `Lobby` sessions
without a target. Does no I/O: the relay gives it payloads and carries out `actions`.
"""

from __future__ import annotations

from collections import Counter

from protocols.ssh import messages as wire
from proxyd.gates.ssh.actions import Actions
from proxyd.gates.ssh.channel import Stage
from proxyd.gates.ssh.client_side import ClientSide
from proxyd.gates.ssh.flow import Flow
from proxyd.gates.ssh.forwards import Forwards
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.lobby import Lobby
from proxyd.gates.ssh.sessions import SessionRequests
from proxyd.gates.ssh.state import OUTPUT, GateSettings, SshState
from proxyd.gates.ssh.target_side import TargetSide

_IDLE = frozenset({Stage.LOCAL, Stage.REFUSED})


class SshGate:
    """One session. Give it payloads, then take its actions. Raises ProtocolError when a side breaks the protocol.

    `judge`: of the target; `lobby` instead, where none was named or none can be had.
    """

    def __init__(
        self,
        settings: GateSettings,
        judge: SshJudge | None,
        lobby: Lobby | None = None,
        *,
        is_openssh_target: bool = False,
    ) -> None:
        state = self._state = SshState(settings, judge)
        state.is_openssh_target = is_openssh_target
        requests = SessionRequests(state)
        forwards = Forwards(state, requests)
        flow = Flow(state, lobby)
        self._client = ClientSide(state, lobby, requests, forwards, flow)
        self._target = TargetSide(state, requests, forwards, flow)
        if lobby is not None:
            lobby.attach(state)

    @property
    def actions(self) -> Actions:
        return self._state.actions

    @property
    def is_idle(self) -> bool:
        """Nothing is under way: the session may end without loss. A menu that is shown is nothing yet."""
        channels = self._state.channels.values()
        return all(channel.stage in _IDLE and not channel.is_chosen for channel in channels)

    @property
    def channels(self) -> int:
        return len(self._state.channels)

    def from_client(self, payload: bytes) -> None:
        self._client.receive(payload)

    def from_target(self, payload: bytes) -> None:
        self._target.receive(payload)

    # What detectors hold back

    @property
    def has_held(self) -> bool:
        """Is output held back because it could be the beginning of a value?"""
        return any(
            channel.screens is not None and channel.screens.has_held
            for channel in self._state.channels.values()
        )

    def tick(self) -> None:
        """Call it now and then while something is held: what has been quiet for some ticks is shown."""
        self._state.tick()

    @property
    def detected(self) -> Counter[str]:
        """What detectors have found in this session, by kind."""
        return self._state.detected

    # Keepalives of our own

    def ask_client(self) -> int:
        """Ask the client whether it is there; how many such questions it has not answered, this one included."""
        return self._client.ask()

    def ask_target(self) -> int:
        return self._state.ask_target()

    # The menu

    def enter(self, settings: GateSettings, judge: SshJudge, *, is_openssh_target: bool) -> None:
        """The chosen target is connected: open on it what the menu was asked for."""
        state = self._state
        state.settings, state.judge, state.is_openssh_target = settings, judge, is_openssh_target
        for channel in state.channels.values():
            if channel.is_chosen:
                number = channel.number
                state.actions.records.append(lambda tape, number=number: tape.opened(number, "session", {}))  # type: ignore[misc]
                state.open_at_target(channel)

    def turn_away(self, text: str, status: int) -> None:
        """The chosen target cannot be had."""
        for channel in list(self._state.channels.values()):
            if channel.stage is Stage.LOCAL:
                self._state.refuse(channel, text, status)

    # Connections that were dialled for a jump

    def dialled(self, number: int) -> None:
        """The connection to the target's address is there."""
        channel = self._state.channels.get(number)
        if channel is not None:
            channel.stage = Stage.STREAM
            self._state.confirm_to_client(channel)

    def not_dialled(self, number: int, text: str) -> None:
        channel = self._state.channels.get(number)
        if channel is not None:
            code = wire.OpenFailureCode.CONNECT_FAILED
            self.actions.to_client.append(
                wire.open_failure(channel.client.number, code, f"proxyd: {text}", "en")
            )
            self._state.drop(channel)

    def stream_taken(self, number: int) -> None:
        """The connection has taken what there was: the client may send more."""
        channel = self._state.channels.get(number)
        if channel is not None:
            channel.client.release()

    def from_stream(self, number: int, data: bytes) -> None:
        """What came over the connection, b"" for the end of what it sends."""
        channel = self._state.channels.get(number)
        if channel is None:
            return
        if data:
            self.actions.records.append(lambda tape: tape.output(number, OUTPUT, data))
            channel.client.send(data)
        else:
            channel.client.send_eof()

    def stream_over(self, number: int) -> None:
        """Both ways of the connection are at their end."""
        channel = self._state.channels.get(number)
        if channel is not None:
            channel.client.send_close()
            self._state.forget_if_finished(channel)

    def waiting_for_client(self, number: int) -> int:
        """Bytes of a dialled connection that wait for the client's window."""
        channel = self._state.channels.get(number)
        return 0 if channel is None else channel.client.queued_bytes

    # The end

    def farewell(self, text: str) -> None:
        """Tell every channel that somebody looks at why the session ends."""
        for channel in self._state.channels.values():
            self._state.show_held(channel)
            if channel.kind == "session" and channel.stage is not Stage.SFTP:
                self._state.say(channel, f"\r\n{text}")

    def record_open_channels(self) -> None:
        """The session is over: what was still open is said to have ended with it."""
        for channel in self._state.channels.values():
            channel.result.setdefault("cut_off", True)
            self._state.record_end(channel)
        self._state.channels.clear()

"""The gate of one SSH session: messages from both legs in, judged, answered or passed on.

Every message is known here or refused; what opens something is judged before the target hears of it; numbers and
windows of the two legs never meet. `SessionRequests` does what clients ask on a session's channel, `Forwards`
connections and listeners, `Lobby` sessions without a target. Does no I/O: the relay gives it payloads and carries out
`actions`.
"""

from __future__ import annotations

from typing import assert_never

from policy.decision import Effect
from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.requests import ExitSignal, ExitStatus
from proxyd.gates.refusals import refusal_text
from proxyd.gates.ssh.actions import Actions
from proxyd.gates.ssh.channel import Channel, Stage
from proxyd.gates.ssh.forwards import DIRECT, Forwards
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.lobby import Lobby
from proxyd.gates.ssh.sessions import MAX_REPLIES_OWED, SessionRequests
from proxyd.gates.ssh.state import ERRORS, KEEPALIVE, OUTPUT, GateSettings, SshState
from proxyd.gates.ssh.windows import STDERR, WINDOW_BYTES

_LISTENERS = frozenset({"tcpip-forward", "streamlocal-forward@openssh.com"})
_LISTENER_ENDS = frozenset({"cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com"})
_CODE = wire.OpenFailureCode
MAX_TOLD = 20
"""Refused file operations of a channel that are explained on its stderr."""


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
        self._state = SshState(settings, judge)
        self._state.is_openssh_target = is_openssh_target
        self._lobby = lobby
        self._requests = SessionRequests(self._state)
        self._forwards = Forwards(self._state, self._requests)
        self._client_keepalives = 0
        if lobby is not None:
            lobby.attach(self._state)

    @property
    def actions(self) -> Actions:
        return self._state.actions

    @property
    def is_idle(self) -> bool:
        """Nothing is open: the session may end without loss."""
        return not self._state.channels

    @property
    def channels(self) -> int:
        return len(self._state.channels)

    # From the client

    def from_client(self, payload: bytes) -> None:
        message = wire.parse(payload)
        match message:
            case wire.Data():
                self._client_data(self._channel(message.recipient), message.data)
            case wire.WindowAdjust():
                channel = self._channel(message.recipient)
                channel.client.adjust(message.added)
                self._release(channel)
            case wire.ChannelRequest():
                self._client_request(self._channel(message.recipient), message)
            case wire.ChannelOpen():
                self._client_open(message)
            case wire.Eof():
                self._client_eof(self._channel(message.recipient))
            case wire.Close():
                self._closed(self._channel(message.recipient), "client")
            case wire.GlobalRequest():
                self._client_global(message)
            case wire.OpenConfirmation() | wire.OpenFailure():
                self._client_opened(message)
            case wire.RequestSuccess() | wire.RequestFailure():
                if not self._client_keepalives:
                    raise RemoteProtocolError("an answer to a request that was not made")
                self._client_keepalives -= 1
            case wire.ExtendedData():
                raise RemoteProtocolError("a client has no stderr")
            case wire.ChannelSuccess() | wire.ChannelFailure():
                raise RemoteProtocolError("an answer to a request that was not made")
            case _:
                assert_never(message)

    def _channel(self, number: int) -> Channel:
        channel = self._state.channels.get(number)
        if channel is None:
            raise RemoteProtocolError(f"there is no channel {number}")
        return channel

    def _client_data(self, channel: Channel, data: bytes) -> None:
        channel.client.take(len(data))
        match channel.stage:
            case Stage.RAW:
                self._pass_on(channel, data)
            case Stage.SFTP:
                self._sftp(channel, data, None)
            case Stage.WAITING:
                channel.early.append(data)
                return
            case Stage.LOCAL:
                if self._lobby is not None:
                    self._lobby.data(channel, data)
            case Stage.STREAM:
                number = channel.number
                self._state.actions.records.append(lambda tape: tape.input(number, data))
                self._state.actions.streams.append((number, data))
                return  # released when the connection has taken it
            case Stage.REFUSED:
                pass
            case Stage.OPENING:
                raise RemoteProtocolError("data on a channel that is not open")
            case _:
                assert_never(channel.stage)
        self._release(channel)

    def _pass_on(self, channel: Channel, data: bytes) -> None:
        number = channel.number
        self._state.actions.records.append(lambda tape: tape.input(number, data))
        if channel.scp is not None:
            self._state.record_files(channel, channel.scp.from_client(data))
        channel.target.send(data)

    def _client_request(self, channel: Channel, request: wire.ChannelRequest) -> None:
        judge = self._state.judge
        try:
            if channel.stage is Stage.OPENING:
                raise RemoteProtocolError("a request on a channel that is not open")
            if channel.kind != "session":
                self._requests.decline(channel, request)
            elif channel.stage is Stage.LOCAL and self._lobby is not None:
                self._lobby.request(channel, request)
            elif judge is not None:
                self._requests.handle(channel, request, judge)
                self._pass_early(channel)
            else:
                self._requests.decline(channel, request)
        except ProtocolError:
            if channel.stage is Stage.OPENING or len(channel.owed) >= MAX_REPLIES_OWED:
                raise
            # The framing is sound and only the body is not: a no, as the RFC has it for what is not supported.
            self._requests.decline(channel, request)

    def _pass_early(self, channel: Channel) -> None:
        if channel.stage is Stage.WAITING or not (channel.early or channel.has_early_eof):
            return
        early, channel.early = channel.early, []
        for data in early:
            if channel.stage is Stage.SFTP:
                self._sftp(channel, data, None)
            elif channel.stage is Stage.RAW:
                self._pass_on(channel, data)
        if channel.has_early_eof:
            channel.has_early_eof = False
            self._forward_eof(channel)
        self._release(channel)

    def _client_open(self, asked: wire.ChannelOpen) -> None:
        state = self._state
        if asked.max_packet == 0:
            raise RemoteProtocolError("a channel whose largest packet is empty")
        if len(state.channels) >= state.settings.max_channels:
            text = f"proxyd: {state.settings.max_channels} channels are open already"
            state.actions.to_client.append(
                wire.open_failure(asked.sender, _CODE.RESOURCE_SHORTAGE, text, "en")
            )
            return
        if asked.kind == "session" and state.takes_sessions:
            self._open_session(asked)
        elif asked.kind in DIRECT:
            self._open_direct(asked)
        else:
            text = "proxyd: channels of this kind are not passed on"
            code = (
                _CODE.ADMINISTRATIVELY_PROHIBITED if asked.kind == "session" else _CODE.UNKNOWN_CHANNEL_TYPE
            )
            state.actions.to_client.append(wire.open_failure(asked.sender, code, text, "en"))

    def _open_session(self, asked: wire.ChannelOpen) -> None:
        state = self._state
        channel = state.new_channel("session", by_client=True)
        channel.client.confirm(asked.sender, asked.window, asked.max_packet)
        number = channel.number
        if state.judge is None:
            channel.stage = Stage.LOCAL
            state.confirm_to_client(channel)
            return
        state.actions.records.append(lambda tape: tape.opened(number, "session", {}))
        state.open_at_target(channel)

    def _open_direct(self, asked: wire.ChannelOpen) -> None:
        try:
            if self._state.judge is not None:
                self._forwards.open_direct(asked, self._state.judge)
            elif self._lobby is not None:
                self._lobby.open_direct(asked)
        except ProtocolError as fault:
            text = f"proxyd: {fault.message}"
            self._state.actions.to_client.append(
                wire.open_failure(asked.sender, _CODE.CONNECT_FAILED, text, "en")
            )

    def _client_eof(self, channel: Channel) -> None:
        end = channel.client
        if end.eof_received or end.close_received:
            raise RemoteProtocolError("a second end of the data")
        end.eof_received = True
        if channel.stage is Stage.WAITING or channel.is_chosen:
            channel.has_early_eof = True
        else:
            self._forward_eof(channel)

    def _forward_eof(self, channel: Channel) -> None:
        match channel.stage:
            case Stage.RAW | Stage.OPENING:
                channel.target.send_eof()
            case Stage.SFTP:
                channel.wants_eof = True
                self._sftp(channel, b"", None)
            case Stage.STREAM:
                self._state.actions.streams.append((channel.number, b""))
            case Stage.LOCAL:
                if self._lobby is not None:
                    self._lobby.end_of_input(channel)
            case _:
                return

    def _client_global(self, request: wire.GlobalRequest) -> None:
        state, judge = self._state, self._state.judge
        try:
            if request.name in _LISTENERS and judge is not None:
                self._forwards.listen(request, judge)
                return
            if request.name in _LISTENER_ENDS and judge is not None:
                self._forwards.cancel(request)
                return
        except ProtocolError:
            if request.want_reply:
                state.answer_global(wire.request_failure())
            return
        if request.name == "no-more-sessions@openssh.com":
            state.takes_sessions = False
        if request.want_reply:
            state.answer_global(
                wire.request_success() if request.name == KEEPALIVE else wire.request_failure()
            )

    def _client_opened(self, message: wire.OpenConfirmation | wire.OpenFailure) -> None:
        """The client's answer to a channel that the target has opened."""
        channel = self._channel(message.recipient)
        if channel.by_client or channel.stage is not Stage.OPENING:
            raise RemoteProtocolError("an answer to a channel that was not asked for")
        if isinstance(message, wire.OpenFailure):
            self._state.actions.to_target.append(
                wire.open_failure(channel.target.number, message.code, message.text, message.language)
            )
            self._give_up(channel)
            return
        channel.stage = Stage.RAW
        channel.client.confirm(message.sender, message.window, message.max_packet)
        self._state.confirm_to_target(channel, message.body)

    # From the target

    def from_target(self, payload: bytes) -> None:
        message = wire.parse(payload)
        match message:
            case wire.Data():
                self._target_data(self._channel(message.recipient), 0, message.data)
            case wire.ExtendedData():
                self._target_data(self._channel(message.recipient), message.code, message.data)
            case wire.WindowAdjust():
                channel = self._channel(message.recipient)
                channel.target.adjust(message.added)
                self._release(channel)
            case wire.ChannelRequest():
                self._target_request(self._channel(message.recipient), message)
            case wire.ChannelSuccess() | wire.ChannelFailure():
                channel = self._channel(message.recipient)
                if not channel.answered(isinstance(message, wire.ChannelSuccess)):
                    raise RemoteProtocolError("an answer to a request that was not made")
                self._pass_early(channel)
            case wire.Eof():
                self._target_eof(self._channel(message.recipient))
            case wire.Close():
                self._closed(self._channel(message.recipient), "target")
            case wire.OpenConfirmation() | wire.OpenFailure():
                self._target_opened(message)
            case wire.ChannelOpen():
                if message.max_packet == 0:
                    raise RemoteProtocolError("a channel whose largest packet is empty")
                self._forwards.open_from_target(message)
            case wire.GlobalRequest():
                if message.want_reply:
                    # What servers ask of clients is whether they are alive; any answer says so.
                    self._state.actions.to_target.append(wire.request_failure())
            case wire.RequestSuccess():
                self._state.target_answered(message.body)
            case wire.RequestFailure():
                self._state.target_answered(None)
            case _:
                assert_never(message)

    def _target_data(self, channel: Channel, code: int, data: bytes) -> None:
        channel.target.take(len(data))
        if channel.stage is Stage.SFTP and code == 0:
            self._sftp(channel, None, data)
        elif channel.stage in {Stage.RAW, Stage.WAITING} and code in {0, STDERR}:
            number, stream = channel.number, ERRORS if code else OUTPUT
            if not channel.client.close_wanted:
                self._state.actions.records.append(lambda tape: tape.output(number, stream, data))
            if channel.scp is not None and code == 0:
                self._state.record_files(channel, channel.scp.from_target(data))
            channel.client.send(data, code)
        elif channel.stage is Stage.SFTP:
            channel.client.send(data, code)
        elif channel.stage is Stage.OPENING:
            raise RemoteProtocolError("data on a channel that is not open")
        self._release(channel)

    def _target_request(self, channel: Channel, request: wire.ChannelRequest) -> None:
        target = channel.target
        match request.name:
            case "exit-status":
                channel.result["exit_status"] = ExitStatus.parse(request.body).status
            case "exit-signal":
                channel.result["exit_signal"] = ExitSignal.parse(request.body).name
            case "eow@openssh.com" | "xon-xoff":
                pass
            case _:
                if request.want_reply:
                    target.send_message(wire.channel_failure(target.number))
                return
        if channel.stage in {Stage.RAW, Stage.SFTP}:
            client = channel.client
            client.send_message(wire.channel_request(client.number, request.name, False, request.body))

    def _target_eof(self, channel: Channel) -> None:
        end = channel.target
        if end.eof_received or end.close_received:
            raise RemoteProtocolError("a second end of the data")
        end.eof_received = True
        if channel.stage in {Stage.RAW, Stage.SFTP}:
            channel.client.send_eof()

    def _target_opened(self, message: wire.OpenConfirmation | wire.OpenFailure) -> None:
        """The target's answer to a channel that the client has asked for, or that was chosen from the menu."""
        channel = self._channel(message.recipient)
        if not channel.by_client or channel.target.peer is not None or channel.stage is Stage.REFUSED:
            raise RemoteProtocolError("an answer to a channel that was not asked for")
        if isinstance(message, wire.OpenFailure):
            self._not_opened(channel, message)
            return
        channel.target.confirm(message.sender, message.window, message.max_packet)
        if channel.client.close_received:
            channel.target.close_now()
        elif channel.is_chosen and self._state.judge is not None:
            self._replay(channel, self._state.judge)
        else:
            channel.stage = Stage.WAITING if channel.kind == "session" else Stage.RAW
            self._state.confirm_to_client(channel, message.body)

    def _not_opened(self, channel: Channel, message: wire.OpenFailure) -> None:
        client = channel.client
        if channel.is_chosen:
            self._state.refuse(channel, f"proxyd: the target refused the session: {message.text[:200]}", 255)
        else:
            self._state.actions.to_client.append(
                wire.open_failure(client.number, message.code, message.text, message.language)
            )
        self._give_up(channel)

    def _give_up(self, channel: Channel) -> None:
        if not channel.is_chosen:
            self._state.channels.pop(channel.number, None)
            self._state.record_end(channel)
        else:
            channel.target.close_sent = channel.target.close_received = True

    # Both ways

    def _closed(self, channel: Channel, side: str) -> None:
        near, far = (channel.client, channel.target) if side == "client" else (channel.target, channel.client)
        if near.close_received:
            raise RemoteProtocolError("a channel that was closed twice")
        near.close_received = True
        near.close_now()
        if channel.stage is Stage.STREAM:
            self._state.actions.hang_ups.append(channel.number)
        if channel.sftp is None or side == "target":
            far.send_close()
        else:
            far.close_now()
        if channel.stage in {Stage.LOCAL, Stage.REFUSED, Stage.STREAM} and far.peer is None:
            far.close_sent = far.close_received = True
        self._state.forget_if_finished(channel)

    def _sftp(self, channel: Channel, from_client: bytes | None, from_target: bytes | None) -> None:
        gate, actions, number = channel.sftp, self._state.actions, channel.number
        if gate is None:
            raise RemoteProtocolError("data of an sftp session that has not begun")
        if from_client:
            gate.from_client(from_client)
        if from_target:
            gate.from_target(from_target)
        work = gate.take_actions()
        for facts, decision in work.judged:
            actions.records.append(lambda tape, f=facts, d=decision: tape.judged(number, f, d))  # type: ignore[misc]
            if decision.effect is not Effect.ALLOW and channel.told < MAX_TOLD:
                # Most clients show the code of a refusal, and not the text that says why.
                channel.told += 1
                self._state.say(channel, refusal_text(decision))
        self._state.record_files(channel, work.files)
        for data in work.to_target:
            channel.target.send(data)
        for data in work.to_client:
            channel.client.send(data)
        if work.close is not None:
            self._state.refuse(channel, f"proxyd: the sftp conversation cannot be followed: {work.close}")
        elif channel.wants_eof and not gate.has_backlog:
            channel.target.send_eof()

    def _release(self, channel: Channel) -> None:
        """Grant each side more once what it has sent has found its place at the other."""
        client, target = channel.client, channel.target
        is_full = channel.sftp is not None and (
            channel.sftp.is_full or client.queued_bytes >= WINDOW_BYTES // 2
        )
        if target.queued_bytes < WINDOW_BYTES // 2 and not is_full and not channel.early:
            client.release()
        if client.queued_bytes < WINDOW_BYTES // 2:
            target.release()
        if client.close_sent or target.close_sent:
            self._state.forget_if_finished(channel)

    # Keepalives of our own

    def ask_client(self) -> int:
        """Ask the client whether it is there; how many such questions it has not answered, this one included."""
        self.actions.to_client.append(wire.global_request(KEEPALIVE, True))
        self._client_keepalives += 1
        return self._client_keepalives

    def ask_target(self) -> int:
        return self._state.ask_target()

    # The menu

    def enter(self, judge: SshJudge, *, is_openssh_target: bool) -> None:
        """The chosen target is connected: open on it what the menu was asked for."""
        self._state.judge = judge
        self._state.is_openssh_target = is_openssh_target
        for channel in self._state.channels.values():
            if channel.is_chosen:
                self._state.open_at_target(channel)

    def turn_away(self, text: str, status: int) -> None:
        """The chosen target cannot be had."""
        for channel in list(self._state.channels.values()):
            if channel.stage is Stage.LOCAL:
                self._state.refuse(channel, text, status)

    def _replay(self, channel: Channel, judge: SshJudge) -> None:
        """Ask of the target what the client has asked of the menu, without answering a second time."""
        channel.stage = Stage.WAITING
        channel.is_chosen = channel.has_started = channel.has_pty = False
        stored, channel.stored = channel.stored, []
        for request in (*stored, wire.ChannelRequest(channel.number, "shell", False)):
            self._requests.handle(channel, request, judge)
        self._pass_early(channel)

    # Connections that were dialled for a jump

    def dialled(self, number: int) -> None:
        """The connection to the target's address is there."""
        channel = self._state.channels.get(number)
        if channel is not None:
            channel.stage = Stage.STREAM
            channel.target.close_sent = channel.target.close_received = True
            self._state.confirm_to_client(channel)

    def not_dialled(self, number: int, text: str) -> None:
        channel = self._state.channels.pop(number, None)
        if channel is not None:
            self.actions.to_client.append(
                wire.open_failure(channel.client.number, _CODE.CONNECT_FAILED, f"proxyd: {text}", "en")
            )

    def stream_taken(self, number: int) -> None:
        """The connection has taken what there was: the client may send more."""
        channel = self._state.channels.get(number)
        if channel is not None:
            channel.client.release()

    def from_stream(self, number: int, data: bytes) -> None:
        """What came over the connection, b"" for its end."""
        channel = self._state.channels.get(number)
        if channel is None:
            return
        if data:
            self.actions.records.append(lambda tape: tape.output(number, OUTPUT, data))
            channel.client.send(data)
        else:
            channel.client.send_eof()
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
            if (
                channel.kind == "session"
                and channel.client.peer is not None
                and channel.stage is not Stage.SFTP
            ):
                self._state.say(channel, f"\r\n{text}")

    def record_open_channels(self) -> None:
        """The session is over: what was still open is said to have ended with it."""
        for channel in self._state.channels.values():
            channel.result.setdefault("cut_off", True)
            self._state.record_end(channel)
        self._state.channels.clear()

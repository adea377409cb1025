"""What the client of a session says: one message of the connection protocol at a time.

Called by the gate. Requests on a session's channel go to `SessionRequests`, connections and listeners to `Forwards`,
what is said before there is a target to `Lobby`.
"""

from __future__ import annotations

from typing import assert_never

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.ssh import messages as wire
from proxyd.gates.ssh.channel import Channel, Stage
from proxyd.gates.ssh.flow import Flow
from proxyd.gates.ssh.forwards import DIRECT, Forwards
from proxyd.gates.ssh.lobby import Lobby
from proxyd.gates.ssh.sessions import MAX_REPLIES_OWED, SessionRequests
from proxyd.gates.ssh.state import KEEPALIVE, SshState

_LISTENERS = frozenset({"tcpip-forward", "streamlocal-forward@openssh.com"})
_LISTENER_ENDS = frozenset({"cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com"})
_CODE = wire.OpenFailureCode


class ClientSide:
    def __init__(
        self,
        state: SshState,
        lobby: Lobby | None,
        requests: SessionRequests,
        forwards: Forwards,
        flow: Flow,
    ) -> None:
        self._state = state
        self._lobby = lobby
        self._requests = requests
        self._forwards = forwards
        self._flow = flow
        self._keepalives = 0

    def receive(self, payload: bytes) -> None:
        """Raises ProtocolError."""
        message, state = wire.parse(payload), self._state
        match message:
            case wire.Data():
                self._flow.client_data(state.channel(message.recipient), message.data)
            case wire.WindowAdjust():
                channel = state.channel(message.recipient)
                channel.client.adjust(message.added)
                self._flow.release(channel)
            case wire.ChannelRequest():
                self._request(state.channel(message.recipient), message)
            case wire.ChannelOpen():
                self._open(message)
            case wire.Eof():
                self._flow.client_eof(state.channel(message.recipient))
            case wire.Close():
                self._flow.closed(state.channel(message.recipient), "client")
            case wire.GlobalRequest():
                self._global(message)
            case wire.OpenConfirmation() | wire.OpenFailure():
                self._opened(message)
            case wire.RequestSuccess() | wire.RequestFailure():
                if not self._keepalives:
                    raise RemoteProtocolError("an answer to a request that was not made")
                self._keepalives -= 1
            case wire.ExtendedData():
                raise RemoteProtocolError("a client has no stderr")
            case wire.ChannelSuccess() | wire.ChannelFailure():
                raise RemoteProtocolError("an answer to a request that was not made")
            case _:
                assert_never(message)

    def ask(self) -> int:
        """Ask whether it is there; how many such questions it has not answered, this one included."""
        self._state.actions.to_client.append(wire.global_request(KEEPALIVE, True))
        self._keepalives += 1
        return self._keepalives

    def _request(self, channel: Channel, request: wire.ChannelRequest) -> None:
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
                self._flow.pass_early(channel)
            else:
                self._requests.decline(channel, request)
        except ProtocolError:
            if channel.stage is Stage.OPENING or len(channel.owed) >= MAX_REPLIES_OWED:
                raise
            # The framing is sound and only the body is not: a no, as the RFC has it for what is not supported.
            self._requests.decline(channel, request)

    # Opens

    def _open(self, asked: wire.ChannelOpen) -> None:
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

    def _opened(self, message: wire.OpenConfirmation | wire.OpenFailure) -> None:
        """The answer to a channel that the target has opened."""
        channel = self._state.channel(message.recipient)
        if channel.by_client or channel.stage is not Stage.OPENING:
            raise RemoteProtocolError("an answer to a channel that was not asked for")
        if isinstance(message, wire.OpenFailure):
            self._state.actions.to_target.append(
                wire.open_failure(channel.target.number, message.code, message.text, message.language)
            )
            self._state.give_up(channel)
            return
        channel.stage = Stage.RAW
        channel.client.confirm(message.sender, message.window, message.max_packet)
        self._state.confirm_to_target(channel, message.body)

    # The connection

    def _global(self, request: wire.GlobalRequest) -> None:
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

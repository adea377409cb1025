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
from proxyd.gates.ssh.sessions import SessionRequests
from proxyd.gates.ssh.state import KEEPALIVE, SshState
from proxyd.gates.ssh.windows import MIN_PACKET_BYTES

_LISTENERS = frozenset({"tcpip-forward", "streamlocal-forward@openssh.com"})
_LISTENER_ENDS = frozenset({"cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com"})
NO_MORE_SESSIONS = "no-more-sessions@openssh.com"
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
                self._flow.client_data(state.client_channel(message.recipient), message.data)
            case wire.WindowAdjust():
                channel = state.client_channel(message.recipient)
                channel.client.adjust(message.added)
                self._flow.release(channel)
            case wire.ChannelRequest():
                self._request(state.client_channel(message.recipient), message)
            case wire.ChannelOpen():
                self._open(message)
            case wire.Eof():
                self._flow.client_eof(state.client_channel(message.recipient))
            case wire.Close():
                self._flow.client_closed(state.client_channel(message.recipient))
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
        if channel.client.close_received:
            return  # OpenSSH's client may still tell the size of its window then
        if channel.is_flooded:
            raise RemoteProtocolError("too many requests without waiting for an answer")
        judge = self._state.judge
        try:
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
            # The framing is sound and only the body is not: a no, as the RFC has it for what is not supported.
            self._requests.decline(channel, request)

    # Opens

    def _open(self, asked: wire.ChannelOpen) -> None:
        state = self._state
        if len(state.channels) >= state.settings.max_channels:
            text = f"{state.settings.max_channels} channels are open already"
            self._refuse(asked, _CODE.RESOURCE_SHORTAGE, text)
        elif asked.max_packet < MIN_PACKET_BYTES:
            text = f"packets have to be of {MIN_PACKET_BYTES} bytes at least"
            self._refuse(asked, _CODE.RESOURCE_SHORTAGE, text)
        elif asked.kind == "session" and state.takes_sessions:
            self._open_session(asked)
        elif asked.kind in DIRECT:
            self._open_direct(asked)
        elif asked.kind == "session":
            self._refuse(asked, _CODE.ADMINISTRATIVELY_PROHIBITED, "no more sessions were to be opened")
        else:
            self._refuse(asked, _CODE.UNKNOWN_CHANNEL_TYPE, "channels of this kind are not passed on")

    def _refuse(self, asked: wire.ChannelOpen, code: wire.OpenFailureCode, text: str) -> None:
        self._state.actions.to_client.append(wire.open_failure(asked.sender, code, f"proxyd: {text}", "en"))

    def _open_session(self, asked: wire.ChannelOpen) -> None:
        state = self._state
        channel = state.new_channel("session", by_client=True)
        channel.client.asked(asked.sender, asked.window, asked.max_packet)
        number = channel.number
        if state.judge is None:
            channel.stage = Stage.LOCAL
            channel.target.leave_out()
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
            self._refuse(asked, _CODE.CONNECT_FAILED, fault.message)

    def _opened(self, message: wire.OpenConfirmation | wire.OpenFailure) -> None:
        """The answer to a channel that the target has opened."""
        channel = self._state.awaited(message.recipient, lambda channel: channel.client)
        if isinstance(message, wire.OpenFailure):
            self._state.actions.to_target.append(
                wire.open_failure(channel.target.number, message.code, message.text, message.language)
            )
            self._state.drop(channel)
            return
        channel.stage = Stage.RAW
        channel.client.confirmed(message.sender, message.window, message.max_packet)
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
        if request.name == NO_MORE_SESSIONS:
            state.takes_sessions = False
        if request.want_reply:
            is_known = request.name in {KEEPALIVE, NO_MORE_SESSIONS}
            state.answer_global(wire.request_success() if is_known else wire.request_failure())

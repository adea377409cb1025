"""What the target of a session says: one message of the connection protocol at a time. Called by the gate."""

from __future__ import annotations

from typing import assert_never

from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.requests import ExitSignal, ExitStatus
from proxyd.gates.ssh.channel import Channel, Stage
from proxyd.gates.ssh.flow import Flow
from proxyd.gates.ssh.forwards import Forwards
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.sessions import SessionRequests
from proxyd.gates.ssh.state import SshState


class TargetSide:
    def __init__(self, state: SshState, requests: SessionRequests, forwards: Forwards, flow: Flow) -> None:
        self._state = state
        self._requests = requests
        self._forwards = forwards
        self._flow = flow

    def receive(self, payload: bytes) -> None:
        """Raises ProtocolError."""
        message, state = wire.parse(payload), self._state
        match message:
            case wire.Data():
                self._flow.target_data(state.channel(message.recipient), 0, message.data)
            case wire.ExtendedData():
                self._flow.target_data(state.channel(message.recipient), message.code, message.data)
            case wire.WindowAdjust():
                channel = state.channel(message.recipient)
                channel.target.adjust(message.added)
                self._flow.release(channel)
            case wire.ChannelRequest():
                self._request(state.channel(message.recipient), message)
            case wire.ChannelSuccess() | wire.ChannelFailure():
                channel = state.channel(message.recipient)
                if not channel.answered(isinstance(message, wire.ChannelSuccess)):
                    raise RemoteProtocolError("an answer to a request that was not made")
                self._flow.pass_early(channel)
            case wire.Eof():
                self._flow.target_eof(state.channel(message.recipient))
            case wire.Close():
                self._flow.closed(state.channel(message.recipient), "target")
            case wire.OpenConfirmation() | wire.OpenFailure():
                self._opened(message)
            case wire.ChannelOpen():
                if message.max_packet == 0:
                    raise RemoteProtocolError("a channel whose largest packet is empty")
                self._forwards.open_from_target(message)
            case wire.GlobalRequest():
                if message.want_reply:
                    # What servers ask of clients is whether they are alive; any answer says so.
                    state.actions.to_target.append(wire.request_failure())
            case wire.RequestSuccess():
                state.target_answered(message.body)
            case wire.RequestFailure():
                state.target_answered(None)
            case _:
                assert_never(message)

    def _request(self, channel: Channel, request: wire.ChannelRequest) -> None:
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

    def _opened(self, message: wire.OpenConfirmation | wire.OpenFailure) -> None:
        """The answer to a channel that the client has asked for, or that was chosen from the menu."""
        channel = self._state.channel(message.recipient)
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
        self._state.give_up(channel)

    def _replay(self, channel: Channel, judge: SshJudge) -> None:
        """Ask of the target what the client has asked of the menu, without answering a second time."""
        channel.stage = Stage.WAITING
        channel.is_chosen = channel.has_started = channel.has_pty = False
        stored, channel.stored = channel.stored, []
        for request in (*stored, wire.ChannelRequest(channel.number, "shell", False)):
            self._requests.handle(channel, request, judge)
        self._flow.pass_early(channel)

"""What the target of a session says: one message of the connection protocol at a time. Called by the gate."""

from __future__ import annotations

from typing import assert_never

from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.requests import ExitSignal, ExitStatus, XonXoff, parse_empty
from proxyd.gates.refusals import printable
from proxyd.gates.ssh.channel import Channel, Stage
from proxyd.gates.ssh.flow import Flow
from proxyd.gates.ssh.forwards import Forwards
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.sessions import SessionRequests
from proxyd.gates.ssh.state import EXIT_UNREACHABLE, SshState

MAX_SHOWN = 200


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
                self._flow.target_data(state.target_channel(message.recipient), 0, message.data)
            case wire.ExtendedData():
                self._flow.target_data(state.target_channel(message.recipient), message.code, message.data)
            case wire.WindowAdjust():
                channel = state.target_channel(message.recipient)
                channel.target.adjust(message.added)
                self._flow.release(channel)
            case wire.ChannelRequest():
                self._request(state.target_channel(message.recipient), message)
            case wire.ChannelSuccess() | wire.ChannelFailure():
                channel = state.target_channel(message.recipient)
                if not channel.answered(isinstance(message, wire.ChannelSuccess)):
                    raise RemoteProtocolError("an answer to a request that was not made")
                self._flow.pass_early(channel)
            case wire.Eof():
                self._flow.target_eof(state.target_channel(message.recipient))
            case wire.Close():
                self._flow.target_closed(state.target_channel(message.recipient))
            case wire.OpenConfirmation() | wire.OpenFailure():
                self._opened(message)
            case wire.ChannelOpen():
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
        client, target = channel.client, channel.target
        if target.close_received:
            return
        is_known = True
        match request.name:
            case "exit-status":
                channel.result["exit_status"] = ExitStatus.parse(request.body).status
            case "exit-signal":
                channel.result["exit_signal"] = ExitSignal.parse(request.body).name
            case "eow@openssh.com":
                parse_empty(request.body, request.name)
            case "xon-xoff":
                XonXoff.parse(request.body)
            case _:
                is_known = False
        self._state.show_held(channel)
        if is_known and channel.is_carrying:
            client.send_message(wire.channel_request(client.number, request.name, False, request.body))
        if request.want_reply:
            # sshd asks so whether its client is alive; data that waits for its window must not hold the answer up.
            answer = wire.channel_success if is_known else wire.channel_failure
            target.answer(answer(target.number))

    def _opened(self, message: wire.OpenConfirmation | wire.OpenFailure) -> None:
        """The answer to a channel that the client has asked for, or that was chosen from the menu."""
        state = self._state
        channel = state.awaited(message.recipient, lambda channel: channel.target)
        if isinstance(message, wire.OpenFailure):
            self._not_opened(channel, message)
            return
        channel.target.confirmed(message.sender, message.window, message.max_packet)
        if channel.client.close_received:
            return  # it was left while it was opened: the confirmed end has sent its CLOSE
        if channel.is_chosen and state.judge is not None:
            self._replay(channel, state.judge)
        else:
            channel.stage = Stage.WAITING if channel.kind == "session" else Stage.RAW
            state.confirm_to_client(channel, message.body)

    def _not_opened(self, channel: Channel, message: wire.OpenFailure) -> None:
        state = self._state
        channel.target.leave_out()
        if channel.is_chosen:
            text = f"proxyd: the target refused the session: {printable(message.text[:MAX_SHOWN])}"
            state.refuse(channel, text, EXIT_UNREACHABLE)
            state.forget_if_finished(channel)
            return
        number = channel.client.number
        state.actions.to_client.append(
            wire.open_failure(number, message.code, message.text, message.language)
        )
        state.drop(channel)

    def _replay(self, channel: Channel, judge: SshJudge) -> None:
        """Ask of the target what the client has asked of the menu, without answering a second time."""
        channel.stage = Stage.WAITING
        channel.is_chosen = channel.has_started = channel.has_pty = False
        stored, channel.stored = channel.stored, []
        for request in (*stored, wire.ChannelRequest(channel.number, "shell", False)):
            self._requests.handle(channel, request, judge)
        self._flow.pass_early(channel)

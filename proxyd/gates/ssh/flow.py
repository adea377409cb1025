"""The way of data through a channel: from one side's window to the other's, judged on its way where it is sftp, and
the end of a channel.

Owns when a side is granted more. Must never pass on what has not been put into `records` first. Called by the gate's
sides for data, ends of data, window adjustments and closes.
"""

from __future__ import annotations

from typing import assert_never

from policy.decision import Effect
from protocols.errors import RemoteProtocolError
from proxyd.gates.scp import ScpObserver
from proxyd.gates.ssh.channel import Channel, Stage
from proxyd.gates.ssh.lobby import Lobby
from proxyd.gates.ssh.state import SshState
from proxyd.gates.ssh.windows import MAX_PACKET_BYTES, STDERR, STDOUT


class Flow:
    """Of all channels of one session."""

    def __init__(self, state: SshState, lobby: Lobby | None) -> None:
        self._state = state
        self._lobby = lobby

    # From the client

    def client_data(self, channel: Channel, data: bytes) -> None:
        channel.client.take(len(data))
        match channel.stage:
            case Stage.RAW | Stage.SFTP:
                self._pass_on(channel, data)
            case Stage.WAITING:
                channel.early += data
                return
            case Stage.LOCAL:
                if self._lobby is not None:
                    self._lobby.data(channel, data)
            case Stage.STREAM:
                number = channel.number
                self._state.actions.records.append(lambda tape: tape.input(number, data))
                self._state.actions.streams.append((number, data))
                return  # released when the connection has taken it
            case Stage.REFUSED | Stage.OPENING:
                pass
            case _:
                assert_never(channel.stage)
        self.release(channel)

    def _pass_on(self, channel: Channel, data: bytes) -> None:
        if channel.stage is Stage.SFTP:
            self._sftp(channel, data, None)
        if channel.stage is not Stage.RAW:
            return
        number, scp = channel.number, channel.scp
        files = [] if scp is None else scp.from_client(data)
        self._check_followed(channel, scp)
        self._state.actions.records.append(lambda tape: tape.input(number, data))
        self._state.record_files(channel, files)
        channel.target.send(data)

    def pass_early(self, channel: Channel) -> None:
        """What came before anything ran on the channel, now that something does, or will not and the client is gone."""
        if channel.stage is not Stage.WAITING:
            early, channel.early = channel.early, bytearray()
            for start in range(0, len(early), MAX_PACKET_BYTES):
                self._pass_on(channel, bytes(early[start : start + MAX_PACKET_BYTES]))
            if channel.has_early_eof:
                channel.has_early_eof = False
                self._forward_eof(channel)
        if channel.client.close_received and not channel.is_starting:
            self._leave_target(channel)
        self.release(channel)

    def client_eof(self, channel: Channel) -> None:
        end = channel.client
        if not end.take_eof():
            return
        if channel.stage is Stage.WAITING or channel.is_chosen:
            channel.has_early_eof = True
        else:
            self._forward_eof(channel)

    def _forward_eof(self, channel: Channel) -> None:
        match channel.stage:
            case Stage.RAW:
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

    # From the target

    def target_data(self, channel: Channel, code: int, data: bytes) -> None:
        channel.target.take(len(data))
        if channel.stage is Stage.SFTP and code == STDOUT:
            self._sftp(channel, None, data)
        elif channel.is_carrying and code in {STDOUT, STDERR}:
            scp = channel.scp if code == STDOUT else None
            files = [] if scp is None else scp.from_target(data)
            self._check_followed(channel, scp)
            self._show(channel, code, data)
            self._state.record_files(channel, files)
        self.release(channel)

    def _check_followed(self, channel: Channel, scp: ScpObserver | None) -> None:
        """What is no scp, or no more, is kept and looked into like any command's, from what could not be followed on.

        What either end of an scp says in words is on the tape as well.
        """
        if scp is None:
            return
        for text in scp.take_said():
            said = {"channel": channel.number, "text": text}
            self._state.actions.records.append(lambda tape, said=said: tape.event("scp said", said))  # type: ignore[misc]
        if scp.ended is None:
            return
        channel.scp = None
        if channel.screens is not None:
            channel.screens.skips_output = False
        number, lost = channel.number, {"channel": channel.number, "reason": scp.ended}
        self._state.actions.records.append(lambda tape: tape.event("scp not followed", lost))
        self._state.actions.records.append(lambda tape: tape.kept(number))

    def _show(self, channel: Channel, code: int, data: bytes) -> None:
        screens = channel.screens
        if screens is None:
            self._state.show(channel, code, data)
            return
        self._state.show(channel, code, screens.feed(code, data))
        self._state.tell_detected(channel, screens)

    def target_eof(self, channel: Channel) -> None:
        end = channel.target
        if not end.take_eof():
            return
        if channel.is_carrying:
            self._state.show_held(channel)
            channel.client.send_eof()

    # Both ways

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
            if decision.effect is not Effect.ALLOW:
                # Most clients show the code of a refusal, and not the text that says why.
                self._state.explain(channel, decision)
        self._state.record_files(channel, work.files)
        for data in work.to_target:
            channel.target.send(data)
        for data in work.to_client:
            channel.client.send(data)
        if work.close is not None:
            self._state.refuse(channel, f"proxyd: the sftp conversation cannot be followed: {work.close}")
        elif channel.wants_eof and not gate.has_backlog:
            channel.target.send_eof()

    def release(self, channel: Channel) -> None:
        """Grant each side more once what it has sent has found its place at the other."""
        client, target = channel.client, channel.target
        if target.has_room and not channel.early and not self._is_full(channel):
            client.release()
        if client.has_room:
            target.release()
        if client.close_sent or target.close_sent:
            self._state.forget_if_finished(channel)

    @staticmethod
    def _is_full(channel: Channel) -> bool:
        """Where the gateway itself answers: who does not take the answers may not ask for more."""
        if channel.sftp is not None:
            return channel.sftp.is_full or not channel.client.has_room
        return channel.stage is Stage.LOCAL and not channel.client.has_room

    # The end

    def client_closed(self, channel: Channel) -> None:
        client, target = channel.client, channel.target
        if client.close_received:
            raise RemoteProtocolError("a channel that was closed twice")
        client.close_received = True
        if target.close_received or client.close_wanted:
            client.close_now()
        else:
            # OpenSSH's client closes once both streams have ended, and learns the exit status afterwards: its own CLOSE
            # comes behind what the target still says.
            client.drop_waiting()
        if channel.stage is Stage.STREAM:
            self._state.actions.hang_ups.append(channel.number)
        if not channel.is_starting:
            self._leave_target(channel)
        self._state.forget_if_finished(channel)

    def _leave_target(self, channel: Channel) -> None:
        """The client has closed: the target gets the end behind what it has not taken yet."""
        channel.early.clear()
        if channel.sftp is not None:
            # What was judged still goes out; what the client has not been answered yet is not looked at any more.
            self._state.record_files(channel, channel.sftp.finish())
        channel.target.send_close()

    def target_closed(self, channel: Channel) -> None:
        client, target = channel.client, channel.target
        if target.close_received:
            raise RemoteProtocolError("a channel that was closed twice")
        target.close_received = True
        target.close_now()
        self._state.show_held(channel)
        client.send_close()  # behind what the client has not taken yet
        self._state.forget_if_finished(channel)

"""What clients ask on a session's channel: terminal, environment, shell, command, subsystem, signals (RFC 4254, 6).

A request that starts something is judged before the target hears of it; a refused one is answered on the channel.
Called by the gate for each request of the client.
"""

from __future__ import annotations

import re

from policy.decision import Effect
from policy.facts import SshFacts, SshOperation
from protocols.ssh import messages as wire
from protocols.ssh.requests import (
    BreakRequest,
    EnvRequest,
    ExecRequest,
    PtyRequest,
    SignalRequest,
    SubsystemRequest,
    WindowChange,
    X11Request,
    parse_empty,
)
from proxyd.gates.refusals import refusal_text
from proxyd.gates.scp import ScpObserver
from proxyd.gates.sftp import SftpGate
from proxyd.gates.sftp_path_requests import SymlinkOrder
from proxyd.gates.ssh.channel import Channel, Forwarded, Local, Stage
from proxyd.gates.ssh.judge import SshJudge, exec_facts
from proxyd.gates.ssh.screening import ChannelScreens
from proxyd.gates.ssh.state import SshState
from proxyd.gates.ssh.transfers import is_transfer, scp_direction

SFTP = "sftp"
INTERNAL_SFTP = "internal-sftp"
"""As a forced command sshd takes it for its own sftp server, which no shell would find."""
_STARTS = frozenset({"shell", "exec", "subsystem"})
_VARIABLE = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
MAX_ENVIRONMENT = 128


class SessionRequests:
    """Handles requests on channels of kind "session" whose target is connected."""

    def __init__(self, state: SshState) -> None:
        self._state = state
        self.allows_agent = False
        self.allows_x11 = False

    def handle(self, channel: Channel, request: wire.ChannelRequest, judge: SshJudge) -> None:
        """Raises ProtocolError for a body that is not one."""
        name = request.name
        if channel.stage is Stage.REFUSED:
            self._answer(channel, request, is_success=False)
        elif name in _STARTS:
            self._start(channel, request, judge)
        elif name == "pty-req":
            self._pty(channel, request, judge)
        elif name == "env":
            self._environment(channel, request)
        elif name == "window-change":
            self._resize(channel, request)
        elif name == "auth-agent-req@openssh.com":
            parse_empty(request.body, name)
            self._agent(channel, request, judge)
        elif name == "x11-req":
            X11Request.parse(request.body)
            self._x11(channel, request, judge)
        elif name == "signal":
            SignalRequest.parse(request.body)
            self._pass_on(channel, request)
        elif name == "break":
            BreakRequest.parse(request.body)
            self._pass_on(channel, request)
        elif name == "eow@openssh.com":
            parse_empty(request.body, name)
            self._pass_on(channel, request)
        else:
            self._answer(channel, request, is_success=False)

    # Answers

    def decline(self, channel: Channel, request: wire.ChannelRequest) -> None:
        """A no, as for a request that is not supported."""
        self._answer(channel, request, is_success=False)

    def _answer(self, channel: Channel, request: wire.ChannelRequest, *, is_success: bool) -> None:
        if request.want_reply:
            channel.owe(Local(is_success))

    def _pass_on(self, channel: Channel, request: wire.ChannelRequest, body: bytes | None = None) -> None:
        target = channel.target
        if request.want_reply:
            channel.owe(Forwarded())
        target.send_message(
            wire.channel_request(
                target.number, request.name, request.want_reply, request.body if body is None else body
            )
        )

    # Before something starts

    def _pty(self, channel: Channel, request: wire.ChannelRequest, judge: SshJudge) -> None:
        asked = PtyRequest.parse(request.body)
        if not judge.permits.pty or channel.has_pty or channel.has_started:
            self._answer(channel, request, is_success=False)
            return
        channel.has_pty = True
        number = channel.number
        self._state.actions.records.append(
            lambda tape: tape.terminal(number, asked.term, asked.columns, asked.rows)
        )
        self._pass_on(channel, request)

    def _environment(self, channel: Channel, request: wire.ChannelRequest) -> None:
        asked = EnvRequest.parse(request.body)
        allowed = not channel.has_started and channel.variables < MAX_ENVIRONMENT
        if allowed and self._takes(asked):
            channel.variables += 1
            self._pass_on(channel, request)
        else:
            self._answer(channel, request, is_success=False)

    def _takes(self, asked: EnvRequest) -> bool:
        """Is the variable in the target's list? A name with `=` in it would be read as another one."""
        if _VARIABLE.fullmatch(asked.name) is None or b"\0" in asked.value:
            return False
        name = asked.name.decode("ascii")
        return any(glob.matches(name) for glob in self._state.settings.environment)

    def _resize(self, channel: Channel, request: wire.ChannelRequest) -> None:
        size = WindowChange.parse(request.body)
        self._state.show_held(channel)
        if not channel.has_pty:
            self._answer(channel, request, is_success=False)
            return
        number = channel.number
        self._state.actions.records.append(lambda tape: tape.resized(number, size.columns, size.rows))
        self._pass_on(channel, request)

    def _agent(self, channel: Channel, request: wire.ChannelRequest, judge: SshJudge) -> None:
        if self._allows(channel, SshFacts(SshOperation.AGENT), judge):
            self.allows_agent = True
            self._pass_on(channel, request)
        else:
            self._answer(channel, request, is_success=False)

    def _x11(self, channel: Channel, request: wire.ChannelRequest, judge: SshJudge) -> None:
        if self._allows(channel, SshFacts(SshOperation.X11), judge):
            self.allows_x11 = True
            self._pass_on(channel, request)
        else:
            self._answer(channel, request, is_success=False)

    def _allows(self, channel: Channel, facts: SshFacts, judge: SshJudge) -> bool:
        decision = judge.judge(facts)
        number = channel.number
        self._state.actions.records.append(lambda tape: tape.judged(number, facts, decision))
        if decision.effect is Effect.ALLOW:
            return True
        # OpenSSH asks without wanting an answer, and goes on as if it had got what it asked for.
        self._state.explain(channel, decision)
        return False

    # The start

    def _start(self, channel: Channel, request: wire.ChannelRequest, judge: SshJudge) -> None:
        if channel.has_started:
            self._answer(channel, request, is_success=False)
            return
        name, body, facts = self._asked(channel, request, judge)
        channel.has_started = True
        decision = judge.judge(facts)
        number = channel.number
        self._state.actions.records.append(lambda tape: tape.judged(number, facts, decision))
        if decision.effect is not Effect.ALLOW:
            text = refusal_text(decision)
            channel.stage = Stage.REFUSED
            channel.owe(
                Local(True, is_shown=request.want_reply, then=lambda: self._state.refuse(channel, text))
            )
            return

        detection = judge.detection
        if detection is not None:
            # From here on: what comes before the target has said yes is shown as well.
            channel.screens = ChannelScreens(
                detection, skips_output=is_transfer(facts), is_terminal=channel.has_pty
            )

        def started(is_success: bool) -> None:
            if is_success:
                self._begin(channel, judge, facts)
            else:
                channel.has_started = False  # the client is free to try something else on this channel

        channel.owe(Forwarded(started, request.want_reply))
        channel.target.send_message(wire.channel_request(channel.target.number, name, True, body))

    def _asked(
        self, channel: Channel, request: wire.ChannelRequest, judge: SshJudge
    ) -> tuple[str, bytes, SshFacts]:
        """Name and body of the request as the target will see it, and its facts."""
        forced = judge.permits.forced_command
        if forced == INTERNAL_SFTP:
            return "subsystem", SubsystemRequest(SFTP).encode(), SshFacts(SshOperation.SUBSYSTEM, SFTP)
        if forced is not None:
            command = forced.encode()
            return "exec", ExecRequest(command).encode(), exec_facts(command, has_pty=channel.has_pty)
        match request.name:
            case "shell":
                parse_empty(request.body, "shell")
                return "shell", b"", SshFacts(SshOperation.SHELL, has_pty=channel.has_pty)
            case "exec":
                asked = ExecRequest.parse(request.body)
                return "exec", request.body, exec_facts(asked.command, has_pty=channel.has_pty)
            case _:
                subsystem = SubsystemRequest.parse(request.body)
                facts = SshFacts(SshOperation.SUBSYSTEM, subsystem.name, has_pty=channel.has_pty)
                return "subsystem", request.body, facts

    def _begin(self, channel: Channel, judge: SshJudge, facts: SshFacts) -> None:
        """It is known now what reads the client's data.

        Nothing of it has gone to the target before: after a start that failed it could be read by another, and what was
        data of a command would be file operations that nobody has judged.
        """
        if channel.stage is not Stage.WAITING:
            return
        channel.stage = Stage.RAW
        if facts.operation is SshOperation.SUBSYSTEM and facts.command == SFTP:
            channel.stage = Stage.SFTP
            channel.sftp = SftpGate(
                judge.judge,
                resolves_paths=lambda: judge.depends_on_paths,
                contents=self._state.contents,
                symlink_order=(
                    SymlinkOrder.OPENSSH if self._state.is_openssh_target else SymlinkOrder.EITHER
                ),
            )
        elif (direction := scp_direction(facts)) is not None:
            channel.scp = ScpObserver(direction, self._state.contents)
            number = channel.number
            self._state.actions.records.append(lambda tape: tape.counted(number))

"""Connections through an SSH session: those the client asks for (-L, -D, -W), those that come to a listener (-R), and
the target's ways to the client's agent and display. Each is judged by its destination; none is open by default.

Called by the gate for opens of these kinds and for the global requests that make listeners.
"""

from __future__ import annotations

from policy.decision import Decision, Effect
from policy.facts import SshFacts, SshOperation
from protocols.errors import ProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.opens import DirectStreamlocal, DirectTcpip, ForwardedStreamlocal, ForwardedTcpip, X11Open
from protocols.ssh.requests import AllocatedPort, StreamlocalForward, TcpipForward, parse_empty
from proxyd.gates.refusals import refusal_text
from proxyd.gates.ssh.channel import Channel
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.sessions import SessionRequests
from proxyd.gates.ssh.state import GlobalReply, SshState
from proxyd.gates.ssh.windows import MIN_PACKET_BYTES

DIRECT = frozenset({"direct-tcpip", "direct-streamlocal@openssh.com"})

MAX_LISTENERS = 64

_PROHIBITED = wire.OpenFailureCode.ADMINISTRATIVELY_PROHIBITED


def destination(kind: str, body: bytes) -> tuple[SshFacts, str]:
    """What a client's open asks to reach, and how to show it. Raises ProtocolError."""
    if kind == "direct-tcpip":
        asked = DirectTcpip.parse(body)
        shown = f"[{asked.host}]:{asked.port}" if ":" in asked.host else f"{asked.host}:{asked.port}"
        return SshFacts(SshOperation.FORWARD, host=asked.host, port=asked.port), shown
    path = DirectStreamlocal.parse(body).path
    return SshFacts(SshOperation.FORWARD, path=path), f"unix:{path}"


class Forwards:
    """Of one session. Keeps where the target listens for the client, and as what that was judged."""

    def __init__(self, state: SshState, requests: SessionRequests) -> None:
        self._state = state
        self._requests = requests
        self._tcp: dict[tuple[str, int], SshFacts] = {}
        self._unix: dict[str, SshFacts] = {}

    # Asked for by the client

    def open_direct(self, asked: wire.ChannelOpen, judge: SshJudge) -> None:
        """Raises ProtocolError for a body that is not one."""
        facts, shown = destination(asked.kind, asked.body)
        state = self._state
        channel = state.new_channel(asked.kind, by_client=True)
        channel.client.asked(asked.sender, asked.window, asked.max_packet)
        decision = self._judge(channel, facts, judge)
        if decision.effect is not Effect.ALLOW:
            del state.channels[channel.number]
            state.actions.to_client.append(
                wire.open_failure(asked.sender, _PROHIBITED, refusal_text(decision), "en")
            )
            return
        number, kind = channel.number, channel.kind
        state.actions.records.append(lambda tape: tape.opened(number, kind, {"to": shown}))
        state.open_at_target(channel, asked.body)

    def _judge(self, channel: Channel | None, facts: SshFacts, judge: SshJudge) -> Decision:
        decision = judge.judge(facts)
        number = None if channel is None else channel.number
        self._state.actions.records.append(lambda tape: tape.judged(number, facts, decision))
        return decision

    # Listeners

    def listen(self, request: wire.GlobalRequest, judge: SshJudge) -> None:
        """tcpip-forward or streamlocal-forward@openssh.com. Raises ProtocolError for a body that is not one."""
        if request.name == "tcpip-forward":
            tcp = TcpipForward.parse(request.body)
            facts = SshFacts(SshOperation.LISTEN, host=tcp.host, port=tcp.port)
        else:
            tcp = None
            facts = SshFacts(SshOperation.LISTEN, path=StreamlocalForward.parse(request.body).path)
        decision = self._judge(None, facts, judge)
        if decision.effect is not Effect.ALLOW or len(self._tcp) + len(self._unix) >= MAX_LISTENERS:
            if request.want_reply:
                self._state.answer_global(wire.request_failure())
            return

        def answered(body: bytes | None) -> bytes:
            if body is None:
                return wire.request_failure()
            if tcp is None:
                self._unix[facts.path] = facts
            else:
                self._tcp[tcp.host, tcp.port or AllocatedPort.parse(body).port] = facts
            return wire.request_success(body)

        self._pass_on(request, answered)

    def cancel(self, request: wire.GlobalRequest) -> None:
        """The client takes a listener back; one that it does not have is answered with a no."""
        if request.name == "cancel-tcpip-forward":
            asked = TcpipForward.parse(request.body)
            is_known = self._tcp.pop((asked.host, asked.port), None) is not None
        else:
            path = StreamlocalForward.parse(request.body).path
            is_known = self._unix.pop(path, None) is not None
        if is_known:
            self._pass_on(
                request, lambda body: wire.request_failure() if body is None else wire.request_success(body)
            )
        elif request.want_reply:
            self._state.answer_global(wire.request_failure())

    def _pass_on(self, request: wire.GlobalRequest, answered: GlobalReply) -> None:
        """Always with an answer wanted of the target: only then is it known what it listens on."""

        def unwanted(body: bytes | None) -> bytes:
            answered(body)
            return b""

        reply = answered if request.want_reply else unwanted
        self._state.pass_on_global(request.name, request.body, reply)

    # Asked for by the target

    def open_from_target(self, asked: wire.ChannelOpen) -> None:
        """A channel that the target opens: only what the client has asked for, and the policy still allows."""
        state = self._state
        try:
            found = self._expected(asked)
        except ProtocolError as fault:
            self._refuse(asked, fault.message)
            return
        if found is None or asked.max_packet < MIN_PACKET_BYTES:
            self._refuse(asked, "not asked for" if found is None else "packets are too small")
            return
        shown, facts = found
        decision = None if state.judge is None else state.judge.review(facts)
        if decision is None or decision.effect is not Effect.ALLOW:
            if decision is not None:
                denied = decision
                state.actions.records.append(lambda tape: tape.judged(None, facts, denied))
            self._refuse(asked, "not allowed any more")
            return
        if len(state.channels) >= state.settings.max_channels:
            self._refuse(asked, "too many channels are open")
            return
        channel = state.new_channel(asked.kind, by_client=False)
        channel.target.asked(asked.sender, asked.window, asked.max_packet)
        number, kind = channel.number, channel.kind
        state.actions.records.append(lambda tape: tape.opened(number, kind, {"from": shown}))
        state.open_at_client(channel, asked.body)

    def _refuse(self, asked: wire.ChannelOpen, why: str) -> None:
        actions, kind = self._state.actions, asked.kind
        actions.to_target.append(wire.open_failure(asked.sender, _PROHIBITED, why, "en"))
        actions.records.append(lambda tape: tape.event("open refused", {"kind": kind, "reason": why}))

    def _expected(self, asked: wire.ChannelOpen) -> tuple[str, SshFacts] | None:
        """What the channel is about and as what it is judged, None when nobody asked for it."""
        requests = self._requests
        match asked.kind:
            case "forwarded-tcpip":
                tcp = ForwardedTcpip.parse(asked.body)
                facts = self._tcp.get((tcp.host, tcp.port))
                shown = f"{tcp.originator_host} to {tcp.host}:{tcp.port}"
                return None if facts is None else (shown, facts)
            case "forwarded-streamlocal@openssh.com":
                path = ForwardedStreamlocal.parse(asked.body).path
                facts = self._unix.get(path)
                return None if facts is None else (f"unix:{path}", facts)
            case "auth-agent@openssh.com":
                parse_empty(asked.body, asked.kind)
                return ("agent", SshFacts(SshOperation.AGENT)) if requests.allows_agent else None
            case "x11":
                X11Open.parse(asked.body)
                return ("display", SshFacts(SshOperation.X11)) if requests.allows_x11 else None
            case _:
                return None

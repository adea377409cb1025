"""What the parts of the SSH gate share: the channels, the actions under way, and the replies owed to global requests.

Owned by the gate; knows no policy. Must never do I/O.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from policy.decision import Decision
from policy.patterns import Glob
from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from protocols.ssh.requests import ExitStatus
from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.refusals import refusal_text
from proxyd.gates.ssh.actions import Actions
from proxyd.gates.ssh.channel import Channel, Stage
from proxyd.gates.ssh.judge import SshJudge
from proxyd.gates.ssh.screening import ChannelScreens
from proxyd.gates.ssh.windows import (
    LARGE_WINDOWS,
    MAX_PACKET_BYTES,
    SMALL_WINDOW_BYTES,
    STDERR,
    WINDOW_BYTES,
    End,
)

EXIT_REFUSED = 126
"""What shells give for a command that was found and not run."""
EXIT_UNREACHABLE = 255
"""What ssh gives when it cannot connect."""
MAX_ANSWERS_OWED = 256
MAX_TOLD = 20
"""Refusals on a channel that are explained on its stderr."""

KEEPALIVE = "keepalive@openssh.com"

OUTPUT = 1  # the tape's numbers of streams
ERRORS = 2

GlobalReply = Callable[[bytes | None], bytes]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What does not change in a session. `file_content_bytes`: of each transferred file, for the tape."""

    environment: tuple[Glob, ...] = ()
    max_channels: int = 100
    file_content_bytes: int = 0


class SshState:
    """One session. `judge` is None until a target is known."""

    def __init__(self, settings: GateSettings, judge: SshJudge | None) -> None:
        self.settings = settings
        self.contents = FileContents(settings.file_content_bytes)
        self.judge = judge
        self.actions = Actions()
        self.channels: dict[int, Channel] = {}
        self.takes_sessions = True
        self.is_openssh_target = False
        # Replies to the client's global requests in order: a payload, or what makes one of the target's answer.
        self._global_owed: deque[bytes | GlobalReply] = deque()
        # What the target has been asked, in order: True for the client, False for a keepalive of our own.
        self._expected: deque[bool] = deque()
        self._next_number = 0
        self.detected: Counter[str] = Counter()  # what detectors have found in this session, by kind

    # Channels

    def client_channel(self, number: int) -> Channel:
        """The channel that the client speaks of. Raises RemoteProtocolError when it cannot know of one."""
        channel = self._channel(number)
        if not channel.client.is_open:
            raise RemoteProtocolError(f"channel {number} is not open yet")
        return channel

    def target_channel(self, number: int) -> Channel:
        """The same for the target."""
        channel = self._channel(number)
        if not channel.target.is_open:
            raise RemoteProtocolError(f"channel {number} is not open yet")
        return channel

    def awaited(self, number: int, end: Callable[[Channel], End]) -> Channel:
        """The channel that a side has been asked to open and answers for. Raises RemoteProtocolError."""
        channel = self._channel(number)
        if not end(channel).is_awaited:
            raise RemoteProtocolError("an answer to a channel that was not asked for")
        return channel

    def _channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            raise RemoteProtocolError(f"there is no channel {number}")
        return channel

    def new_channel(self, kind: str, *, by_client: bool) -> Channel:
        number = self._next_number
        self._next_number += 1
        window = WINDOW_BYTES if len(self.channels) < LARGE_WINDOWS else SMALL_WINDOW_BYTES
        client, target = End(self.actions.to_client, window), End(self.actions.to_target, window)
        channel = self.channels[number] = Channel(number, kind, client, target, by_client=by_client)
        return channel

    def open_at_target(self, channel: Channel, body: bytes = b"") -> None:
        end = channel.target = End(self.actions.to_target, channel.client.window)
        self._open_at(end, channel, body)

    def open_at_client(self, channel: Channel, body: bytes) -> None:
        self._open_at(channel.client, channel, body)

    @staticmethod
    def _open_at(end: End, channel: Channel, body: bytes) -> None:
        end.is_awaited = True
        end.out.append(wire.channel_open(channel.kind, channel.number, end.window, MAX_PACKET_BYTES, body))

    def confirm_to_client(self, channel: Channel, body: bytes = b"") -> None:
        self._confirm(channel.client, channel.number, body)

    def confirm_to_target(self, channel: Channel, body: bytes = b"") -> None:
        self._confirm(channel.target, channel.number, body)

    @staticmethod
    def _confirm(end: End, number: int, body: bytes) -> None:
        end.is_open = True
        end.out.append(wire.open_confirmation(end.number, number, end.window, MAX_PACKET_BYTES, body))

    def refuse(self, channel: Channel, text: str, status: int = EXIT_REFUSED) -> None:
        """Say why on the channel's stderr and end it with a status. The connection stays as it is."""
        channel.stage = Stage.REFUSED
        channel.early.clear()
        self.say(channel, text)
        self.finish_for_client(channel, status)
        channel.target.close_now()

    def explain(self, channel: Channel, decision: Decision) -> None:
        """Say on stderr why something was refused for which the protocol's answer has no words, a few times."""
        if channel.told < MAX_TOLD:
            channel.told += 1
            self.say(channel, refusal_text(decision))

    def say(self, channel: Channel, text: str) -> None:
        """A line of the gateway's own on the channel's stderr."""
        if not channel.client.is_open or not channel.client.takes_data:
            return
        data = text.encode(errors="replace") + b"\r\n"
        number = channel.number
        self.actions.records.append(lambda tape: tape.output(number, ERRORS, data))
        channel.client.send(data, STDERR)

    def show(self, channel: Channel, code: int, data: bytes) -> None:
        """Output or errors of the target, on the tape and to the client as they are."""
        if not data:
            return
        number, stream = channel.number, ERRORS if code else OUTPUT
        if channel.client.takes_data:
            self.actions.records.append(lambda tape: tape.output(number, stream, data))
        channel.client.send(data, code)

    def show_held(self, channel: Channel) -> None:
        """What detectors hold back of the channel, because something follows that must not come before it."""
        screens = channel.screens
        if screens is not None and screens.has_held:
            for code, data in screens.flush():
                self.show(channel, code, data)
            self.tell_detected(channel, screens)

    def tick(self) -> None:
        """Some time has passed: show what has been held for long enough."""
        for channel in self.channels.values():
            screens = channel.screens
            if screens is not None:
                for code, data in screens.tick():
                    self.show(channel, code, data)
                self.tell_detected(channel, screens)

    def tell_detected(self, channel: Channel, screens: ChannelScreens) -> None:
        """Put on record how many values were found, never which."""
        news = screens.take_news()
        if news:
            self.detected.update(news)
            number = channel.number
            self.actions.records.append(
                lambda tape: tape.event("detected", {"channel": number, "kinds": news})
            )

    def finish_for_client(self, channel: Channel, status: int) -> None:
        client = channel.client
        if client.close_wanted:
            return
        channel.result["exit_status"] = status
        body = ExitStatus(status).encode()
        client.send_message(wire.channel_request(client.number, "exit-status", False, body))
        client.send_eof()
        client.send_close()

    def drop(self, channel: Channel) -> None:
        """It was not opened: nothing more will be said of it."""
        del self.channels[channel.number]
        self.record_end(channel)

    def forget_if_finished(self, channel: Channel) -> None:
        if not channel.is_finished or self.channels.pop(channel.number, None) is None:
            return
        self.record_end(channel)

    def record_end(self, channel: Channel) -> None:
        """What is left to say of a channel: what was held back, transfers that were under way, and how it ended."""
        self.show_held(channel)
        if channel.sftp is not None:
            self.record_files(channel, channel.sftp.finish())
        if channel.scp is not None:
            self.record_files(channel, channel.scp.finish())
        number, result = channel.number, channel.result
        self.actions.records.append(lambda tape: tape.closed(number, result))

    def record_files(self, channel: Channel, files: list[FileRecord]) -> None:
        number = channel.number
        for file in files:
            self.actions.records.append(lambda tape, file=file: tape.file(number, file))  # type: ignore[misc]

    # Global requests

    def answer_global(self, reply: bytes) -> None:
        """Answer the client's global request, in its turn (RFC 4254, 4: answers keep the order of the requests)."""
        self._owe(reply)
        self._settle_global()

    def pass_on_global(self, name: str, body: bytes, reply: GlobalReply) -> None:
        """Ask the target; `reply` makes the client's answer of the target's (None: a no), b"" for none."""
        self._owe(reply)
        self._expected.append(True)
        self.actions.to_target.append(wire.global_request(name, True, body))

    def ask_target(self) -> int:
        """A keepalive of our own; how many of them are unanswered."""
        self._expected.append(False)
        self.actions.to_target.append(wire.global_request(KEEPALIVE, True))
        return self._expected.count(False)

    def target_answered(self, body: bytes | None) -> None:
        """The target has answered the oldest global request it was sent."""
        if not self._expected:
            raise RemoteProtocolError("an answer to a request that was not made")
        if not self._expected.popleft():
            return
        reply = self._global_owed.popleft()
        if not isinstance(reply, bytes) and (payload := reply(body)):
            self.actions.to_client.append(payload)
        self._settle_global()

    def _owe(self, reply: bytes | GlobalReply) -> None:
        if len(self._global_owed) >= MAX_ANSWERS_OWED:
            raise RemoteProtocolError("too many requests without waiting for an answer")
        self._global_owed.append(reply)

    def _settle_global(self) -> None:
        while self._global_owed:
            reply = self._global_owed[0]
            if not isinstance(reply, bytes):
                return
            self._global_owed.popleft()
            self.actions.to_client.append(reply)

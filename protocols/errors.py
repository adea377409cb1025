"""What may go wrong between bytes and messages: one root and its few kinds.

Codecs raise nothing else, whatever the input. The caller maps a kind to an answer: a peer that broke the
protocol is told so and disconnected, a misuse of our own is a bug and ends the session.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """The conversation cannot go on as it is.

    `code` is the protocol's own code for it where one fits better than the protocol's general one
    (PostgreSQL: an SQLSTATE), else "". The message is written for the peer's eyes: it never quotes a payload.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids."""


class LocalProtocolError(ProtocolError):
    """We asked for what the protocol forbids, or called a codec out of turn."""


class LimitExceeded(RemoteProtocolError):
    """The peer sent more than the limit that is named in the message."""


class InvalidEncoding(RemoteProtocolError):
    """A text is not valid UTF-8. Framing is intact, so this one may be answered without closing."""

"""What goes wrong on the way to a target, in two texts: one for the client, one for the log.

Owns the choice of what a client may learn. The target's own words stay in the log, except where they only
repeat what the client itself has sent. Raised by `proxyd.upstream`, answered by the door, logged by the
session.
"""

from __future__ import annotations

import re

from protocols.postgres.messages import ErrorFields

CANNOT_CONNECT = "08001"
REJECTED = "08004"
CONNECTION_FAILURE = "08006"
PROTOCOL_VIOLATION = "08P01"
INVALID_AUTHORIZATION = "28000"
INVALID_CATALOG_NAME = "3D000"

MAX_REASON_CHARACTERS = 500

ASK_AN_OPERATOR = "An operator finds the reason in the gateway's log."

_AUTHENTICATION_STATES = frozenset({"28000", "28P01"})
# These complain of a value that the client itself asked for at startup.
_CLIENTS_OWN = frozenset({"22023", "42704", "22007", "22008"})


class UpstreamError(Exception):
    """The target cannot be had, or broke off.

    sqlstate, message and hint are for the client; reason is for the log. No secret is in any of them.
    """

    def __init__(self, sqlstate: str, message: str, reason: str, hint: str = ASK_AN_OPERATOR) -> None:
        super().__init__(f"{message} ({reason})")
        self.sqlstate = sqlstate
        self.message = message
        self.reason = reason
        self.hint = hint


class UpstreamQueryError(UpstreamError):
    """A statement of the gateway's own failed; the connection goes on."""


def unreachable(target: str, reason: str) -> UpstreamError:
    hint = "Try again later; an operator finds the reason in the gateway's log."
    return UpstreamError(CANNOT_CONNECT, f'target "{target}" cannot be reached', printable(reason), hint)


def not_trusted(target: str, reason: str) -> UpstreamError:
    """The target's TLS is not what the configuration demands."""
    message = f'the connection to target "{target}" could not be secured'
    return UpstreamError(CANNOT_CONNECT, message, printable(reason))


def not_authenticated(target: str, login: str, reason: str) -> UpstreamError:
    message = f'the gateway could not log in to target "{target}" as "{login}"'
    return UpstreamError(INVALID_AUTHORIZATION, message, printable(reason))


def broken_off(target: str, reason: str) -> UpstreamError:
    message = f'the connection to target "{target}" broke'
    return UpstreamError(CONNECTION_FAILURE, message, printable(reason))


def out_of_protocol(target: str, reason: str) -> UpstreamError:
    message = f'target "{target}" does not speak the PostgreSQL protocol as expected'
    return UpstreamError(PROTOCOL_VIOLATION, message, printable(reason))


def refused_startup(target: str, login: str, database: str, fields: ErrorFields) -> UpstreamError:
    """What to make of the target's ErrorResponse during startup."""
    sqlstate, text = sqlstate_of(fields), printable(fields.get("M") or "")
    reason = f"the target said {sqlstate}: {text}"
    if sqlstate in _AUTHENTICATION_STATES:
        return not_authenticated(target, login, reason)
    if sqlstate == INVALID_CATALOG_NAME:
        message = f'database "{database}" does not exist on target "{target}"'
        return UpstreamError(sqlstate, message, reason, "Check the database's name.")
    if sqlstate == "42501":
        message = f'login "{login}" may not connect to database "{database}" of target "{target}"'
        return UpstreamError(sqlstate, message, reason)
    if sqlstate == "53300":
        message = f'target "{target}" has no connection left'
        return UpstreamError(sqlstate, message, reason, "Try again later.")
    if sqlstate.startswith("57P"):
        message = f'target "{target}" is starting up or shutting down'
        return UpstreamError(sqlstate, message, reason, "Try again later.")
    if sqlstate in _CLIENTS_OWN:
        return UpstreamError(sqlstate, text, reason, "Correct the startup parameter.")
    return UpstreamError(sqlstate, f'target "{target}" refused the session', reason)


def failed_query(target: str, fields: ErrorFields) -> UpstreamQueryError:
    sqlstate = sqlstate_of(fields)
    reason = f"the target said {sqlstate}: {printable(fields.get('M') or '')}"
    return UpstreamQueryError(sqlstate, f'the gateway could not ask target "{target}"', reason)


def sqlstate_of(fields: ErrorFields) -> str:
    sqlstate = fields.get("C") or ""
    return sqlstate if re.fullmatch("[0-9A-Z]{5}", sqlstate) else REJECTED


def printable(text: str) -> str:
    """One line of bounded length: what a peer says must not draw in a terminal or grow a log."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= MAX_REASON_CHARACTERS else line[:MAX_REASON_CHARACTERS] + "..."

"""Errors that the gateway itself gives to a PostgreSQL client, and what it takes out of the target's own.

A denial is an ERROR, never FATAL: SQLSTATE 42501, the rule in DETAIL, the next step in HINT. Under masks an error or
notice of the target may carry a value (a cast echoes it, a constraint's DETAIL holds the whole row, RAISE says
anything), so its text is withheld unless its kind can only name what the client already knows.
"""

from __future__ import annotations

import msgspec

from policy.decision import Decision, Effect
from protocols.errors import RemoteProtocolError
from protocols.postgres.messages import (
    Backend,
    ErrorFields,
    ErrorResponse,
    Frame,
    decode_backend,
    error_response,
)

INSUFFICIENT_PRIVILEGE = "42501"
IN_FAILED_TRANSACTION = "25P02"


class Denial(msgspec.Struct, frozen=True):
    """Why an operation was refused, in PostgreSQL's terms. `position` is in characters, from 1.

    is_servers_answer: the target would refuse it too, and then fail the transaction; a denial by policy does not.
    """

    message: str
    detail: str = ""
    hint: str = ""
    sqlstate: str = INSUFFICIENT_PRIVILEGE
    position: int | None = None
    is_servers_answer: bool = False

    def encode(self) -> bytes:
        return error_response(
            "ERROR",
            self.sqlstate,
            self.message,
            detail=self.detail,
            hint=self.hint,
            position=self.position or 0,
        )


def as_told_by(target: ErrorFields, replacement: ErrorFields) -> ErrorFields:
    """`replacement`, with the place in the target's sources when the target failed by the same kind of error.

    That is so where the target would have refused the same: the gateway knows the words, the target its own file and
    line. In a failed transaction the target says so before anything else, and then nothing is replaced.
    """
    if target.get("C") == IN_FAILED_TRANSACTION:
        return target
    if replacement.get("C") != target.get("C"):
        return replacement
    return ErrorFields((*replacement.fields, *target.only("F", "L", "R").fields))


def in_words_of(frame: Frame, replacement: bytes) -> bytes:
    """The gateway's reason in place of the target's error. Raises RemoteProtocolError."""
    told = decode_backend(frame)
    meant = decode_backend(Frame(Backend.ERROR_RESPONSE, replacement))
    if not isinstance(told, ErrorResponse) or not isinstance(meant, ErrorResponse):
        raise RemoteProtocolError("malformed ErrorResponse")
    return ErrorResponse(as_told_by(told.fields, meant.fields)).encode()


def denial_of(decision: Decision) -> Denial:
    """The refusal that a DENY or HOLD decision becomes."""
    rules = [reason.rule for reason in decision.reasons if reason.rule]
    messages = list(dict.fromkeys(reason.message for reason in decision.reasons if reason.message))
    hints = list(dict.fromkeys(reason.hint for reason in decision.reasons if reason.hint))
    text = "; ".join(messages) or "no rule of the policy allows it"
    if decision.effect is Effect.HOLD:
        opening = "this operation needs an approval"
    else:
        opening = "refused by policy"
    named = "rule" if len(rules) == 1 else "rules"
    detail = (
        f"{named}: {', '.join(dict.fromkeys(rules))}"
        if rules
        else "rule: none (what no rule allows is denied)"
    )
    return Denial(
        message=f"proxyd: {opening}: {text}",
        detail=f"{detail}; policy version {decision.policy_version}",
        hint=" ".join(hints),
    )


# Classes whose message names objects, settings or states, never a value: syntax and access errors, transaction state,
# cancellations, resources, connection and feature errors.
_SAFE_CLASSES = frozenset(
    {"00", "01", "02", "08", "0A", "25", "28", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57"}
)
_SAFE_CODES = frozenset({"26000", "34000", "22012"})  # "division by zero" is all that the last one ever says
# ...except these, which quote data: an invalid column or name taken from data, a value in a partition bound.
_UNSAFE_CODES = frozenset({"42804", "42P22", "01004"})
_KEPT_ALWAYS = (
    "SVCsctdnFLRPp"  # severity, code, schema, column, table, type, constraint names; source place; position
)
_RAISED_BY_CODE = frozenset(
    {"exec_stmt_raise", "exec_stmt_assert", "PLy_output", "do_util_elog", "pltcl_elog"}
)


# What the server says of its own state, whatever the statement computes. The other safe classes name objects, and a
# statement that may look at masked columns can have taken such a name from a value ('...'::regclass, to_tsquery): there
# the text stays only with a position in the statement, which the server gives when it reads it and not when it runs it.
_STATE_CLASSES = frozenset({"02", "08", "25", "28", "34", "3B", "40", "53", "55", "57"})
_STATE_CODES = frozenset({"26000", "34000", "42501", "22012"})


def withhold_values(fields: ErrorFields, *, may_hold_values: bool = True) -> ErrorFields:
    """The fields of an error or notice as a session under masks may see them.

    SQLSTATE, severity, the names of constraint, table, column and type, and the position stay. Message, DETAIL and HINT
    stay only where they cannot carry a value; CONTEXT (W) and the internal query (q) never do. may_hold_values: the
    statement touches a relation with a masked column, or it is not known which statement it is.
    """
    code = fields.get("C") or ""
    raised = (fields.get("R") or "") in _RAISED_BY_CODE or fields.get("W") is not None
    known = (code[:2] in _SAFE_CLASSES or code in _SAFE_CODES) and code not in _UNSAFE_CODES
    if known and not raised:
        if not may_hold_values or fields.get("P") is not None:
            return fields.without("W", "q")
        if code[:2] in _STATE_CLASSES or code in _STATE_CODES:
            return fields.without("W", "q", "D")
    constraint = fields.get("n")
    message = f'violates constraint "{constraint}"' if constraint else f"the target reported SQLSTATE {code}"
    message += " (text withheld by proxyd: it could carry a masked value)"
    return fields.only(*_KEPT_ALWAYS).replaced("M", message)

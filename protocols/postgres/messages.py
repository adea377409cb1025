"""Every message after startup, in one place to import from, and short-hands for those the gateway builds
itself.

See `frontend_messages` and `backend_messages` for the classes and their decoders.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from protocols.postgres.backend_messages import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    AuthenticationUnsupported,
    BackendKeyData,
    BackendMessage,
    CommandComplete,
    CopyResponse,
    ErrorFields,
    ErrorResponse,
    FieldDescription,
    FunctionCallResponse,
    Marker,
    NegotiateProtocolVersion,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
    decode_backend,
)
from protocols.postgres.codec import Frame, frame
from protocols.postgres.frontend_messages import (
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FrontendMessage,
    FunctionCall,
    Parse,
    PasswordMessage,
    Query,
    SaslInitialResponse,
    Sync,
    Terminate,
    decode_frontend,
    read_password,
    read_sasl_initial_response,
    read_sasl_response,
    truncate_name,
)
from protocols.postgres.message_types import Backend, Frontend

PARSE_COMPLETE = frame(Backend.PARSE_COMPLETE, b"")
BIND_COMPLETE = frame(Backend.BIND_COMPLETE, b"")
CLOSE_COMPLETE = frame(Backend.CLOSE_COMPLETE, b"")
NO_DATA = frame(Backend.NO_DATA, b"")
EMPTY_QUERY_RESPONSE = frame(Backend.EMPTY_QUERY_RESPONSE, b"")
PORTAL_SUSPENDED = frame(Backend.PORTAL_SUSPENDED, b"")
COPY_DONE = frame(Backend.COPY_DONE, b"")  # the same bytes in both directions
SYNC = frame(Frontend.SYNC, b"")
FLUSH = frame(Frontend.FLUSH, b"")
TERMINATE = frame(Frontend.TERMINATE, b"")


def error_fields(
    severity: str,
    sqlstate: str,
    message: str,
    *,
    detail: str = "",
    hint: str = "",
    position: int = 0,
    where: str = "",
) -> ErrorFields:
    """Fields of an error or notice of our own. `position` counts characters of the query from 1; 0 leaves it
    out.

    NULs are dropped from the texts: an error must reach the client whatever it quotes.
    """
    texts = [("S", severity), ("V", severity), ("C", sqlstate), ("M", message)]
    optional = [("D", detail), ("H", hint), ("P", str(position) if position else ""), ("W", where)]
    texts += [(code, text) for code, text in optional if text]
    return ErrorFields(
        tuple((code, text.encode(errors="replace").replace(b"\0", b"")) for code, text in texts)
    )


def error_response(
    severity: str,
    sqlstate: str,
    message: str,
    *,
    detail: str = "",
    hint: str = "",
    position: int = 0,
    where: str = "",
) -> bytes:
    """An ErrorResponse. `severity`: ERROR leaves the session usable, FATAL announces its end."""
    fields = error_fields(
        severity, sqlstate, message, detail=detail, hint=hint, position=position, where=where
    )
    return ErrorResponse(fields).encode()


def notice(severity: str, sqlstate: str, message: str, *, detail: str = "", hint: str = "") -> bytes:
    """A NoticeResponse. `severity`: WARNING, NOTICE, INFO, LOG or DEBUG."""
    return NoticeResponse(error_fields(severity, sqlstate, message, detail=detail, hint=hint)).encode()


def authentication_ok() -> bytes:
    return AuthenticationOk().encode()


def authentication_cleartext_password() -> bytes:
    return AuthenticationCleartextPassword().encode()


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    return AuthenticationSASL(tuple(mechanisms)).encode()


def parameter_status(name: str, value: str) -> bytes:
    return ParameterStatus(name, value).encode()


def backend_key_data(process_id: int, secret_key: bytes) -> bytes:
    return BackendKeyData(process_id, secret_key).encode()


def negotiate_protocol_version(minor: int, unsupported_options: Sequence[str]) -> bytes:
    """Tells the client that we speak at most 3.`minor` and which `_pq_.` options are ignored."""
    return NegotiateProtocolVersion(3 << 16 | minor, tuple(unsupported_options)).encode()


def ready_for_query(status: str) -> bytes:
    return ReadyForQuery(status).encode()


def row_description(fields: Iterable[FieldDescription]) -> bytes:
    return RowDescription(tuple(fields)).encode()


def data_row(values: Sequence[bytes | None]) -> bytes:
    """One DataRow; None is NULL."""
    parts = [b"\xff\xff\xff\xff" if v is None else len(v).to_bytes(4) + v for v in values]
    return frame(Backend.DATA_ROW, struct.pack(">H", len(parts)) + b"".join(parts))


def command_complete(tag: str) -> bytes:
    return CommandComplete(tag).encode()


__all__ = [
    "BIND_COMPLETE",
    "CLOSE_COMPLETE",
    "COPY_DONE",
    "EMPTY_QUERY_RESPONSE",
    "FLUSH",
    "NO_DATA",
    "PARSE_COMPLETE",
    "PORTAL_SUSPENDED",
    "SYNC",
    "TERMINATE",
    "AuthenticationCleartextPassword",
    "AuthenticationMD5Password",
    "AuthenticationOk",
    "AuthenticationSASL",
    "AuthenticationSASLContinue",
    "AuthenticationSASLFinal",
    "AuthenticationUnsupported",
    "Backend",
    "BackendKeyData",
    "BackendMessage",
    "Bind",
    "Close",
    "CommandComplete",
    "CopyData",
    "CopyDone",
    "CopyFail",
    "CopyResponse",
    "Describe",
    "ErrorFields",
    "ErrorResponse",
    "Execute",
    "FieldDescription",
    "Flush",
    "Frame",
    "Frontend",
    "FrontendMessage",
    "FunctionCall",
    "FunctionCallResponse",
    "Marker",
    "NegotiateProtocolVersion",
    "NoticeResponse",
    "NotificationResponse",
    "ParameterDescription",
    "ParameterStatus",
    "Parse",
    "PasswordMessage",
    "Query",
    "ReadyForQuery",
    "RowDescription",
    "SaslInitialResponse",
    "Sync",
    "Terminate",
    "authentication_cleartext_password",
    "authentication_ok",
    "authentication_sasl",
    "backend_key_data",
    "command_complete",
    "data_row",
    "decode_backend",
    "decode_frontend",
    "error_fields",
    "error_response",
    "frame",
    "negotiate_protocol_version",
    "notice",
    "parameter_status",
    "read_password",
    "read_sasl_initial_response",
    "read_sasl_response",
    "ready_for_query",
    "row_description",
    "truncate_name",
]

"""Detectors over what the target answers in one PostgreSQL session: the glue between the ledger and the rewriters.

Decides by which description the rows of a result are taken apart, and what of an error, a notice or a notification is
shown. Called by the replies side of the gate; no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import RemoteProtocolError
from protocols.postgres.messages import Backend, ErrorFields, Frame, RowDescription, decode_backend
from proxyd.gates.postgres.detecting.copies import CopyDetection
from proxyd.gates.postgres.detecting.rows import RowDetection
from proxyd.gates.postgres.detecting.values import ValueDetection
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.results import Plan, formats_of

MAX_RESULTS = 256
"""Shapes of results that are remembered; a session asks for the same ones again and again."""
# Fields of an error or notice that are texts: message, detail, hint, context, internal query.
_TEXT_FIELDS = frozenset("MDHWq")


def row_detection(
    values: ValueDetection, raw: bytes, plan: Plan | None, formats: Sequence[int] | None = None
) -> RowDetection:
    """For the rows that the RowDescription `raw` announces.

    plan: of the column masks, whose columns are left alone. formats: as Bind asked for them; None: as `raw` says.
    """
    skipped = () if plan is None else tuple(column.position for column in plan.columns)
    asked = None if formats is None else tuple(formats)
    key = (raw, asked, skipped)
    known = values.results.get(key)
    if isinstance(known, RowDetection):
        return known
    made = _row_detection(values, raw, skipped, asked)
    if len(values.results) >= MAX_RESULTS:
        values.results.clear()
    values.results[key] = made
    return made


def _row_detection(
    values: ValueDetection, raw: bytes, skipped: tuple[int, ...], formats: tuple[int, ...] | None
) -> RowDetection:
    description = decode_backend(Frame(Backend.ROW_DESCRIPTION, raw))
    if not isinstance(description, RowDescription):
        raise RemoteProtocolError("malformed RowDescription")
    fields = description.fields
    used = tuple(field.format for field in fields) if formats is None else formats_of(formats, len(fields))
    if used is None:
        raise RemoteProtocolError("result formats do not fit the columns")
    return RowDetection(values, fields, used, skipped)


def detection_of(operation: Operation, values: ValueDetection) -> RowDetection:
    """For the rows that answer `operation`: from its own RowDescription, or that of the portal it executes."""
    if isinstance(operation.detection, RowDetection):
        return operation.detection
    portal = operation.portal
    if isinstance(operation.detection, CopyDetection):
        raise RemoteProtocolError("rows among COPY data")
    if portal is None:
        if operation.description is None:
            raise RemoteProtocolError("rows came before their description")
        operation.detection = row_detection(values, operation.description, operation.plan)
        return operation.detection
    if portal.detection is None or portal.detection.values is not values:
        raw = portal.description or portal.prepared.description
        if not raw:
            raise RemoteProtocolError("rows came for a statement that returns none")
        portal.detection = row_detection(values, raw, operation.plan, portal.result_formats)
    operation.detection = portal.detection
    return portal.detection


def detected_fields(fields: ErrorFields, values: ValueDetection) -> ErrorFields:
    """An error or notice with what was found in its texts replaced."""
    return ErrorFields(
        tuple((code, values.text(text) if code in _TEXT_FIELDS else text) for code, text in fields.fields)
    )

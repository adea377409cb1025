"""How the rows of one result leave: untouched, with columns rewritten, or not at all.

A plan is made from the target's own RowDescription (table OID and column number of each column, resolved in the
catalog snapshot) and cross-checked with what the SQL analysis proved about the statement. Either of them alone can
demand a mask; what neither can explain is refused. Called by the gate; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

import msgspec

from policy.evaluate import MaskSet
from policy.facts import Output, SqlFacts
from policy.masking import KINDS, Mask, MaskingError
from policy.sql.catalog import Catalog
from protocols.errors import ProtocolError
from protocols.postgres.messages import FieldDescription
from protocols.postgres.rows import Constant, RowRewriter
from protocols.postgres.values import (
    ARRAY_ELEMENTS,
    TYPE_KINDS,
    UnsupportedType,
    binary_from_text,
    map_array_text,
    text_from_binary,
)
from proxyd.gates.postgres.denials import Denial

Rewrite = Callable[[bytes | None], bytes | None]


class Outcome(Enum):
    PASS = auto()
    REWRITE = auto()
    REFUSE = auto()
    STALE = auto()  # a column's table is not in the snapshot: read the catalog again, then decide


class MaskedColumn(msgspec.Struct, frozen=True):
    """An output column that must be rewritten. `limit`: characters that varchar(n)/char(n) allows, else None."""

    position: int
    mask: Mask
    type_oid: int
    limit: int | None


class Plan(msgspec.Struct, frozen=True):
    outcome: Outcome
    column_count: int = 0
    columns: tuple[MaskedColumn, ...] = ()
    formats: tuple[int, ...] = ()  # as RowDescription gives them
    denial: Denial | None = None


PASS = Plan(Outcome.PASS)
STALE = Plan(Outcome.STALE)

_VARCHAR_OIDS = frozenset({1042, 1043, 1014, 1015})
_TYPE_MODIFIER_HEADER = 4


def refuse(why: str) -> Plan:
    return Plan(
        Outcome.REFUSE,
        denial=Denial(
            message=f"proxyd: result withheld: {why}",
            detail="The gateway passes a column on only when it can tell where its value comes from.",
            hint="Select plain columns of tables, leave the masked column out, or ask for access without the mask.",
        ),
    )


def length_limit(type_oid: int, type_modifier: int) -> int | None:
    """The characters that varchar(n) or char(n) allows; None for no limit."""
    if type_oid in _VARCHAR_OIDS and type_modifier >= _TYPE_MODIFIER_HEADER:
        return type_modifier - _TYPE_MODIFIER_HEADER
    return None


def plan_result(
    fields: Sequence[FieldDescription],
    facts: SqlFacts | None,
    obligations: Sequence[tuple[int, Mask]],
    masks: MaskSet,
    catalog: Catalog,
    touches_masked: bool,
    *,
    is_fresh: bool = False,
) -> Plan:
    """Decide over one RowDescription.

    facts: of the statement whose result this is (None when it is not known: then only plain columns pass).
    obligations: (position, mask) that the decision carries. touches_masked: it reads a relation with a masked
    column, so that a computed column must have been proved harmless. is_fresh: the snapshot has just been verified.
    """
    outputs = facts.outputs if facts is not None else None
    if touches_masked and (outputs is None or len(outputs) != len(fields)):
        return refuse("its columns are not the ones that were judged")
    wanted = dict(obligations)
    columns: list[MaskedColumn] = []
    for position, field in enumerate(fields):
        mask = wanted.get(position)
        if field.table_oid:
            if field.column_number == 0:
                relation = catalog.relation_by_oid(field.table_oid)
                if relation is None:
                    return STALE
                if any(masks.for_column(column.names) is not None for column in relation.columns):
                    return refuse(f'column "{field.name}" is a whole row with a masked column in it')
            elif field.column_number > 0:
                names = catalog.identities(field.table_oid, field.column_number)
                if names is None:
                    if is_fresh and _is_temporary(outputs, position):
                        continue
                    return STALE
                mask = masks.for_column(names) or mask
                derived = catalog.derived_from(field.table_oid, field.column_number)
                if derived is None or masks.for_column(derived) is not None:
                    return refuse(f'column "{field.name}" is computed from a masked column')
        elif mask is None and touches_masked:
            output = outputs[position] if outputs is not None else None
            if (
                output is None
                or not output.known
                or masks.for_column((*output.derived, *output.also)) is not None
            ):
                return refuse(f'column "{field.name}" may be computed from a masked column')
        if mask is not None:
            columns.append(
                MaskedColumn(
                    position, mask, field.type_oid, length_limit(field.type_oid, field.type_modifier)
                )
            )
    if not columns:
        return PASS
    refused = _unmaskable(fields, columns)
    if refused is not None:
        return refused
    return Plan(Outcome.REWRITE, len(fields), tuple(columns), tuple(field.format for field in fields))


def _is_temporary(outputs: Sequence[Output] | None, position: int) -> bool:
    """Is it proved to be a column of the session's own temporary table? No snapshot can know those."""
    if outputs is None or position >= len(outputs):
        return False
    output = outputs[position]
    return (
        output.known and output.source is not None and output.source.schema == "pg_temp" and not output.also
    )


def is_maskable(mask: Mask, type_oid: int) -> bool:
    """Can values of this type be rewritten with the type kept? NULL fits every type."""
    return mask.is_null or TYPE_KINDS.get(ARRAY_ELEMENTS.get(type_oid, type_oid)) in KINDS


def _unmaskable(fields: Sequence[FieldDescription], columns: Sequence[MaskedColumn]) -> Plan | None:
    for column in columns:
        if not is_maskable(column.mask, column.type_oid):
            return refuse(
                f'column "{fields[column.position].name}" is masked by "{column.mask.name}" '
                f"and values of its type (OID {column.type_oid}) cannot be rewritten"
            )
    return None


def formats_of(codes: Sequence[int], column_count: int) -> tuple[int, ...] | None:
    """The format of each column from Bind's result format codes, None when their number does not fit."""
    if not codes:
        return (0,) * column_count
    if len(codes) == 1:
        return (codes[0],) * column_count
    return tuple(codes) if len(codes) == column_count else None


def row_rewriter(plan: Plan, formats: Sequence[int]) -> RowRewriter:
    """Rewrites DataRows by a REWRITE plan in the given formats (0 text, 1 binary, one a column)."""
    columns = {column.position: column_rewriter(column, formats[column.position]) for column in plan.columns}
    return RowRewriter(columns, plan.column_count)


def column_rewriter(column: MaskedColumn, format_code: int) -> Rewrite:
    """Bytes in, bytes out, type kept. The function raises one of VALUE_FAULTS on what it cannot take apart."""
    mask, type_oid, limit = column.mask, column.type_oid, column.limit
    if mask.is_null:
        return Constant(None)
    element = ARRAY_ELEMENTS.get(type_oid)
    kind = TYPE_KINDS[element or type_oid]
    if element is None and mask.is_constant:
        stand_in = mask.apply("", kind, limit) or ""
        return Constant(binary_from_text(type_oid, stand_in) if format_code else stand_in.encode())
    if element is None and kind == "text":
        return _text_rewriter(mask, limit)  # both formats are the text itself

    is_canonical = not mask.is_pseudonym or kind not in _DEPENDS_ON_SETTINGS

    def rewrite_text(text: str) -> str | None:
        if element is None:
            return mask.apply(text if is_canonical else _canonical(type_oid, text), kind, limit)
        return map_array_text(text, lambda item: mask.apply(item, kind, limit))

    def rewrite(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        masked = rewrite_text(text_from_binary(type_oid, value) if format_code else value.decode())
        if masked is None:
            return None
        return binary_from_text(type_oid, masked) if format_code else masked.encode()

    return rewrite


# What the server writes of these depends on DateStyle, TimeZone and bytea_output, and a token must not.
_DEPENDS_ON_SETTINGS = frozenset({"date", "time", "timetz", "timestamp", "timestamptz", "bytea"})


def _canonical(type_oid: int, text: str) -> str:
    """The one way to write the value of `text`: that of the binary format. Raises ValueError for what is not ISO."""
    try:
        return text_from_binary(type_oid, binary_from_text(type_oid, text))
    except ProtocolError as fault:
        raise ValueError("not the text that ISO settings give") from fault


def _text_rewriter(mask: Mask, limit: int | None) -> Rewrite:
    function = mask.text_function(limit)
    ascii_function = mask.ascii_function(limit)

    def rewrite(value: bytes | None) -> bytes | None:
        if value is None:
            return None
        masked = function(value.decode())
        return None if masked is None else masked.encode()

    if ascii_function is None:
        return rewrite
    quick = ascii_function

    def rewrite_ascii(value: bytes | None) -> bytes | None:
        return quick(value) if value is not None and value.isascii() else rewrite(value)

    return rewrite_ascii


VALUE_FAULTS = (UnsupportedType, MaskingError, ValueError)

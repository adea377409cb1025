"""COPY TO STDOUT under masks: which fields of the data are rewritten, by the shape that was judged.

COPY has no RowDescription, so the columns come from the analysis alone; where it could not prove them, the data is
refused. No I/O.
"""

from __future__ import annotations

import struct
from typing import Literal

from policy.facts import Output
from policy.sql.catalog import Catalog
from policy.sql.snapshot import Column
from policy.sql.state import CopyShape
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.postgres.copy import CopyOptions, CopyRewriter
from protocols.postgres.messages import Backend, CopyResponse
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.judge import JudgedStatement
from proxyd.gates.postgres.results import MaskedColumn, Rewrite, column_rewriter, is_maskable, length_limit

_header = struct.Struct(">BI").unpack_from
_pack_header = struct.Struct(">BI").pack
_HEADER_BYTES = 5


def copy_rewriter(
    statement: JudgedStatement | None, response: CopyResponse, catalog: Catalog
) -> CopyRewriter | Denial | None:
    """How the data that follows leaves: None untouched, rewritten, or refused."""
    if statement is None:
        return refused_copy("the gateway does not know which statement it belongs to")
    if not statement.touches_masked:
        return None
    shape = statement.effect.copies
    if shape is None or shape.columns is None or any(not output.known for output in shape.columns):
        return refused_copy("its columns could not be proved")
    if len(response.column_formats) != len(shape.columns):
        return refused_copy("its columns are not the ones that were judged")
    if not statement.obligations:
        return None
    if not is_takeable(shape, response):
        return refused_copy("its format is not one that can be taken apart")
    columns: dict[int, Rewrite] = {}
    for position, mask in statement.obligations:
        output = shape.columns[position]
        column = _source_of(output, catalog)
        type_oid = type_of(output, catalog)
        if column is None or type_oid is None or not is_maskable(mask, type_oid):
            return refused_copy(f'column "{output.name}" has a type that mask "{mask.name}" cannot rewrite')
        limit = length_limit(type_oid, column.type_modifier)
        columns[position] = column_rewriter(MaskedColumn(position, mask, type_oid, limit), response.format)
    try:
        return CopyRewriter(copy_options(shape), columns, len(shape.columns))
    except (LocalProtocolError, ValueError) as fault:
        return refused_copy(str(fault))


def is_takeable(shape: CopyShape, response: CopyResponse) -> bool:
    """Is the data in the format that the statement says, and in one that a CopyRewriter knows?"""
    is_judged_format = response.format == (1 if shape.format == "binary" else 0)
    return is_judged_format and not shape.encoding and shape.default is None


def type_of(output: Output, catalog: Catalog) -> int | None:
    """The type of a column that is copied, domains resolved; None where it is not known."""
    column = _source_of(output, catalog)
    return None if column is None else _base_type(column.type_oid, catalog)


def _source_of(output: Output, catalog: Catalog) -> Column | None:
    """The column whose value leaves here."""
    if output.source is None:
        return None
    relation = catalog.relation(output.source.schema, output.source.relation)
    return relation.by_name.get(output.source.column) if relation is not None else None


def _base_type(type_oid: int, catalog: Catalog) -> int:
    """Domains resolved."""
    known = catalog.type_by_oid(type_oid)
    return known.base_oid if known is not None and known.base_oid else type_oid


def copy_options(shape: CopyShape) -> CopyOptions:
    """Raises ValueError when an option is not one that CopyRewriter can hold."""
    force_quote: frozenset[int] | Literal["*"] = "*"
    if shape.force_quote != ("*",):
        names = [output.name for output in shape.columns or ()]
        force_quote = frozenset(names.index(name) for name in shape.force_quote)
    match shape.format:
        case "text":
            return CopyOptions("text", shape.delimiter.encode(), shape.null.encode(), shape.header)
        case "csv":
            return CopyOptions(
                "csv",
                shape.delimiter.encode(),
                shape.null.encode(),
                shape.header,
                shape.quote.encode(),
                shape.escape.encode(),
                force_quote,
            )
        case "binary":
            return CopyOptions("binary")
        case other:
            raise ValueError(f"COPY format {other} is not known")


def refused_copy(why: str) -> Denial:
    return Denial(
        message=f"proxyd: COPY data withheld: {why}",
        detail="rule: built-in: masks",
        hint="Name the columns to copy and leave masked ones out, or SELECT them instead.",
    )


def rewrite_copy_run(run: bytes, rewriter: CopyRewriter) -> bytes:
    """The CopyData messages of `run` with their rows rewritten. Raises RemoteProtocolError."""
    out: list[bytes] = []
    position = 0
    end = len(run)
    while position < end:
        kind, length = _header(run, position)
        stop = position + 1 + length
        if kind != Backend.COPY_DATA or stop > end:
            raise RemoteProtocolError("malformed COPY data")
        payload = rewriter.feed(run[position + _HEADER_BYTES : stop])
        if payload:
            out.append(_pack_header(Backend.COPY_DATA, len(payload) + 4))
            out.append(payload)
        position = stop
    return b"".join(out)

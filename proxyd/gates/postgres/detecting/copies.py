"""COPY TO STDOUT through detectors: every column of the data, by the shape that was judged.

COPY has no RowDescription: the types come from the analysis, and a column whose source is not known is read as what it
looks like. Data in a format that cannot be taken apart is refused. Called by the replies side of the
gate; no I/O.
"""

from __future__ import annotations

from policy.sql.catalog import Catalog
from policy.sql.state import CopyShape
from protocols.errors import LocalProtocolError
from protocols.postgres.copy import CopyRewriter
from protocols.postgres.messages import CopyResponse
from proxyd.gates.postgres.copying import copy_options, is_takeable, refused_copy, rewrite_copy_run, type_of
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.detecting.values import Rewrite, ValueDetection
from proxyd.gates.postgres.judge import JudgedStatement

_UNKNOWN = 0


class CopyDetection:
    """Rewrites the data of one COPY. Whole rows of text in which nothing can be are passed on as they are."""

    __slots__ = ("_has_begun", "_has_escapes", "_is_plain", "_rewriter", "_values")

    def __init__(
        self, rewriter: CopyRewriter, values: ValueDetection, *, is_plain: bool, has_escapes: bool
    ) -> None:
        self._rewriter = rewriter
        self._values = values
        self._is_plain = is_plain
        self._has_escapes = has_escapes
        self._has_begun = False  # the first row may be a header, which only the rewriter knows

    def rewrite(self, run: bytes) -> bytes:
        """The CopyData messages of `run`. Raises ProtocolError and VALUE_FAULTS."""
        if self._has_begun and self._is_clean(run):
            return run
        self._has_begun = True
        return rewrite_copy_run(run, self._rewriter)

    def _is_clean(self, run: bytes) -> bool:
        return (
            self._is_plain
            and not self._rewriter.buffered_bytes
            and run.endswith(b"\n")
            and not (self._has_escapes and b"\\" in run)
            and not self._values.detection.may_match_inside(run)
        )


def copy_detection(
    statement: JudgedStatement | None, response: CopyResponse, catalog: Catalog, values: ValueDetection
) -> CopyDetection | Denial | None:
    """How the data that follows leaves: rewritten, untouched (None) or refused."""
    shape = None if statement is None else statement.effect.copies
    if statement is None or shape is None:
        return refused_copy("the gateway does not know which statement it belongs to")
    if not is_takeable(shape, response):
        return refused_copy("its format is not one that can be taken apart")
    types = _types(shape, response, catalog)
    masked = {position for position, _ in statement.obligations}
    rewriters: dict[int, Rewrite] = {}
    for position, type_oid in enumerate(types):
        rewrite = None if position in masked else values.rewriter(type_oid, response.format)
        if rewrite is not None:
            rewriters[position] = rewrite
    if not rewriters:
        return None
    try:
        rewriter = CopyRewriter(copy_options(shape), rewriters, len(types))
    except (LocalProtocolError, ValueError) as fault:
        return refused_copy(str(fault))
    is_blind = any(values.is_blind(types[position], response.format) for position in rewriters)
    has_escapes = any(values.has_escapes(types[position]) for position in rewriters)
    is_plain = response.format == 0 and not is_blind
    return CopyDetection(rewriter, values, is_plain=is_plain, has_escapes=has_escapes)


def _types(shape: CopyShape, response: CopyResponse, catalog: Catalog) -> list[int]:
    count = len(response.column_formats)
    columns = shape.columns if shape.columns is not None and len(shape.columns) == count else ()
    if not columns:
        return [_UNKNOWN] * count
    return [type_of(column, catalog) or _UNKNOWN for column in columns]

"""The door of the SQL analysis: a text, a catalog snapshot and a session's state to facts for every statement.

Pure. Every text that the parser does not take, or that holds anything without a rule, is refused.
"""

from __future__ import annotations

import msgspec

from policy.facts import SqlFacts
from policy.sql.parse import RawStatement, nested_too_deeply, parse
from policy.sql.refusal import SqlRefused, unknown_construct
from policy.sql.skeleton import integer_offsets
from policy.sql.snapshot import Catalog
from policy.sql.state import NO_EFFECT, SessionEffect, SessionState, TransactionControl, apply
from policy.sql.statements import Statements


class Statement(msgspec.Struct, frozen=True):
    """One statement of a text.

    is_skeleton_safe: every plain integer in the whole text stands where its value cannot change the facts, so
    that a text with the same `skeleton.skeleton` has the same facts.
    """

    facts: SqlFacts
    text: str
    effect: SessionEffect = NO_EFFECT
    is_skeleton_safe: bool = False


def analyze(text: str, catalog: Catalog, state: SessionState) -> tuple[Statement, ...]:
    """The statements of `text` in order, later ones seen as the earlier ones leave the session. () when empty.

    Raises SqlRefused, with the server's own words where it would refuse the text itself.
    """
    raw = parse(text)
    offsets = integer_offsets(text)
    found: list[Statement] = []
    safe: set[int] = set()
    moved_path = False
    for statement in raw:
        facts, effect, integers = _one(statement, catalog, state)
        safe |= integers
        found.append(Statement(facts, statement.text, effect))
        state = apply(state, effect)
        moved_path = moved_path or effect.changes_search_path
        if moved_path and effect.transaction in _MAY_RESTORE:
            state = msgspec.structs.replace(state, search_path=None)
    if offsets is not None and offsets <= _token_offsets(text, safe):
        return tuple(Statement(one.facts, one.text, one.effect, is_skeleton_safe=True) for one in found)
    return tuple(found)


# The end of a transaction takes a SET LOCAL back, its rollback every SET.
_MAY_RESTORE = frozenset(
    {
        TransactionControl.COMMIT,
        TransactionControl.ROLLBACK,
        TransactionControl.ROLLBACK_TO,
        TransactionControl.PREPARE,
    }
)


def _one(
    raw: RawStatement, catalog: Catalog, state: SessionState
) -> tuple[SqlFacts, SessionEffect, set[int]]:
    walk = Statements(catalog, state)
    try:
        facts, effect = walk.run(raw.kind, raw.node, raw.text)
    except RecursionError as error:
        raise nested_too_deeply() from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # The tree is not of the shape that the tables expect: nothing is guessed from it.
        raise unknown_construct(f"the shape of a part of {raw.kind}") from error
    return facts, effect, walk.safe_integers


def _token_offsets(text: str, locations: set[int]) -> set[int]:
    """Where the digits of constants start; the location of a negative one is that of its sign."""
    offsets = set()
    for location in locations:
        end = location
        if text[end : end + 1] == "-":
            end += 1
            while text[end : end + 1].isspace():
                end += 1
        offsets.add(end)
    return offsets


__all__ = ["SqlRefused", "Statement", "analyze"]

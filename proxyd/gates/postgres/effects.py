"""What a text changes in its session: expected once it has been forwarded, true once the target has answered.

Names made by SQL (PREPARE, DECLARE) and by the protocol are in one ledger each, so both sides of the gate call this.
No I/O.
"""

from __future__ import annotations

from policy.facts import SqlFacts
from policy.sql import state as sql
from policy.sql.state import NO_EFFECT
from proxyd.gates.postgres.judge import Verdict
from proxyd.gates.postgres.ledger import Operation, Portal, Prepared
from proxyd.gates.postgres.names import Names
from proxyd.gates.postgres.state import State


def expect_effects(state: State, verdict: Verdict, operation: Operation) -> None:
    """The text is being forwarded as `operation`."""
    if verdict.changes_names:
        operation.holds_names = True
        state.prepared.hold_uncertain()
        state.portals.hold_uncertain()
    if verdict.copies_in:
        state.awaits_copy = True
    if verdict.changes_catalog:
        state.changed_catalog = True
    if verdict.effects:
        state.foresee(verdict.effects)


def apply_effect(state: State, operation: Operation) -> None:
    """One statement of the text is done, and with it what it changes."""
    verdict = operation.verdict
    if verdict is None or operation.index >= len(verdict.statements):
        return
    effect = verdict.statements[operation.index].effect
    if effect is NO_EFFECT:
        return
    if effect.discards == "all":
        state.prepared.clear()
        state.portals.clear()
    if effect.deallocates is not None:
        _forget(state.prepared, effect.deallocates)
    if effect.closes is not None:
        _forget(state.portals, effect.closes)
    if effect.prepares is not None:
        name, known = effect.prepares
        state.prepared.settle(name, _prepared_by_name(name, known))
    if effect.declares_cursor is not None:
        name, facts = effect.declares_cursor
        state.portals.settle(name, _cursor_by_name(name, facts))
    if len(verdict.statements) > 1:
        return  # what a later statement of the text does to the path is not followed
    if effect.resets_search_path or effect.discards == "all":
        operation.new_path = state.session.search_path
    elif effect.changes_search_path:
        operation.new_path = None if effect.is_local else effect.search_path


def end_effects(state: State, operation: Operation) -> None:
    """The text is done, whatever became of it: names are certain again."""
    verdict = operation.verdict
    if verdict is None:
        return
    if verdict.changes_names and operation.holds_names:
        operation.holds_names = False
        state.prepared.release_uncertain()
        state.portals.release_uncertain()
    if verdict.copies_in:
        state.awaits_copy = False
        state.copies_in = False


def end_transaction(state: State) -> None:
    """The transaction has ended and its portals with it. A cursor may have been declared WITH HOLD."""
    portals = state.portals
    if portals.confirmed:
        for name in [name for name, portal in portals.confirmed.items() if not portal.is_held]:
            portals.settle(name, None)
    if state.changed_catalog:
        state.changed_catalog = False
        state.session.catalog.mark_stale()


def _forget(names: Names[Prepared] | Names[Portal], which: str) -> None:
    """One name, or all for `*`."""
    if which == "*":
        names.clear()
    else:
        names.settle(which, None)


def _prepared_by_name(name: str, known: sql.Prepared) -> Prepared:
    """The statement that PREPARE made. Bound by the protocol it is judged as the EXECUTE that this amounts to."""
    quoted = name.replace('"', '""')
    return Prepared(f'EXECUTE "{quoted}"', None, known)


def _cursor_by_name(name: str, facts: SqlFacts) -> Portal:
    """The portal of an SQL cursor. Read by Execute it is judged as the FETCH that this amounts to."""
    quoted = name.replace('"', '""')
    portal = Portal(Prepared(f'FETCH FROM "{quoted}"', None, None), facts, ())
    portal.is_held = True
    return portal

"""A text judged at its place in the session: by the catalog and the names of that moment, and again once they change.

`judge` knows a text and a context; this knows when the context is in doubt, when a fresh snapshot may know more, and
how much the session may still run. Called by the requests side for each text before any of it is forwarded. No I/O.
"""

from __future__ import annotations

from protocols.postgres.messages import Frame
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.judge import Verdict
from proxyd.gates.postgres.ledger import Prepared
from proxyd.gates.postgres.state import State


class CatalogNeeded(Exception):
    """The verdict depends on relations that a fresh snapshot may know."""


class Judging:
    """Of one session. max_statement_bytes: of a Query or Parse message, its text included."""

    def __init__(self, state: State, max_statement_bytes: int) -> None:
        self._state = state
        self._max_statement_bytes = max_statement_bytes
        self._retried: str | None = None

    def too_long(self, frame: Frame) -> Denial | None:
        """The refusal of a text that is longer than the limit, before it is looked at."""
        if len(frame.raw) <= self._max_statement_bytes:
            return None
        return Denial(
            message=f"proxyd: the statement is longer than the {self._max_statement_bytes} bytes allowed",
            detail="limit: limits.statement",
            hint="Split it, or use COPY for bulk data.",
            sqlstate="54000",
        )

    def judge(self, text: str) -> Verdict:
        """Raises CatalogNeeded, and Unsettled when it depends on a name whose meaning is not settled."""
        state = self._state
        verdict = state.judge.judge(text)
        if verdict.ends_transactions and state.path_is_in_doubt and state.resolution.search_path is not None:
            # What follows the end of the transaction in this text may resolve by the path that was before it.
            state.use_path(None)
            state.refresh()
            verdict = state.judge.judge(text)
        if verdict.is_stale_guess:
            if self._retried != text:
                self._retried = text
                state.session.catalog.mark_stale()
                raise CatalogNeeded
            verdict.is_stale_guess = False  # a fresh snapshot has confirmed it
        self._retried = None
        if state.changed_catalog and state.masks_on and verdict.denial is None and verdict.reads:
            return verdict.refused(
                Denial(
                    message="proxyd: the catalog was changed in this transaction, so masks cannot be proved to hold",
                    detail="rule: built-in: masks",
                    hint="COMMIT or ROLLBACK first, then run this statement.",
                )
            )
        return verdict

    def judge_again(self, prepared: Prepared) -> Denial | None:
        """A verdict holds in its context only: policy, catalog, search path or names may have changed since Parse."""
        state = self._state
        verdict = prepared.verdict
        if (
            verdict is not None
            and verdict.context is state.judge.context
            and not verdict.depends_on_names
            and not state.changed_catalog
        ):
            return None
        verdict = self.judge(prepared.text)
        if verdict is not prepared.verdict:
            prepared.verdict = verdict
            prepared.take_facts()
            prepared.description = None  # names may mean other tables now: ask again
        return verdict.denial

    def count_statement(self) -> Denial | None:
        """One more is to run: the refusal where that is one too many."""
        state = self._state
        limit = state.session.limits.statements
        state.statements += 1
        if limit is not None and state.statements > limit:
            return Denial(
                message=f"proxyd: this session has run its {limit} statements",
                detail="limit: session.statements",
                hint="Open a new session.",
                sqlstate="53400",
            )
        return None

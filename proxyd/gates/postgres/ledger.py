"""What the ledgers of one PostgreSQL session hold: prepared statements, portals, and the operations that the target
has yet to answer.

Made by the requests side, filled by the replies side as the target tells more. No I/O.
"""

from __future__ import annotations

from policy.facts import SqlFacts
from policy.sql import state as sql
from protocols.postgres.copy import CopyRewriter
from protocols.postgres.exchange import Owed, OwedKind
from protocols.postgres.rows import RowRewriter
from proxyd.gates.postgres.detecting.copies import CopyDetection
from proxyd.gates.postgres.detecting.rows import RowDetection
from proxyd.gates.postgres.judge import JudgedStatement, Verdict
from proxyd.gates.postgres.names import Names
from proxyd.gates.postgres.results import Plan


class Prepared:
    """A prepared statement, made by Parse or PREPARE; or, under a cursor's portal, the FETCH that reads it.

    text: what it runs, judged again when the context has changed. verdict: None when it has yet to be judged by itself.
    description: its RowDescription once the target has told; b"" when it returns no rows.
    """

    __slots__ = ("description", "known", "text", "verdict")

    def __init__(self, text: str, verdict: Verdict | None, known: sql.Prepared | None) -> None:
        self.text = text
        self.verdict = verdict
        self.known = known
        self.description: bytes | None = None

    @classmethod
    def parsed(cls, text: str, verdict: Verdict) -> Prepared:
        prepared = cls(text, verdict, None)
        prepared.take_facts()
        return prepared

    def take_facts(self) -> None:
        """What EXECUTE of this name would run, from the verdict. PREPARE has told it already, once for all."""
        if self.verdict is not None and (self.known is None or self.known.text == self.text):
            statements = self.verdict.statements
            self.known = sql.Prepared(self.text, statements[0].facts if statements else SqlFacts(""))


class Portal:
    """A portal, made by Bind or DECLARE. `is_asked`: a Describe that covers it is on its way to the target."""

    __slots__ = (
        "description",
        "detection",
        "facts",
        "is_asked",
        "is_held",
        "plan",
        "prepared",
        "result_formats",
        "rewriter",
    )

    def __init__(self, prepared: Prepared, facts: SqlFacts | None, result_formats: tuple[int, ...]) -> None:
        self.prepared = prepared
        self.facts = facts
        self.result_formats = result_formats
        self.is_held = False
        self.description = prepared.description
        self.is_asked = prepared.description is not None
        self.plan: Plan | None = None
        self.rewriter: RowRewriter | None = None
        self.detection: RowDetection | None = None

    def forget_description(self) -> None:
        self.description = None
        self.is_asked = False
        self.plan = None
        self.detection = None


class Operation(Owed):
    """An entry of the ledger with the gate's notes.

    verdict and index: the text and which statement of it is being answered (simple Query). portal: for Execute and
    Describe of a portal; prepared: for Parse and Describe of a statement. change: the name that a Parse, Bind or Close
    changes, with its name space. plan: of the result that is passing; withheld: it is being dropped. detection:
    detectors over the rows or the COPY data that is passing. description: the RowDescription of a simple Query.
    """

    # One of these is made for every message: what is rarely set stays on the class.
    index = 0
    portal: Portal | None = None
    prepared: Prepared | None = None
    change: tuple[Names[Prepared] | Names[Portal], str] | None = None
    plan: Plan | None = None
    rewriter: RowRewriter | None = None
    copy: CopyRewriter | None = None
    detection: RowDetection | CopyDetection | None = None
    description: bytes | None = None
    holds_names = False
    new_path: tuple[str, ...] | None = None
    withheld = False

    def __init__(self, kind: OwedKind, verdict: Verdict | None = None) -> None:
        super().__init__(kind)
        self.verdict = verdict

    @property
    def statement(self) -> JudgedStatement | None:
        """The statement whose answer is passing, None when it is not known."""
        verdict = self.verdict
        if verdict is None or self.index >= len(verdict.statements):
            return None
        return verdict.statements[self.index]

    @property
    def may_touch_masked(self) -> bool:
        """May what is being answered look at masked columns? Yes where it is not known."""
        return self.verdict is None or self.verdict.touches_masked

    def change_name(
        self,
        names: Names[Prepared] | Names[Portal],
        name: str,
        batch: int,
        value: Prepared | Portal | None,
    ) -> None:
        """Once answered, `name` stands for `value`. Raises TooManyNames."""
        names.change(name, batch, value)  # type: ignore[arg-type]  # one of two name spaces
        self.change = (names, name)

    def described(self, description: bytes) -> None:
        """The target has told what the statement or portal asked about returns, b"" for no rows."""
        if self.prepared is not None:
            self.prepared.description = description
        if self.portal is not None:
            self.portal.description = description
            self.portal.plan = None
            self.portal.detection = None

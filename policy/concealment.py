"""What masks demand of one statement: columns to rewrite, or reasons to refuse it.

The rule: a masked column leaves rewritten, or not at all. A plain output column becomes an obligation; any
other use that the mask does not list, and anything that cannot be followed, is refused. Called by
`policy.evaluate` for statements of a subject under masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policy.commands import LOOKING, OUT_OF_SIGHT, READING, RENAMES_SCHEMAS, RESHAPING
from policy.decision import MaskObligation, Reason
from policy.facts import ColumnName, ColumnUse, Output, RelationAccess, SqlFacts, Use
from policy.masking import Mask
from policy.system_relations import is_harmless, is_revealing, revealing_columns
from policy.view import MaskSet

# Commands whose own result carries the output columns. The others (DECLARE, PREPARE, EXPLAIN...) only
# mention them.
_WITH_RESULT = frozenset(
    {"select", "values", "insert", "update", "delete", "merge", "copy", "copy_to", "fetch", "execute"}
)
_HOW = {
    Use.EXPRESSION: "in an expression",
    Use.FILTER: "in a condition",
    Use.JOIN: "to join",
    Use.GROUP: "to group",
    Use.ORDER: "to sort",
    Use.COPY: "to store it elsewhere",
    Use.ROW: "as part of a whole row",
}
_LISTABLE = {Use.FILTER: "filter", Use.JOIN: "join", Use.GROUP: "group", Use.ORDER: "order"}


class Concealment:
    """`obligations`: output columns to rewrite, by position. `refusals`: why the statement cannot run."""

    def __init__(self, masks: MaskSet, facts: SqlFacts, commands: Sequence[str]) -> None:
        self._masks = masks
        self._facts = facts
        self.obligations: list[MaskObligation] = []
        self.refusals: list[Reason] = []
        self._refused: set[ColumnName] = set()  # by their use, which says more than their output column does
        if masks.is_empty:
            return
        self.refusals.extend(self._out_of_sight(commands))
        self.refusals.extend(self._relations())
        self.refusals.extend(self._uses())
        self.refusals.extend(self._outputs())

    def _out_of_sight(self, commands: Sequence[str]) -> Iterator[Reason]:
        for command in commands:
            if command in OUT_OF_SIGHT:
                yield Reason(
                    "",
                    f"`{command}` runs where masks cannot reach, and masks apply to you on this target",
                    "Use plain statements, or ask for access without masks.",
                )

            elif command in RENAMES_SCHEMAS:
                yield Reason(
                    "",
                    f"`{command}` could move columns out of the masks that apply to you on this target",
                    "Let somebody without masks change the schema.",
                )

    def _relations(self) -> Iterator[Reason]:
        for access in self._facts.accesses:
            name = _shown(access)
            if is_revealing(access.schema, access.name) and not _is_harmless_name(access.via):
                yield Reason(
                    "",
                    f"{name} can show values of masked columns, and masks apply to you on this target",
                    f"Leave {name} out of the statement.",
                )
                continue
            shown = revealing_columns(access.schema, access.name)
            if shown and access.command in READING and not _is_harmless_name(access.via):
                read = shown if access.columns is None else shown.intersection(access.columns)
                for column in sorted(read):
                    yield Reason(
                        "",
                        f"{name}.{column} can show values of masked columns, and masks apply to you on this target",
                        "Name the columns that you need.",
                    )
            mask = self._masks.on_relation(access.schema, access.name)
            if mask is None:
                continue
            if access.command in RESHAPING:
                yield Reason(
                    mask.name,
                    f"`{access.command}` on {name} could move a column out of mask {mask.name}",
                    "Let somebody without masks change the table.",
                )
            elif access.command in LOOKING:
                yield Reason(
                    mask.name,
                    f"`{access.command}` on {name} could look at values that mask {mask.name} hides",
                    "Let somebody without masks do it.",
                )
            elif access.columns is None and access.command in READING:
                yield Reason(
                    mask.name,
                    f"it cannot be seen which columns of {name} are read, and mask {mask.name} may be on one",
                    "Name the columns.",
                )

    def _uses(self) -> Iterator[Reason]:
        for use in self._facts.uses:
            if use.use in (Use.OUTPUT, Use.ASSIGN):
                continue
            found = self._masks.find((use.column,))
            if found is not None and use.use not in found[0].uses:
                self._refused.add(use.column)
                yield _refused_use(found[0], use)

    def _outputs(self) -> Iterator[Reason]:
        outputs = self._facts.outputs or ()
        accounted: set[ColumnName] = set()
        for position, output in enumerate(outputs):
            accounted.update(output.also, output.derived)
            if output.source is not None:
                accounted.add(output.source)
            yield from self._output(position, output)
        if self._facts.command not in _WITH_RESULT:
            return
        for use in self._facts.uses:
            if use.use is Use.OUTPUT and use.column not in accounted:
                mask = self._masks.for_column((use.column,))
                if mask is not None:
                    yield Reason(
                        mask.name,
                        f"column {use.column} is masked by {mask.name}, and where it leaves cannot be told",
                        f"Select {use.column} as a plain column, or leave it out.",
                    )

    def _output(self, position: int, output: Output) -> Iterator[Reason]:
        derived = self._masks.find(output.derived)
        if derived is not None and derived[1] not in self._refused:
            mask, column = derived
            yield Reason(
                mask.name,
                f'output column "{output.name}" is computed from {column}, which is masked by {mask.name}',
                f"Select {column} as a plain column (it comes masked), or leave it out.",
            )
        if output.source is not None:
            found = self._masks.find((output.source, *output.also))
            if found is not None:
                self.obligations.append(MaskObligation(position, found[0].name, found[1]))
        elif output.also and (hidden := self._masks.find(output.also)) is not None:
            yield Reason(
                hidden[0].name,
                f'output column "{output.name}" may show {hidden[1]}, which is masked by {hidden[0].name}',
                f"Select {hidden[1]} as a plain column (it comes masked), or leave it out.",
            )
        if not output.known and (relation := self._touched()) is not None:
            yield Reason(
                relation[1].name,
                f'it cannot be proved that output column "{output.name}" shows nothing of {relation[0]}, '
                f"where mask {relation[1].name} applies",
                "Select plain columns, or leave this one out.",
            )

    def _touched(self) -> tuple[str, Mask] | None:
        for access in self._facts.accesses:
            mask = self._masks.on_relation(access.schema, access.name)
            if mask is not None:
                return _shown(access), mask
        return None


def _shown(access: RelationAccess) -> str:
    return f"{access.schema}.{access.name}" if access.schema else access.name


def _is_harmless_name(name: str) -> bool:
    schema, _, relation = name.partition(".")
    return is_harmless(schema, relation)


def _refused_use(mask: Mask, use: ColumnUse) -> Reason:
    through = f" (through {use.via})" if use.via else ""
    advice = f"Leave {use.column} out here; as a plain output column it comes masked."
    if use.use in _LISTABLE:
        advice += f" The owners of the policy can permit this by `uses: [{_LISTABLE[use.use]}]` on the mask."
    return Reason(
        mask.name,
        f"column {use.column}{through} is masked by {mask.name} and cannot be used {_HOW[use.use]}",
        advice,
    )

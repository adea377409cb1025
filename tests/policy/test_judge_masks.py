"""Statements against masks: rewritten, or refused with the column, the mask and what to do."""

from __future__ import annotations

import msgspec
import pytest

from policy.decision import Decision, Effect, MaskObligation
from policy.document import PolicyDocument, load_document
from policy.evaluate import judge_sql, masks_for
from policy.facts import HIDDEN, ColumnName, ColumnUse, Output, RelationAccess, SqlFacts, Subject, Target, Use
from policy.masking import Redact

DOCUMENT = """\
version: 1
roles:
  analyst: {groups: [data]}
  dba: {groups: [dba]}
access:
  - {name: read, roles: [analyst, dba], targets: {names: ["*"]}, logins: [readonly]}
rules:
  - name: all
    effect: allow
    postgres: {commands: ["*", do, call, copy_program, copy_file, create_rule, create_trigger], relations:
    ["*.*"]}
  - {name: commands, effect: allow, postgres: {commands: ["*", do, call, copy_program, copy_file]}}
  - {name: trusted, effect: allow, postgres: {functions: [shop.trusted]}}
  - {name: forbidden, effect: deny, postgres: {functions: [shop.forbidden]}}
  - {name: careful, effect: hold, postgres: {commands: [delete]}, approval: {approvers: [dba]}}
masks:
  - {name: contact, columns: [shop.customers.email, shop.customers.phone], method: {partial: {keep_last: 4}},
     unless: {roles: [dba]}}
  - {name: joinable, columns: [shop.customers.number, "*.orders.number"], method: {fixed: {value: "0"}},
     uses: [join, group]}
  - {name: wide, columns: ["*.people.phone*"], method: redact}
  - {name: again, columns: [shop.people.phone], method: "null"}
  - {name: elsewhere, columns: ["*.*.*"], method: redact, targets: {names: [vault]}}
"""
ADA = Subject("ada", ("data",))
DEE = Subject("dee", ("dba",))
SHOP = Target("shop", "postgres")
A, D, H = Effect.ALLOW, Effect.DENY, Effect.HOLD


def column(text: str) -> ColumnName:
    return ColumnName(*text.split("."))


EMAIL, PHONE, ID = (column(f"shop.customers.{name}") for name in ("email", "phone", "id"))
NUMBER, HIS_NUMBER = column("shop.customers.number"), column("shop.orders.number")
CUSTOMERS = RelationAccess("select", "shop", "customers", columns=("email", "id"))
ORDERS = RelationAccess("select", "shop", "orders", columns=("id",))


def used(name: ColumnName, use: Use, via: str = "") -> ColumnUse:
    return ColumnUse(name, use, via)


def facts(
    *accesses: RelationAccess,
    uses: tuple[ColumnUse, ...] = (),
    outputs: tuple[Output, ...] | None = (),
    command: str = "select",
    unresolved: tuple[str, ...] = (),
) -> SqlFacts:
    return SqlFacts(command, (command,), accesses or (CUSTOMERS,), (), (), uses, outputs, unresolved)


@pytest.fixture(scope="module")
def document() -> PolicyDocument:
    return load_document(DOCUMENT, "p.yaml")


def judge(
    document: PolicyDocument, statement: SqlFacts, subject: Subject = ADA, target: Target = SHOP
) -> Decision:
    return judge_sql(document, subject, target, "readonly", statement)


PLAIN = facts(
    uses=(used(ID, Use.OUTPUT), used(EMAIL, Use.OUTPUT)), outputs=(Output("id", ID), Output("mail", EMAIL))
)


def test_a_plain_column_is_rewritten(document: PolicyDocument) -> None:
    decision = judge(document, PLAIN)
    assert (decision.effect, decision.masks) == (A, (MaskObligation(1, "contact", EMAIL),))
    assert judge(document, PLAIN, subject=DEE).masks == ()


def test_masks_depend_on_the_target(document: PolicyDocument) -> None:
    decision = judge(document, PLAIN, target=Target("vault", "postgres"))
    assert [obligation.mask for obligation in decision.masks] == ["elsewhere", "elsewhere"]


def test_a_held_statement_keeps_its_masks(document: PolicyDocument) -> None:
    statement = facts(
        RelationAccess("delete", "shop", "customers", columns=("email",)),
        command="delete",
        uses=(used(EMAIL, Use.OUTPUT),),
        outputs=(Output("email", EMAIL),),
    )
    decision = judge(document, statement)
    assert (decision.effect, decision.masks) == (H, (MaskObligation(0, "contact", EMAIL),))


VIEWED = column("shop.v.mail")


@pytest.mark.parametrize(
    ("statement", "masks"),
    [
        # A view's column is masked by the mask on the base column behind it.
        (
            facts(
                RelationAccess("select", "shop", "v", columns=("mail",)),
                RelationAccess("select", "shop", "customers", via="shop.v", columns=("email",)),
                uses=(used(VIEWED, Use.OUTPUT), used(EMAIL, Use.OUTPUT, "shop.v")),
                outputs=(Output("mail", VIEWED, also=(EMAIL,)),),
            ),
            [(0, "contact", EMAIL)],
        ),
        # Uses that the mask lists.
        (facts(CUSTOMERS, ORDERS, uses=(used(NUMBER, Use.JOIN), used(HIS_NUMBER, Use.JOIN))), []),
        (facts(uses=(used(NUMBER, Use.GROUP),)), []),
        (facts(uses=(used(EMAIL, Use.ASSIGN),), command="update", outputs=None), []),
        # Other columns may be used in any way.
        (
            facts(
                uses=(used(ID, Use.FILTER), used(ID, Use.EXPRESSION), used(ID, Use.COPY), used(ID, Use.ROW))
            ),
            [],
        ),
        (facts(outputs=(Output("x", derived=(ID,)),)), []),
        (facts(outputs=(Output("now"),)), []),
        # Output that only a later statement gives.
        (facts(command="declare_cursor", outputs=None, uses=(used(EMAIL, Use.OUTPUT),)), []),
        (facts(command="explain", outputs=(Output("QUERY PLAN"),), uses=(used(EMAIL, Use.OUTPUT),)), []),
        # What is not known matters where a mask could be.
        (facts(ORDERS.__class__("select", "shop", "notes"), outputs=(Output("x", known=False),)), []),
        (facts(ORDERS.__class__("select", "shop", "notes", columns=None)), []),
        (facts(ORDERS.__class__("select", "shop", "notes"), unresolved=("a plain reason",)), []),
        (facts(RelationAccess("alter_table", "shop", "notes", columns=None), command="alter_table"), []),
        (
            facts(
                RelationAccess("truncate", "shop", "customers", columns=None),
                command="truncate",
                outputs=None,
            ),
            [],
        ),
        # Two masks on one column: the one that conceals more.
        (
            facts(outputs=(Output("p", column("shop.people.phone")),)),
            [(0, "wide", column("shop.people.phone"))],
        ),
        # A harmless view over a revealing table was found harmless as a whole.
        (
            facts(
                RelationAccess("select", "pg_catalog", "pg_roles", columns=("rolname",)),
                RelationAccess(
                    "select", "pg_catalog", "pg_authid", via="pg_catalog.pg_roles", columns=("rolname",)
                ),
            ),
            [],
        ),
        # The catalog has no masked columns by a pattern with an open schema.
        (facts(RelationAccess("select", "pg_catalog", "pg_class"), outputs=(Output("x", known=False),)), []),
    ],
)
def test_what_may_run(
    document: PolicyDocument, statement: SqlFacts, masks: list[tuple[int, str, ColumnName]]
) -> None:
    decision = judge(document, statement)
    assert (decision.effect, decision.masks) == (A, tuple(MaskObligation(*mask) for mask in masks)), (
        decision.reasons
    )


@pytest.mark.parametrize(
    ("statement", "mask", "message"),
    [
        *(
            (facts(uses=(used(EMAIL, use),)), "contact", f"cannot be used {how}")
            for use, how in (
                (Use.EXPRESSION, "in an expression"),
                (Use.FILTER, "in a condition"),
                (Use.JOIN, "to join"),
                (Use.GROUP, "to group"),
                (Use.ORDER, "to sort"),
                (Use.COPY, "to store it elsewhere"),
                (Use.ROW, "as part of a whole row"),
            )
        ),
        *(
            (facts(uses=(used(NUMBER, use),)), "joinable", "cannot be used")
            for use in (Use.EXPRESSION, Use.FILTER, Use.ORDER, Use.COPY, Use.ROW)
        ),
        # Through a view, its own definition included.
        (
            facts(uses=(used(EMAIL, Use.FILTER, "shop.v"),)),
            "contact",
            "(through shop.v) is masked by contact",
        ),
        (facts(uses=(used(PHONE, Use.EXPRESSION, "shop.v"),)), "contact", "cannot be used in an expression"),
        # Computed output.
        (facts(outputs=(Output("u", derived=(ID, EMAIL)),)), "contact", 'output column "u" is computed from'),
        (facts(outputs=(Output("u", source=ID, derived=(EMAIL,)),)), "contact", "is computed from"),
        (facts(outputs=(Output("u", also=(EMAIL,)),)), "contact", "may show"),
        (facts(outputs=(Output("u", known=False),)), "contact", "it cannot be proved"),
        # A use that no output column accounts for.
        (facts(uses=(used(EMAIL, Use.OUTPUT),), outputs=(Output("id", ID),)), "contact", "cannot be told"),
        (facts(uses=(used(EMAIL, Use.OUTPUT),), outputs=None), "contact", "cannot be told"),
        (
            facts(uses=(used(EMAIL, Use.OUTPUT),), outputs=None, command="copy_to"),
            "contact",
            "cannot be told",
        ),
        # Unknown columns of a relation that has a mask.
        (facts(RelationAccess("select", "shop", "customers", columns=None)), "contact", "Name the columns."),
        (facts(RelationAccess("select", "", "customers", columns=None)), "contact", ""),
        (facts(uses=(used(ColumnName("", "customers", "email"), Use.FILTER),)), "contact", ""),
        (facts(uses=(used(ColumnName("shop", "customers", ""), Use.ROW),)), "contact", ""),
        # Changing the table so that the column gets another name or place.
        (
            facts(RelationAccess("alter_table", "shop", "customers"), command="alter_table"),
            "contact",
            "could move",
        ),
        (
            facts(RelationAccess("create_rule", "shop", "customers"), command="create_rule"),
            "contact",
            "could move",
        ),
        (
            facts(RelationAccess("create_trigger", "shop", "people"), command="create_trigger"),
            "wide",
            "could move",
        ),
        # Out of sight.
        *(
            (facts(command=command, outputs=None), "", "runs where masks cannot reach")
            for command in ("copy_program", "copy_file", "do", "call")
        ),
        (facts(command="alter_schema", outputs=None), "", "could move columns out of the masks"),
        # Statistics hold values.
        (
            facts(RelationAccess("select", "pg_catalog", "pg_stats")),
            "",
            "pg_catalog.pg_stats can show values",
        ),
        (facts(RelationAccess("select", "pg_catalog", "pg_statistic", via="shop.v")), "", "can show values"),
        # Unseen parts.
        (facts(unresolved=("something",)), "", "it cannot be seen what the statement does: something"),
        (facts(RelationAccess("select", "", "notes"), unresolved=("which notes",)), "", "it cannot be seen"),
        (facts(unresolved=("refused: too deep",)), "", "too deep"),
    ],
)
def test_what_is_refused(document: PolicyDocument, statement: SqlFacts, mask: str, message: str) -> None:
    decision = judge(document, statement)
    assert (decision.effect, decision.masks) == (D, ())
    reason = decision.reasons[0]
    assert reason.rule == mask
    assert message in f"{reason.message} {reason.hint}"
    assert reason.hint


def test_without_masks_none_of_it_is_refused(document: PolicyDocument) -> None:
    text = DOCUMENT.partition("masks:")[0]
    free = load_document(text, "p.yaml")
    for statement in (
        facts(uses=(used(EMAIL, Use.EXPRESSION),)),
        facts(outputs=(Output("u", known=False),)),
        facts(RelationAccess("select", "pg_catalog", "pg_stats")),
        facts(command="do", outputs=None),
        facts(unresolved=("something",)),
    ):
        assert judge(free, statement).effect is A


def test_a_refusal_tells_column_mask_and_what_to_do(document: PolicyDocument) -> None:
    (reason,) = judge(document, facts(uses=(used(EMAIL, Use.FILTER),))).reasons
    assert (
        reason.message == "column shop.customers.email is masked by contact and cannot be used in a condition"
    )
    assert reason.hint == (
        "Leave shop.customers.email out here; as a plain output column it comes masked. "
        "The owners of the policy can permit this by `uses: [filter]` on the mask."
    )


def test_a_computed_column_is_explained_once(document: PolicyDocument) -> None:
    statement = facts(uses=(used(EMAIL, Use.EXPRESSION),), outputs=(Output("upper", derived=(EMAIL,)),))
    (reason,) = judge(document, statement).reasons
    assert "cannot be used in an expression" in reason.message


def test_revealing_relations_need_a_rule_even_without_masks(document: PolicyDocument) -> None:
    text = DOCUMENT.partition("rules:")[0]
    decision = judge(load_document(text, "p.yaml"), facts(RelationAccess("select", "pg_catalog", "pg_stats")))
    assert decision.effect is D


def test_the_mask_set(document: PolicyDocument) -> None:
    masks = masks_for(document, ADA, SHOP)
    assert not masks.is_empty
    assert masks is masks_for(document, Subject("eve", ("data", "x")), SHOP)
    found = masks.for_column((ID, EMAIL))
    assert found is not None
    assert found is masks.by_name("contact")
    assert masks.for_column((ID,)) is None
    assert masks.for_column(()) is None
    assert masks.for_column(iter((ColumnName("SHOP", "customers", "email"),))) is None
    both = masks.for_column((column("shop.people.phone"), EMAIL))
    assert both is not None
    assert isinstance(both.method, Redact)
    assert masks.touches("shop", "customers")
    assert masks.touches("", "customers")
    assert not masks.touches("shop", "notes")
    with pytest.raises(KeyError):
        masks.by_name("elsewhere")
    other = masks_for(document, DEE, SHOP)
    assert other.for_column((EMAIL,)) is None
    assert not other.is_empty
    assert masks_for(load_document(DOCUMENT.partition("masks:")[0], "p.yaml"), ADA, SHOP).is_empty


def test_a_mask_that_spells_out_the_catalog_reaches_it() -> None:
    text = DOCUMENT + "  - {name: sources, columns: [pg_catalog.pg_proc.prosrc], method: redact}\n"
    document = load_document(text, "p.yaml")
    masks = masks_for(document, ADA, SHOP)
    assert masks.for_column((column("pg_catalog.pg_proc.prosrc"),)) is masks.by_name("sources")
    vault = masks_for(document, ADA, Target("vault", "postgres"))
    assert vault.for_column((column("pg_catalog.pg_class.relname"),)) is None
    assert vault.for_column((column("pg_catalog.pg_authid.rolname"),)) is not None


def test_what_is_not_known_is_told_before_what_follows_from_it(document: PolicyDocument) -> None:
    statement = facts(
        RelationAccess("select", "", "orders", columns=None),
        outputs=(Output("*", known=False),),
        unresolved=('no schema of the search path has a relation "orders"',),
    )
    messages = [reason.message for reason in judge(document, statement).reasons]
    assert 'no schema of the search path has a relation "orders"' in messages[0]
    assert not any(" .orders" in message for message in messages)


UNMASKED = load_document(DOCUMENT.partition("masks:")[0], "p.yaml")


def test_a_function_inside_a_view_needs_a_rule_where_masks_apply(document: PolicyDocument) -> None:
    view = RelationAccess("select", "shop", "totals", columns=("sum",))
    calling = msgspec.structs.replace(
        facts(view, outputs=(Output("sum", column("shop.totals.sum")),)), hidden_functions=("shop.total",)
    )
    decision = judge(document, calling)
    assert decision.effect is D and "shop.total, which a view" in decision.reasons[0].message
    assert judge(UNMASKED, calling).effect is A
    trusted = msgspec.structs.replace(calling, hidden_functions=("shop.trusted",))
    assert judge(document, trusted).effect is A
    denied = msgspec.structs.replace(calling, hidden_functions=("shop.forbidden",))
    assert judge(UNMASKED, denied).effect is D


def test_what_is_hidden_denies_wherever_masks_apply(document: PolicyDocument) -> None:
    elsewhere = RelationAccess("select", "shop", "totals", columns=("sum",))
    hidden = facts(elsewhere, unresolved=(HIDDEN + "a view",))
    assert judge(document, hidden).effect is D
    assert judge(UNMASKED, hidden).effect is A
    assert judge(document, facts(elsewhere, unresolved=("a view",))).effect is A


@pytest.mark.parametrize(
    "command",
    [
        "create_index",
        "create_statistics",
        "create_publication",
        "alter_publication",
        "alter_policy",
        "cluster",
    ],
)
def test_definitions_that_look_at_values_are_refused(command: str, document: PolicyDocument) -> None:
    touching = RelationAccess(command, "shop", "customers", columns=None)
    decision = judge(document, facts(touching, outputs=None, command=command))
    assert decision.effect is D
    assert any(
        f"`{command}` on shop.customers could look at" in reason.message for reason in decision.reasons
    )
    elsewhere = RelationAccess(command, "shop", "totals", columns=None)
    refused = judge(document, facts(elsewhere, outputs=None, command=command)).reasons
    assert not any("look at" in reason.message for reason in refused)


@pytest.mark.parametrize(
    ("columns", "via", "expected"),
    [
        (("attname", "attnum"), "", A),
        (("attmissingval", "attname"), "", D),
        (("attmissingval",), "shop.view", D),
        (None, "", D),
    ],
)
def test_values_kept_in_the_catalog_are_refused(
    columns: tuple[str, ...] | None, via: str, expected: Effect, document: PolicyDocument
) -> None:
    read = RelationAccess("select", "pg_catalog", "pg_attribute", via, columns=columns)
    assert judge(document, facts(read)).effect is expected
    assert judge(UNMASKED, facts(read)).effect is A

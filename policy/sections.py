"""The shape of a policy document, key by key. Each model checks what can be seen from inside itself.

What needs the whole document (names that must exist, rules that shadow each other) is in
`policy.document_checks`. `docs/policy.md` is the reference for people; keep the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from policy.commands import COMMANDS, commands_matching
from policy.conditions import compile_condition
from policy.conditions.names import Kind
from policy.conditions.tokens import MAX_TEXT_CHARACTERS
from policy.detectors.section import OwnDetectors
from policy.http_rules.section import HttpMatcher
from policy.json_paths import JsonPath
from policy.llm.budget import BudgetSection
from policy.llm.section import LlmMatcher, check_effect
from policy.located_yaml import Duration, Name, Section, closest, refusal
from policy.masking import Fixed, Method, Null, Partial, Pseudonym, Redact
from policy.patterns import PatternError, column_pattern, function_pattern, relation_pattern
from policy.section_types import Text, patterned
from policy.ssh_rules.section import SshMatcher

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
_SHOWN_COMMANDS = (
    "select, insert, update, delete, merge, truncate, copy_from, copy_to, copy_program, copy_file, call, do, "
    "set, set_role, lock, listen, notify, grant, revoke, vacuum, analyze, create_table, create_table_as, "
    "create_view, create_function, create_extension, alter_table, alter_system, drop_table, ..., "
    "or globs of them"
)


def _command(text: str) -> str:
    if not commands_matching(text):
        raise refusal(
            f"`{text}` is not a command", f"{closest(text.lower(), COMMANDS)}commands are {_SHOWN_COMMANDS}"
        )
    return text


def _setting(text: str) -> str:
    if not text.replace(".", "").replace("*", "").replace("_", "a").isalnum() and text != "*":
        raise refusal(f"`{text}` is not the name of a setting", "write a name, as in `work_mem` or `myapp.*`")
    return text.lower()


Relation = Annotated[str, patterned(relation_pattern)]
Column = Annotated[str, patterned(column_pattern)]
RuleColumn = Annotated[str, patterned(lambda text: column_pattern(text, one_part=True))]
Function = Annotated[str, patterned(function_pattern)]
Command = Annotated[str, AfterValidator(_command)]
Setting = Annotated[str, AfterValidator(_setting)]

When = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]

Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
Relations = Annotated[tuple[Relation, ...], Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(min_length=1)]
RuleColumns = Annotated[tuple[RuleColumn, ...], Field(min_length=1)]
Functions = Annotated[tuple[Function, ...], Field(min_length=1)]
Commands = Annotated[tuple[Command, ...], Field(min_length=1)]
Settings = Annotated[tuple[Setting, ...], Field(min_length=1)]


def _listed(value: object) -> object:
    """One text where a list of texts is meant; anything else is for the list type to judge."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


OneOrMore = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1)]


class Role(Section):
    groups: Texts | None = Field(default=None, examples=["[data]"])
    claims: Annotated[dict[Text, OneOrMore], Field(min_length=1)] | None = Field(
        default=None, examples=["{kind: agent}"]
    )

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if self.groups is None and self.claims is None:
            raise refusal("nobody can have this role", "give it `groups: [...]` or `claims: {...}`")
        return self


class Targets(Section):
    """Which targets. Every key that is given must hold."""

    labels: Annotated[dict[Text, OneOrMore], Field(min_length=1)] | None = Field(
        default=None, examples=["{env: prod}"]
    )
    protocol: Literal["postgres", "ssh", "http", "mcp", "kubernetes"] | None = Field(
        default=None, examples=["postgres"]
    )
    names: Texts | None = Field(default=None, examples=["[shop]"])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.labels is None and self.protocol is None and self.names is None:
            raise refusal(
                "selects nothing in particular",
                'give `labels`, `protocol` or `names` (["*"] is every target)',
            )
        return self


class SessionSection(Section):
    max: Duration | None = Field(default=None, examples=["8h"])
    idle: Duration | None = Field(default=None, examples=["30m"])
    statements: Count | None = Field(default=None, examples=["5000"])
    rows: Count | None = Field(default=None, examples=["200000"])

    @model_validator(mode="after")
    def _idle_within_max(self) -> Self:
        if self.idle is not None and self.max is not None and self.idle > self.max:
            raise refusal(
                "an idle time longer than the session can last",
                "make `idle` shorter than `max`",
                at=("idle",),
            )
        return self


class Grant(Section):
    approvers: Texts = Field(examples=["[security]"])
    approvals: Count = Field(default=1, examples=["2"])
    max: Duration = Field(examples=["1h"])


class Access(Section):
    name: Name = Field(examples=["analysts-read-orders"])
    roles: Names = Field(examples=["[analyst]"])
    targets: Targets = Field(examples=["{labels: {env: prod}}"])
    logins: Texts = Field(examples=["[readonly]"])
    session: SessionSection | None = Field(default=None, examples=["{max: 8h, idle: 30m}"])
    grant: Grant | None = Field(default=None, examples=["{approvers: [security], max: 1h}"])


class PostgresMatcher(Section):
    commands: Commands | None = Field(default=None, examples=["[select]"])
    relations: Relations | None = Field(default=None, examples=['["shop.*"]'])
    columns: RuleColumns | None = Field(default=None, examples=["[email]"])
    functions: Functions | None = Field(default=None, examples=['["shop.total"]'])
    settings: Settings | None = Field(default=None, examples=["[work_mem]"])
    where: Literal["absent"] | None = Field(default=None, examples=["absent"])

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if all(value is None for value in dict(self).values()):
            raise refusal(
                "says nothing about what it matches", 'give `commands` (["*"] is all), `relations`, ...'
            )
        if self.where is not None and self.commands is not None:
            for index, command in enumerate(self.commands):
                if not commands_matching(command) <= {"update", "delete"}:
                    raise refusal(
                        f"`where: absent` can never match `{command}`",
                        "keep update and delete only: no other command has a WHERE to leave out",
                        at=("commands", index),
                    )
        return self


class McpMatcher(Section):
    tools: Texts | None = Field(default=None, examples=['["read_*"]'])
    resources: Texts | None = None
    prompts: Texts | None = None


class Approval(Section):
    approvers: Texts = Field(examples=["[dba]"])
    approvals: Count = Field(default=1, examples=["1"])
    timeout: Duration = Field(default=600.0, examples=["10m"])


class Rule(Section):
    name: Name = Field(examples=["read-the-shop"])
    effect: Literal["allow", "deny", "hold"] = Field(examples=["allow"])
    roles: Names | None = Field(default=None, examples=["[analyst]"])
    targets: Targets | None = Field(default=None, examples=["{labels: {env: prod}}"])
    postgres: PostgresMatcher | None = Field(
        default=None, examples=['{commands: [select], relations: ["shop.*"]}']
    )
    ssh: SshMatcher | None = Field(default=None, examples=['{exec: ["git-upload-pack *"]}'])
    http: HttpMatcher | None = Field(default=None, examples=['{methods: [GET], paths: ["/v1/**"]}'])
    llm: LlmMatcher | None = Field(default=None, examples=['{models: ["gpt-4o*"]}'])
    mcp: McpMatcher | None = None
    when: When | None = Field(default=None, examples=["'sql.unbounded && subject.name != \"olga\"'"])
    message: Text | None = None
    approval: Approval | None = Field(default=None, examples=["{approvers: [dba], timeout: 10m}"])

    @property
    def is_about_http(self) -> bool:
        return self.http is not None or self.llm is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        sections = (self.postgres, self.ssh, self.http, self.llm, self.mcp)
        if all(section is None for section in sections):
            raise refusal(
                "matches no operation",
                "say what it is about, with `postgres: {...}`, `ssh: {...}`, `http: {...}` or `llm: {...}`",
            )
        if self.effect == "hold" and self.approval is None:
            raise refusal(
                "a hold that nobody can answer",
                "add `approval`, as in `approval: {approvers: [dba], timeout: 10m}`",
            )
        if self.effect != "hold" and self.approval is not None:
            raise refusal(
                f"an approval on a rule that says {self.effect}",
                "make it `effect: hold`, or remove it",
                at=("approval",),
            )
        if self.llm is not None:
            check_effect(self.llm, self.effect)
        if self.http is not None and self.http.body_bytes is not None:
            self.http.body_bytes.check_effect(self.effect)
        if self.when is not None:
            self._check_condition(self.when)
        protocol = self.targets.protocol if self.targets is not None else None
        for section, matcher in _doors(self):
            speaks = "http" if section == "llm" else section
            if matcher is not None and protocol not in (None, speaks):
                raise refusal(
                    f"can never match: `{section}` on targets that speak {protocol}",
                    f"remove `protocol`, or make it {speaks}",
                    at=("targets", "protocol"),
                )
        return self

    def _check_condition(self, when: str) -> None:
        """It has to make sense for every door that the rule is about."""
        kinds: tuple[tuple[Kind, bool], ...] = (
            ("postgres", self.postgres is not None),
            ("ssh", self.ssh is not None),
            ("http", self.is_about_http),
        )
        try:
            for kind, is_meant in kinds:
                if is_meant:
                    compile_condition(when, kind)
        except PatternError as error:
            raise refusal(error.message, error.remedy, at=("when",)) from None


def _doors(rule: Rule) -> Sequence[tuple[str, Section | None]]:
    return (("postgres", rule.postgres), ("ssh", rule.ssh), ("http", rule.http), ("llm", rule.llm))


class PartialSection(Section):
    keep_last: Annotated[int, Field(ge=0, le=1000)] = Field(default=0, examples=["4"])
    keep_first: Annotated[int, Field(ge=0, le=1000)] = Field(default=0, examples=["1"])

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.keep_last == 0 and self.keep_first == 0:
            raise refusal(
                "a partial mask that keeps nothing", "set `keep_last` or `keep_first`, or use `redact`"
            )
        return self


class PseudonymSection(Section):
    key: Name = Field(examples=["customers"])


class FixedSection(Section):
    value: Annotated[str, Field(max_length=1000)] = Field(examples=['"hidden"'])


_WORDS = ("redact", "null", "token")
_METHODS = (
    '`redact`, `null`, `{partial: {keep_last: 4}}`, `{pseudonym: {key: NAME}}` or `{fixed: {value: "..."}}`'
)


class MethodSection(Section):
    """`redact`, `null` and `token` are written as words; the rest as a mapping with one key."""

    word: Literal["redact", "null", "token"] | None = None
    partial: PartialSection | None = Field(default=None, examples=["{keep_last: 4}"])
    pseudonym: PseudonymSection | None = Field(default=None, examples=["{key: customers}"])
    fixed: FixedSection | None = Field(default=None, examples=['{value: "hidden"}'])

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in dict(self).values()) != 1:
            raise refusal("not one method", f"write one of {_METHODS}")
        return self

    def method(self) -> Method | None:
        """None for `token`, which only detectors have."""
        if self.partial is not None:
            return Partial(self.partial.keep_first, self.partial.keep_last)
        if self.pseudonym is not None:
            return Pseudonym(self.pseudonym.key)
        if self.fixed is not None:
            return Fixed(self.fixed.value)
        if self.word == "redact":
            return Redact()
        return Null() if self.word == "null" else None


def _method_words(value: Any) -> Any:
    if value is None:
        value = "null"  # a plain `method: null` is YAML's null
    if isinstance(value, str):
        if value not in _WORDS:
            raise refusal(f"`{value}` is not a method", f"{closest(value, _WORDS)}write one of {_METHODS}")
        return {"word": value}
    if isinstance(value, dict) and "word" in value:
        raise refusal("`word` is not a method", f"write one of {_METHODS}")
    return value


class Unless(Section):
    roles: Names = Field(examples=["[dba]"])


class MaskSection(Section):
    name: Name = Field(examples=["contact-data"])
    columns: Columns | None = Field(default=None, examples=['["shop.customers.email"]'])
    detect: Texts | None = Field(default=None, examples=["[credit_card, email]"])
    json_paths: (
        Annotated[tuple[Annotated[Text, patterned(JsonPath.parse)], ...], Field(min_length=1)] | None
    ) = Field(default=None, alias="json", examples=['["$..email"]'])
    on: Annotated[tuple[Literal["response", "request"], ...], Field(min_length=1)] | None = Field(
        default=None, examples=["[response, request]"]
    )
    method: Annotated[MethodSection | None, BeforeValidator(_method_words)] = Field(
        default=None, examples=["redact"]
    )
    unless: Unless | None = Field(default=None, examples=["{roles: [dba]}"])
    targets: Targets | None = Field(default=None, examples=["{labels: {env: prod}}"])
    uses: Annotated[tuple[Literal["filter", "join", "group", "order"], ...], Field(min_length=1)] | None = (
        Field(default=None, examples=["[join]"])
    )

    @model_validator(mode="after")
    def _masks_one_thing(self) -> Self:
        kinds = {"columns": self.columns, "json": self.json_paths, "detect": self.detect}
        given = [key for key, value in kinds.items() if value is not None]
        if len(given) != 1:
            raise refusal("a mask of nothing, or of two things", "give one of `columns`, `json` and `detect`")
        if self.method is None and self.detect is None:
            raise refusal(
                "missing", f"add `method`, as in `method: redact`, one of {_METHODS}", at=("method",)
            )
        if self.method_or_token.word == "token" and self.detect is None:
            raise refusal("`token` is a method of detectors only", f"write one of {_METHODS}", at=("method",))
        if self.uses is not None and self.columns is None:
            raise refusal("columns have uses, and this mask has none", "remove `uses`", at=("uses",))
        if self.on is not None and self.columns is not None:
            raise refusal(
                "a column is masked in answers", "remove `on`: it is for `json` and `detect`", at=("on",)
            )
        protocol = self.targets.protocol if self.targets is not None else None
        if self.json_paths is not None and protocol not in (None, "http"):
            raise refusal(
                f"can never match: `json` on targets that speak {protocol}",
                "remove `protocol`, or make it http",
                at=("targets", "protocol"),
            )
        return self

    @property
    def method_or_token(self) -> MethodSection:
        """The method; of detectors `token` where none is written."""
        return MethodSection(word="token") if self.method is None else self.method


class TargetedBudget(BudgetSection):
    targets: Targets | None = Field(default=None, examples=["{names: [models]}"])

    @model_validator(mode="after")
    def _is_for_models(self) -> Self:
        protocol = self.targets.protocol if self.targets is not None else None
        if protocol not in (None, "http"):
            raise refusal(
                f"can never count: there are no models on targets that speak {protocol}",
                "remove `protocol`, or make it http",
                at=("targets", "protocol"),
            )
        return self


class PolicySections(Section):
    version: Literal[1] = Field(examples=["1"])
    roles: Annotated[dict[Name, Role], Field(min_length=1)] = Field(examples=["{analyst: {groups: [data]}}"])
    access: Annotated[tuple[Access, ...], Field(min_length=1)]
    rules: tuple[Rule, ...] = ()
    masks: tuple[MaskSection, ...] = ()
    detectors: OwnDetectors | None = Field(
        default=None, examples=['{employee_number: {pattern: "E-[0-9]{6}"}}']
    )
    budgets: tuple[TargetedBudget, ...] = ()

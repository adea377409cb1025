"""The `ssh` section of a rule, key by key, and each pattern in it: what can match nothing is a fault.

`docs/policy.md` is the reference for people; keep the two together. Called by `policy.sections`.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Section, closest, refusal
from policy.section_types import Text, patterned
from policy.ssh_rules.addresses import AddressPattern
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import FILE_VERBS, PathPattern

_SHOWN_VERBS = "read, write, list, stat, setstat, mkdir, rmdir, remove, rename, link, or `*` for all"


def _verb(text: str) -> str:
    if text != "*" and text not in FILE_VERBS:
        raise refusal(
            f"`{text}` is not a file operation",
            f"{closest(text.lower(), FILE_VERBS)}file operations are {_SHOWN_VERBS}",
        )
    return text


def _subsystem(text: str) -> str:
    if not text.isprintable() or " " in text or "/" in text:
        raise refusal(
            f"`{text}` is not the name of a subsystem", "write a name, as in `netconf`, or a glob of one"
        )
    return text


def _only_true(value: bool) -> bool:
    if not value:
        raise refusal(
            "a rule cannot be about the absence of something",
            "write `true`, or remove the key: what no rule allows is denied",
        )
    return value


def _address_to_listen(text: str) -> AddressPattern:
    return AddressPattern(text, to_listen=True)


Yes = Annotated[bool, AfterValidator(_only_true)]
Commands = Annotated[tuple[Annotated[Text, patterned(CommandPattern)], ...], Field(min_length=1)]
Paths = Annotated[tuple[Annotated[Text, patterned(PathPattern)], ...], Field(min_length=1)]
Verbs = Annotated[tuple[Annotated[Text, AfterValidator(_verb)], ...], Field(min_length=1)]
Subsystems = Annotated[tuple[Annotated[Text, AfterValidator(_subsystem)], ...], Field(min_length=1)]
Forwards = Annotated[tuple[Annotated[Text, patterned(AddressPattern)], ...], Field(min_length=1)]
Listens = Annotated[tuple[Annotated[Text, patterned(_address_to_listen)], ...], Field(min_length=1)]


class SshMatcher(Section):
    shell: Yes | None = Field(default=None, examples=["true"])
    exec: Commands | None = Field(default=None, examples=['["git-upload-pack *"]'])
    redirects: Paths | None = Field(default=None, examples=['["/tmp/*"]'])
    subsystems: Subsystems | None = Field(default=None, examples=["[netconf]"])
    files: Verbs | None = Field(default=None, examples=["[read, list, stat]"])
    paths: Paths | None = Field(default=None, examples=['["/srv/www/**"]'])
    forward: Forwards | None = Field(default=None, examples=['["db.internal:5432"]'])
    listen: Listens | None = Field(default=None, examples=['["localhost:8080"]'])
    agent: Yes | None = Field(default=None, examples=["true"])
    x11: Yes | None = Field(default=None, examples=["true"])

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if all(value is None for value in dict(self).values()):
            raise refusal(
                "says nothing about what it matches",
                'give `shell: true`, `exec` (["*"] is every command), `paths`, `forward`, ...',
            )
        if self.redirects is not None and self.exec is None:
            raise refusal(
                "redirections without commands",
                "add `exec`: only a command that the rule is about can redirect",
                at=("redirects",),
            )
        return self

"""`identity`: how a certificate, a key or a token becomes a subject.

Used by `proxyd.identity`, and by `proxyd.references`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Section, refusal
from proxyd.config.fields import PublicKey, SecretSource, Some, refuse_twice
from proxyd.config.issuers import Issuer

MAX_SUBJECT_NAME = 255


class CertificateGroups(Section):
    """`from`: the fields whose values become groups. `map`: the groups that such a value stands for."""

    sources: tuple[Literal["o", "ou"], ...] = Field(default=("o", "ou"), alias="from")
    map: dict[str, tuple[str, ...]] = Field(default={})


class CertificateIdentity(Section):
    """`name`: the first of these fields that the certificate has is the subject's name."""

    name: Some[Literal["san_uri", "san_email", "cn"]] = ("san_uri", "san_email", "cn")
    groups: CertificateGroups = CertificateGroups()


class SshCertificateIdentity(Section):
    """`name`: what of a certificate is the subject's name. `principals`: what they are, logins or groups."""

    name: Literal["key_id", "principal"] = "key_id"
    principals: Literal["logins", "groups"] = "logins"


def _subject_name(value: str) -> str:
    if _SUBJECT_NAME.fullmatch(value) is None:
        raise refusal(
            "not the name of a person",
            f"write printable text without blanks, at most {MAX_SUBJECT_NAME} characters, as `alice@example.com`",
        )
    return value


_SUBJECT_NAME = re.compile(rf"[!-~\u00a1-\U0010ffff]{{1,{MAX_SUBJECT_NAME}}}")


class Person(Section):
    """Who a key belongs to. `groups` and `claims` go also to who comes with a certificate of that name."""

    name: Annotated[str, AfterValidator(_subject_name)] = Field(examples=["alice@example.com"])
    groups: tuple[str, ...] = ()
    claims: dict[str, str | list[str]] = Field(default={})
    keys: tuple[PublicKey, ...] = ()
    totp: SecretSource | None = None


class Identity(Section):
    certificates: CertificateIdentity = CertificateIdentity()
    ssh_certificates: SshCertificateIdentity = SshCertificateIdentity()
    people: tuple[Person, ...] = ()
    issuers: tuple[Issuer, ...] = ()

    @model_validator(mode="after")
    def _a_key_is_of_one_person(self) -> Self:
        refuse_twice("person", ("people",), [person.name for person in self.people])
        owners: dict[str, str] = {}
        for index, person in enumerate(self.people):
            for number, key in enumerate(person.keys):
                owner = owners.setdefault(key, person.name)
                if owner != person.name or key in person.keys[:number]:
                    raise refusal(
                        f"this key is one of `{owner}` already",
                        "a key says who somebody is: keep it in one place, and give everybody their own",
                        at=("people", index, "keys", number),
                    )
        return self

    @model_validator(mode="after")
    def _an_issuer_stands_once(self) -> Self:
        refuse_twice("issuer", ("issuers",), [issuer.name for issuer in self.issuers])
        urls = [issuer.issuer for issuer in self.issuers]
        for index, url in enumerate(urls):
            if url in urls[:index]:
                raise refusal(
                    f"tokens of {url} are spoken of already",
                    "keep one entry for each issuer, with all its `audiences`",
                    at=("issuers", index, "issuer"),
                )
        return self

    def person(self, name: str) -> Person | None:
        return next((person for person in self.people if person.name == name), None)

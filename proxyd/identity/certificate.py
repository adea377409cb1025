"""A client certificate made into a subject.

Owns which of a certificate's names becomes the subject's name, which become groups, and what a name may
look like. Never decides whether the certificate is genuine: it has been verified by then
(`proxyd.tls_contexts`). Called by the doors after the TLS handshake.

A name is refused, not repaired: two systems that repair a name differently see two people, and a NUL or a
line feed in it has fooled parsers, logs and policies before.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from policy.facts import Subject

MAX_NAME_CHARS: Final = 256
MAX_NAMES: Final = 64  # of one kind in one certificate

NAME_SOURCES: Final = ("san_uri", "san_email", "cn")
GROUP_SOURCES: Final = ("o", "ou")

# https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md sections 2.1 to 2.4
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}((?:/[A-Za-z0-9._-]+)+)")
_URI_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")


class IdentityError(Exception):
    """Nobody can be named by this certificate: `what` is wrong, `why` it matters, what to do `next`."""

    def __init__(self, what: str, why: str, next_step: str) -> None:
        super().__init__(f"{what}: {why}; {next_step}")
        self.what = what
        self.why = why
        self.next = next_step


class CertificateRules(msgspec.Struct, frozen=True):
    """How certificates name people.

    name: the kinds of name that may become the subject's, the first that a certificate has wins ("san_uri",
    "san_email", "cn"). groups_from: whose values are group names ("o", "ou"). groups_map: for such a value,
    the groups that it stands for instead; values that are not listed keep their own name. Compared exactly,
    case included.
    """

    name: tuple[str, ...] = NAME_SOURCES
    groups_from: tuple[str, ...] = GROUP_SOURCES
    groups_map: Mapping[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        _check_sources("name", self.name, NAME_SOURCES)
        _check_sources("groups_from", self.groups_from, GROUP_SOURCES)
        if not self.name:
            raise ValueError("name: list at least one of " + ", ".join(NAME_SOURCES))


def _check_sources(field: str, given: Sequence[str], known: Sequence[str]) -> None:
    for source in given:
        if source not in known:
            raise ValueError(f"{field}: {source!r} is unknown; known are {', '.join(known)}")


def subject_from_certificate(certificate: x509.Certificate, rules: CertificateRules) -> Subject:
    """The subject that `certificate` names under `rules`. Raises IdentityError.

    `claims` has every name of the certificate: lists `cn`, `o`, `ou`, `san_uri`, `san_email`, `san_dns`
    (left out when empty), and the texts `serial` (hexadecimal) and `issuer` (RFC 4514). `expires_at` is
    notAfter in Unix seconds.
    """
    names = _names_of(certificate)
    return Subject(
        name=_subject_name(names, rules.name),
        groups=_groups(names, rules),
        claims=_claims(certificate, names),
        method="certificate",
        expires_at=certificate.not_valid_after_utc.timestamp(),
    )


def _names_of(certificate: x509.Certificate) -> dict[str, tuple[str, ...]]:
    """Every name, by kind, each of them checked: a bad one that is not used now would be used by a later
    rule.
    """
    try:
        names = {
            "cn": _attributes(certificate.subject, NameOID.COMMON_NAME),
            "o": _attributes(certificate.subject, NameOID.ORGANIZATION_NAME),
            "ou": _attributes(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
            **_alternative_names(certificate),
        }
    except (ValueError, UnicodeError, x509.DuplicateExtension) as exc:
        raise IdentityError(
            "the certificate's names cannot be read",
            f"its encoding is faulty ({exc})",
            "have the certificate issued again",
        ) from exc
    for kind, values in names.items():
        _check_names(kind, values)
    return names


def _attributes(name: x509.Name, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    values = (attribute.value for attribute in name.get_attributes_for_oid(oid))
    return tuple(value if isinstance(value, str) else value.decode("utf-8") for value in values)


def _alternative_names(certificate: x509.Certificate) -> dict[str, tuple[str, ...]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    return {
        "san_uri": tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        "san_email": tuple(names.get_values_for_type(x509.RFC822Name)),
        "san_dns": tuple(names.get_values_for_type(x509.DNSName)),
    }


_TITLES: Final = {
    "cn": "common name",
    "o": "organization",
    "ou": "organizational unit",
    "san_uri": "URI name",
    "san_email": "e-mail name",
    "san_dns": "DNS name",
}


def _check_names(kind: str, values: Sequence[str]) -> None:
    title = _TITLES[kind]
    if len(values) > MAX_NAMES:
        raise IdentityError(
            f"the certificate has {len(values)} values of {title}",
            f"more than {MAX_NAMES} are not looked at",
            "issue it with fewer names",
        )
    for value in values:
        problem = problem_with_name(value)
        if not problem and kind.startswith("san_") and not value.isascii():
            problem = "is not ASCII"  # RFC 5280 section 4.2.1.6 makes these IA5String
        if problem:
            raise IdentityError(
                f"the certificate's {title} {_shown(value)} {problem}",
                "such a name can be read as another one in logs and policies",
                "issue the certificate with a plain name",
            )


def problem_with_name(value: str) -> str:
    """What is wrong with a name of somebody, as the end of a sentence; "" when nothing is."""
    if not value.strip():
        return "is empty"
    if len(value) > MAX_NAME_CHARS:
        return f"is longer than {MAX_NAME_CHARS} characters"
    if value != value.strip():
        return "begins or ends with white space"
    if value.isascii() and value.isprintable():
        return ""
    # Cc and Cf: control characters (NUL, line feed) and invisible ones that turn the writing direction; Zl,
    # Zp: line ends by another name; Cs, Co, Cn: no characters at all.
    if any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in value):
        return "holds control or invisible characters"
    if unicodedata.normalize("NFC", value) != value:
        return "is not in Unicode normal form C"
    return ""


def _shown(value: str) -> str:
    return ascii(value[:64])


def _subject_name(names: Mapping[str, tuple[str, ...]], sources: Iterable[str]) -> str:
    for source in sources:
        values = names.get(source, ())
        if len(values) > 1:
            raise IdentityError(
                f"the certificate has {len(values)} values of {_TITLES[source]}",
                "it does not say which of them the caller is",
                "issue it with one, or name another source first in identity.certificates.name",
            )
        if values:
            _check_form(source, values[0])
            return values[0]
    wanted = ", ".join(_TITLES[source] for source in sources)
    raise IdentityError(
        "the certificate names nobody",
        f"it has none of: {wanted}",
        "issue it with such a name, or change identity.certificates.name",
    )


def _check_form(source: str, value: str) -> None:
    match source:
        case "san_uri" if value.lower().startswith("spiffe:"):
            _check_spiffe(value)
        case "san_uri" if not _URI_SCHEME.fullmatch(value):
            raise _bad_form(source, value, "is no URI", "write SCHEME:REST")
        case "san_email" if not _EMAIL.fullmatch(value):
            raise _bad_form(source, value, "is no e-mail address", "write NAME@DOMAIN")
        case _:
            pass


def _check_spiffe(value: str) -> None:
    found = _SPIFFE.fullmatch(value)
    # Dots would let two spellings name one workload, or climb out of a path.
    if found is None or any(segment in (".", "..") for segment in found[1].split("/")):
        raise _bad_form("san_uri", value, "is no SPIFFE ID of a workload", "write spiffe://TRUST-DOMAIN/PATH")


def _bad_form(source: str, value: str, what: str, next_step: str) -> IdentityError:
    return IdentityError(
        f"the certificate's {_TITLES[source]} {_shown(value)} {what}",
        "a name in a doubtful form is not guessed at",
        next_step,
    )


def _groups(names: Mapping[str, tuple[str, ...]], rules: CertificateRules) -> tuple[str, ...]:
    groups: dict[str, None] = {}
    for source in rules.groups_from:
        for value in names.get(source, ()):
            groups.update(dict.fromkeys(rules.groups_map.get(value, (value,))))
    return tuple(groups)


def _claims(
    certificate: x509.Certificate, names: Mapping[str, tuple[str, ...]]
) -> dict[str, str | list[str]]:
    claims: dict[str, str | list[str]] = {kind: list(values) for kind, values in names.items() if values}
    claims["serial"] = f"{certificate.serial_number:x}"
    claims["issuer"] = certificate.issuer.rfc4514_string()
    return claims

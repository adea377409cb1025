"""What the issuers of tokens refer to: their authorities' files, and, when a command asks, their keys.

`check_documents` and `check_files` are called by `proxyd.references.material`; `ask` by `proxyd check` alone: a daemon
starts and reloads whether an issuer answers or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import trio

from policy.located_yaml import Fault, Located
from policy.located_yaml import Path as DocumentPath
from proxyd.config import Config, Issuer, PostgresListener
from proxyd.identity.oidc.documents import AnotherIssuer, FetchError, fetch_keys, tls_context
from proxyd.references.findings import Findings
from proxyd.settings_files import SettingsError


def check_documents(found: Findings) -> None:
    """What can be said without opening any other file."""
    issuers = found.config.identity.issuers
    takes_tokens = [listener.takes("token") for listener in found.config.listeners]
    if issuers and not any(takes_tokens):
        found.warn(
            ("identity", "issuers"),
            "no listener's `factors` ask for a token, so nobody can come with one",
            "add `[token]` to a listener's `factors`, or remove the issuers",
        )
    for index, issuer in enumerate(issuers):
        _shared_names(found, index, issuer, issuers[:index])
    for index, listener in enumerate(found.config.listeners):
        if isinstance(listener, PostgresListener):
            _way_of_asking(found, ("listeners", index, "token_method"), listener)


def _shared_names(found: Findings, index: int, issuer: Issuer, earlier: Sequence[Issuer]) -> None:
    for other in earlier:
        if issuer.name_prefix == other.name_prefix:
            found.warn(
                ("identity", "issuers", index, "name_prefix"),
                f"`{other.name}` and `{issuer.name}` may give the same name to different people",
                "give one a `name_prefix`, as `partner:`, or let roles ask for the claim `issuer_name`",
            )


def _way_of_asking(found: Findings, path: DocumentPath, listener: PostgresListener) -> None:
    issuers = found.config.identity.issuers
    if listener.token_method != "oauthbearer":  # noqa: S105 (a way of asking)
        return
    if not listener.takes("token"):
        found.warn(path, "no combination of `factors` asks for a token", "remove it, or add `[token]`")
    elif len(issuers) > 1:
        found.warn(
            path,
            f"clients that ask where tokens come from are told of `{issuers[0].name}` alone",
            "put the issuer first whose tokens people should get",
        )


def check_files(found: Findings) -> None:
    for index, issuer in enumerate(found.config.identity.issuers):
        found.load(("identity", "issuers", index), issuer, partial(tls_context, issuer))


def ask(config: Config, located: Located) -> tuple[Fault, ...]:
    """Warnings about issuers that do not give their keys now. Waits for each at most its `timeout`."""
    issuers = config.identity.issuers
    return trio.run(_ask_all, issuers, located.fault) if issuers else ()


async def _ask_all(
    issuers: Sequence[Issuer], fault: Callable[[DocumentPath, str, str], Fault]
) -> tuple[Fault, ...]:
    warnings: list[Fault] = []

    async def ask_one(index: int, issuer: Issuer) -> None:
        place: DocumentPath = ("identity", "issuers", index, "issuer")
        try:
            context, _ = tls_context(issuer)
            found = await fetch_keys(issuer, context)
            if found.lack:
                raise FetchError(found.lack)
        except (FetchError, SettingsError) as error:
            remedy = (
                "tokens of this issuer are refused until it gives its keys: check address, `ca` and network"
            )
            if isinstance(error, AnotherIssuer) and error.named:
                remedy = f"its tokens are refused: write `issuer: {error.named}`, letter by letter, if that is meant"
            warnings.append(fault(place, str(error), remedy))

    async with trio.open_nursery() as nursery:
        for index, issuer in enumerate(issuers):
            nursery.start_soon(ask_one, index, issuer)
    return tuple(sorted(warnings))

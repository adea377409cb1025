"""Credentials that are the same in every request, which fields they replace, and how they are read anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.located_yaml import parse, validate
from protocols.http.messages import RequestHead
from proxyd.config import HttpTarget
from proxyd.http_credentials import (
    CredentialUnavailable,
    Injected,
    Injector,
    TargetCredentialError,
    injected_into,
    injector_for,
    never_goes_on,
)
from tests.proxyd.documents import write_secret

REQUEST = RequestHead("GET", "/", "https", "api.internal", ())
KEYS = frozenset({"x-api-key", "api-key", "x-goog-api-key"})


def injector_of(directory: Path, login: str, more: str = "") -> Injector:
    text = f"name: api\nprotocol: http\nurl: https://api.internal\ntls: {{ca: system}}\n{more}\nlogins: [{login}]\n"
    target = validate(HttpTarget, parse(text, "target"), context={"directory": directory})
    return injector_for(target, target.logins[0])


LOGINS = [
    ("{name: a, bearer: {file: s}}", "tok-1", (("authorization", "Bearer tok-1"),), frozenset()),
    (
        "{name: a, basic: {user: gate, password: {file: s}}}",
        "open: sesame",
        (("authorization", "Basic Z2F0ZTpvcGVuOiBzZXNhbWU="),),
        frozenset(),
    ),
    (
        "{name: a, basic: {user: é, password: {file: s}}}",
        "x",
        (("authorization", "Basic w6k6eA=="),),
        frozenset(),
    ),
    (
        "{name: a, header: {name: X-Token, value: {file: s}}}",
        "one two",
        (("x-token", "one two"),),
        frozenset(),
    ),
    ("{name: a, header: {name: api-key, value: {file: s}}}", "k", (("api-key", "k"),), KEYS),
    ("{name: a, certificate: {certificate: c, key: k}}", "", (), frozenset()),
    ("{name: a, none: true}", "", (), frozenset()),
]


@pytest.mark.parametrize(("login", "secret", "headers", "removed"), LOGINS)
def test_what_is_injected(
    tmp_path: Path, login: str, secret: str, headers: tuple[tuple[str, str], ...], removed: frozenset[str]
) -> None:
    write_secret(tmp_path / "s", secret or "unused")
    injector = injector_of(tmp_path, login)
    assert injector.ready(REQUEST) == Injected(headers, removed)
    assert not injector.needs_body_hash
    injector.invalidate()
    assert injector.ready(REQUEST) == Injected(headers, removed)


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_key_of_the_client_never_reaches_a_provider_of_models(tmp_path: Path, api: str) -> None:
    write_secret(tmp_path / "s", "tok-1")
    injected = injector_of(tmp_path, "{name: a, bearer: {file: s}}", f"api: {api}").ready(REQUEST)
    assert injected is not None
    assert injected.removed == KEYS


async def test_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    write_secret(tmp_path / "s", "tok-1")
    injector = injector_of(tmp_path, "{name: a, bearer: {file: s}}")
    await injector.prepare()
    assert (await injected_into(injector, REQUEST)).headers == (("authorization", "Bearer tok-1"),)


FAULTS = [
    ("{name: a, bearer: {file: s}}", "tok 1", "holds a blank"),
    ("{name: a, bearer: {file: s}}", "tok\r\nHost: evil", "no header field has"),
    ("{name: a, bearer: {file: s}}", "tökén", "no header field has"),
    ("{name: a, header: {name: x-a, value: {file: s}}}", " padded", "no header field has"),
    ("{name: a, header: {name: x-a, value: {file: s}}}", "a\x7fb", "no header field has"),
    ("{name: a, bearer: {file: missing}}", "unused-secret", "cannot be opened"),
    (
        "{name: a, bearer: {environment: PROXYD_TEST_UNSET}}",
        "unused-secret",
        "environment variable PROXYD_TEST_UNSET is not set",
    ),
]


@pytest.mark.parametrize(("login", "secret", "words"), FAULTS)
def test_a_secret_that_cannot_be_used(tmp_path: Path, login: str, secret: str, words: str) -> None:
    write_secret(tmp_path / "s", secret)
    with pytest.raises(TargetCredentialError) as caught:
        injector_of(tmp_path, login)
    assert words in str(caught.value)
    assert secret not in str(caught.value)


def test_a_reload_takes_the_new_secret_or_keeps_the_old(tmp_path: Path) -> None:
    write_secret(tmp_path / "s", "tok-1")
    injector = injector_of(tmp_path, "{name: a, bearer: {file: s}}")
    assert not injector.reload()
    write_secret(tmp_path / "s", "tok-2")
    assert injector.ready(REQUEST) == Injected((("authorization", "Bearer tok-1"),))
    assert injector.reload()
    assert injector.ready(REQUEST) == Injected((("authorization", "Bearer tok-2"),))
    (tmp_path / "s").unlink()
    with pytest.raises(TargetCredentialError):
        injector.reload()
    assert injector.ready(REQUEST) == Injected((("authorization", "Bearer tok-2"),))


def test_what_is_injected_does_not_show_itself(tmp_path: Path) -> None:
    write_secret(tmp_path / "s", "tok-1")
    injected = injector_of(tmp_path, "{name: a, bearer: {file: s}}").ready(REQUEST)
    assert repr(injected) == "Injected(authorization)"


NEVER = [
    "authorization",
    "proxy-authorization",
    "proxyd-login",
    "proxyd_login",
    "x-forwarded-for",
    "x_forwarded_host",
]
NEVER += ["x-http-method-override", "x_method_override", "x-original-url", "x-rewrite-url", "x-host"]
NEVER += ["forwarded", "x-real-ip", "client-cert", "x-ssl-client-dn", "remote_user"]


@pytest.mark.parametrize("name", NEVER)
def test_fields_that_never_go_on(name: str) -> None:
    assert never_goes_on(name)


@pytest.mark.parametrize(
    "name", ["cookie", "accept", "x-api-key", "x-amz-target", "x-request-id", "x-forward", "via"]
)
def test_fields_that_go_on(name: str) -> None:
    assert not never_goes_on(name)


class Restless:
    """Its credential has always ended when it is looked at."""

    needs_body_hash = False

    def __init__(self) -> None:
        self.prepared = 0

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        return None

    async def prepare(self) -> None:
        self.prepared += 1

    def invalidate(self) -> None:
        raise AssertionError("nobody asked for that")

    def reload(self) -> bool:
        return False


async def test_it_is_not_fetched_for_ever() -> None:
    injector = Restless()
    with pytest.raises(CredentialUnavailable, match="ends before it can be used"):
        await injected_into(injector, REQUEST)
    assert injector.prepared == 3

"""The gateway's own tokens: when they are fetched, kept, renewed and dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from policy.located_yaml import parse, validate
from protocols.http.messages import RequestHead
from proxyd.config import HttpOAuth2
from proxyd.http_credentials import CredentialUnavailable, oauth2
from proxyd.http_credentials.oauth2 import OAuth2Injector
from proxyd.http_credentials.token_endpoint import Token, TokenEndpointError
from proxyd.settings_files import SettingsError
from tests.proxyd.documents import write_secret

REQUEST = RequestHead("GET", "/", "https", "api.internal", ())
LOGIN = "{token_url: 'http://127.0.0.1:1/token', client_id: gate, client_secret: {file: secret}}"


class Endpoint:
    """In place of the network: hands out tokens T1, T2... that last for `lifetime_s`, after `delay_s`."""

    def __init__(self) -> None:
        self.lifetime_s = 300.0
        self.delay_s = 1.0
        self.is_down = False
        self.secrets: list[str] = []

    async def fetch(self, login: HttpOAuth2, client_secret: str, trusted: object) -> Token:
        self.secrets.append(client_secret)
        number = len(self.secrets)
        await trio.sleep(self.delay_s)
        if self.is_down:
            raise TokenEndpointError("status 503")
        return Token(f"T{number}", self.lifetime_s)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    made = Endpoint()
    monkeypatch.setattr(oauth2, "fetch_token", made.fetch)
    return made


@pytest.fixture
def injector(tmp_path: Path, endpoint: Endpoint) -> OAuth2Injector:
    write_secret(tmp_path / "secret", "hush")
    login = validate(HttpOAuth2, parse(LOGIN, "login"), context={"directory": tmp_path})
    return OAuth2Injector(login, frozenset({"x-api-key"}))


def shown(injector: OAuth2Injector) -> str | None:
    injected = injector.ready(REQUEST)
    return None if injected is None else injected.headers[0][1]


async def test_a_token_is_fetched_once_and_kept(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    assert injector.ready(REQUEST) is None
    await injector.prepare()
    injected = injector.ready(REQUEST)
    assert injected is not None
    assert injected.headers == (("authorization", "Bearer T1"),)
    assert injected.removed == {"x-api-key"}
    await injector.prepare()
    assert endpoint.secrets == ["hush"]
    assert not injector.needs_body_hash


async def test_a_crowd_is_one_fetch(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(injector.prepare)
    assert shown(injector) == "Bearer T1"
    assert len(endpoint.secrets) == 1


async def test_one_who_gives_up_leaves_the_fetch_to_the_next(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(injector.prepare)
            await trio.sleep(0.1)
        await injector.prepare()
    assert shown(injector) == "Bearer T1"
    with trio.move_on_after(0.5):
        injector._state.kept = None
        await injector.prepare()
    await injector.prepare()
    assert shown(injector) == "Bearer T3"


@pytest.mark.parametrize(
    ("lifetime_s", "renewed_after_s"),
    [(300.0, 270.0), (3600.0, 3540.0), (10.0, 9.0), (0.5, 0.45)],
)
async def test_it_is_renewed_before_it_ends(
    injector: OAuth2Injector,
    endpoint: Endpoint,
    lifetime_s: float,
    renewed_after_s: float,
    autojump_clock: MockClock,
) -> None:
    endpoint.lifetime_s = lifetime_s
    await injector.prepare()
    await trio.sleep(renewed_after_s * 0.99)
    assert shown(injector) == "Bearer T1"
    await trio.sleep(renewed_after_s * 0.011)
    assert shown(injector) is None
    await injector.prepare()
    assert shown(injector) == "Bearer T2"


async def test_only_one_waits_for_the_renewal(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    await injector.prepare()
    await trio.sleep(275)
    async with trio.open_nursery() as nursery:
        assert shown(injector) is None
        nursery.start_soon(injector.prepare)
        await trio.sleep(endpoint.delay_s / 2)
        assert shown(injector) == "Bearer T1"
    assert shown(injector) == "Bearer T2"


async def test_an_endpoint_that_fails_costs_nothing_while_the_token_lasts(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    await injector.prepare()
    endpoint.is_down = True
    await trio.sleep(275)
    assert shown(injector) is None
    await injector.prepare()
    assert shown(injector) == "Bearer T1"
    assert len(endpoint.secrets) == 2
    await injector.prepare()
    assert len(endpoint.secrets) == 2  # left alone for a moment
    await trio.sleep(oauth2.AFTER_FAILURE_S)
    assert shown(injector) is None
    await injector.prepare()
    assert len(endpoint.secrets) == 3
    await trio.sleep(25)
    with pytest.raises(CredentialUnavailable) as caught:
        await injector.prepare()
    assert caught.value.reason == "token endpoint http://127.0.0.1:1/token: status 503"
    assert caught.value.told == "The gateway could not get its own token for this target."
    assert "Try again in a moment" in caught.value.hint
    assert not caught.value.is_request
    assert shown(injector) is None


async def test_a_crowd_before_a_dead_endpoint_is_one_fetch(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    endpoint.is_down = True
    refused = 0

    async def ask() -> None:
        nonlocal refused
        with pytest.raises(CredentialUnavailable):
            await injector.prepare()
        refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert (refused, len(endpoint.secrets)) == (20, 1)
    endpoint.is_down = False
    await trio.sleep(oauth2.AFTER_FAILURE_S)
    await injector.prepare()
    assert shown(injector) == "Bearer T2"


async def test_a_token_that_the_target_refuses_is_dropped_but_not_each_time(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    await injector.prepare()
    injector.invalidate()
    assert shown(injector) == "Bearer T1"  # it is new: another would be refused just so
    await trio.sleep(oauth2.YOUNGEST_DROPPED_S)
    injector.invalidate()
    assert shown(injector) is None
    injector.invalidate()
    await injector.prepare()
    assert shown(injector) == "Bearer T2"


async def test_a_new_secret_drops_the_token(
    injector: OAuth2Injector, endpoint: Endpoint, tmp_path: Path, autojump_clock: MockClock
) -> None:
    await injector.prepare()
    assert not injector.reload()
    assert shown(injector) == "Bearer T1"
    write_secret(tmp_path / "secret", "new")
    assert injector.reload()
    assert shown(injector) is None
    await injector.prepare()
    assert endpoint.secrets == ["hush", "new"]
    (tmp_path / "secret").unlink()
    with pytest.raises(SettingsError):
        injector.reload()
    assert shown(injector) == "Bearer T2"


async def test_a_new_secret_in_the_middle_of_a_fetch(
    injector: OAuth2Injector, endpoint: Endpoint, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(injector.prepare)
        await trio.sleep(0.5)
        write_secret(tmp_path / "secret", "new")
        assert injector.reload()
    assert shown(injector) is None
    await injector.prepare()
    assert shown(injector) == "Bearer T2"
    assert endpoint.secrets == ["hush", "new"]


async def test_nothing_shows_a_secret(
    injector: OAuth2Injector, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    await injector.prepare()
    for text in (repr(injector.ready(REQUEST)), repr(injector._state), repr(injector._login)):
        assert "T1" not in text
        assert "hush" not in text


AUTHORITY_FAULTS: list[tuple[str, str]] = [
    ("not PEM", "holds no readable PEM certificate"),
    ("", "holds no readable PEM certificate"),
]


@pytest.mark.parametrize(("content", "words"), AUTHORITY_FAULTS)
def test_an_authority_that_is_none(tmp_path: Path, content: str, words: str) -> None:
    write_secret(tmp_path / "secret", "hush")
    (tmp_path / "ca.crt").write_text(content)
    text = LOGIN.replace("http:", "https:").replace("client_id", "ca: ca.crt, client_id")
    login = validate(HttpOAuth2, parse(text, "login"), context={"directory": tmp_path})
    with pytest.raises(SettingsError, match=words):
        OAuth2Injector(login, frozenset())

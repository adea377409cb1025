"""SSH logins with a token: alone, with other factors, in pieces, and what must not count."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from proxyd.identity.oidc import Tokens
from proxyd.identity.ssh import SshAuthenticator, SshLogin, Step
from proxyd.identity.ssh_settings import Factor, SshLoginSettings
from proxyd.identity.ssh_token import PIECE_CHARS
from proxyd.ssh_public_keys import SshSettingsError
from tests.proxyd.identity.oidc.issuing import NOW, URL, Bench, claims, jwk, key_set, token
from tests.proxyd.identity.ssh_logins import (
    CERTIFICATE,
    PEER,
    PUBLIC_KEY,
    USER,
    Door,
    person,
    prove,
    type_code,
)
from tests.ssh_pki import Authority, Key

TOKEN = (Factor.TOKEN,)
CERTIFICATE_AND_TOKEN = (Factor.CERTIFICATE, Factor.TOKEN)
KEY_AND_TOKEN = (Factor.PUBLIC_KEY, Factor.TOKEN)
ALICE = "alice@example.com"


@dataclass
class House:
    """A door that takes tokens, with the issuer's keys put in by hand."""

    door: Door
    bench: Bench = field(default_factory=lambda: Bench(keys=key_set(jwk("rsa"), jwk("Ed25519"))))
    tokens: Tokens = field(init=False)

    def __post_init__(self) -> None:
        self.door.now = NOW
        self.tokens = self.bench.tokens()

    def begin(self) -> SshLogin:
        settings = self.door.login_settings()
        made = SshAuthenticator(settings, lambda: self.door.now, self.door.totp, self.tokens)
        return made.begin(PEER)


def house(tmp_path: Path, *factors: tuple[Factor, ...], **more: Any) -> House:
    return House(Door(tmp_path, factors=factors, **more))


def certified(made: House, key: Key, name: str = ALICE) -> bytes:
    blob: bytes = made.door.authority.certify(
        key, key_id=name, principals=["deploy"], valid_after=int(NOW) - 60, valid_before=int(NOW) + 60
    )
    return blob


def show(login: SshLogin, *pieces: str, user: str = USER) -> Step:
    """Ask for a prompt and answer it, as often as it goes on."""
    if login.prompts(user) is None:
        return Step.FAILED
    step = Step.UNFINISHED
    for piece in pieces:
        assert step is Step.UNFINISHED
        step = login.answer(user, [piece])
    return step


def test_a_token_alone(tmp_path: Path) -> None:
    login = house(tmp_path, TOKEN).begin()
    assert login.methods(USER) == ("keyboard-interactive",)
    assert login.prompts(USER) == (("Token: ", False),)
    assert login.answer(USER, [token()]) is Step.DONE
    assert login.identity is not None
    assert login.identity.logins is None
    subject = login.identity.subject
    assert (subject.name, subject.groups, subject.method) == (ALICE, ("data",), "oidc")
    assert subject.claims["issuer"] == URL
    assert subject.expires_at == NOW + 600
    assert "factors" not in subject.claims


def test_blanks_around_a_pasted_token(tmp_path: Path) -> None:
    assert show(house(tmp_path, TOKEN).begin(), f"  {token()}\r\n") is Step.DONE


def test_either_a_certificate_or_a_token(tmp_path: Path) -> None:
    made = house(tmp_path, CERTIFICATE, TOKEN)
    assert made.begin().methods(USER) == ("publickey", "keyboard-interactive")
    assert show(made.begin(), token()) is Step.DONE
    key = Key.new()
    assert prove(made.begin(), key, certified(made, key)) is Step.DONE


@pytest.mark.parametrize("is_token_first", [False, True])
def test_a_certificate_and_a_token(tmp_path: Path, is_token_first: bool) -> None:
    order = CERTIFICATE_AND_TOKEN[::-1] if is_token_first else CERTIFICATE_AND_TOKEN
    made, key = house(tmp_path, order), Key.new()
    login, blob = made.begin(), certified(made, key)
    steps = [lambda: prove(login, key, blob), lambda: show(login, token())]
    first, second = steps[::-1] if is_token_first else steps
    assert first() is Step.PARTIAL
    assert login.identity is None
    assert second() is Step.DONE
    assert login.identity is not None
    assert login.identity.logins == {"deploy"}
    subject = login.identity.subject
    assert subject.groups == ("data",)
    assert subject.expires_at == NOW + 60  # the certificate's
    assert subject.claims["factors"] == [factor.value for factor in order]
    assert subject.claims["issuer"] == URL
    assert {"key_id", "serial", "authority", "keys", "principals"} <= subject.claims.keys()


def test_a_key_and_a_token(tmp_path: Path) -> None:
    key = Key.new()
    made = house(tmp_path, KEY_AND_TOKEN, people=[person(ALICE, key, groups=["old"])])
    login = made.begin()
    assert prove(login, key) is Step.PARTIAL
    assert login.methods(USER) == ("keyboard-interactive",)
    assert show(login, token()) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.groups == ("data",)  # as at every door


def test_a_token_and_a_code(tmp_path: Path) -> None:
    key = Key.new()
    made = house(tmp_path, (Factor.TOKEN, Factor.TOTP), people=[person(ALICE, key)], with_codes=[ALICE])
    login = made.begin()
    assert show(login, token()) is Step.PARTIAL
    assert login.prompts(USER) == (("One-time code: ", False),)
    assert login.answer(USER, [made.door.code()]) is Step.DONE
    other = made.begin()
    assert show(other, token(claims(email="bob@example.com"))) is Step.FAILED
    assert "has no one-time codes" in other.reason


@pytest.mark.parametrize("is_token_first", [False, True])
def test_factors_of_two_people(tmp_path: Path, is_token_first: bool) -> None:
    order = CERTIFICATE_AND_TOKEN[::-1] if is_token_first else CERTIFICATE_AND_TOKEN
    made, key = house(tmp_path, order), Key.new()
    login, blob = made.begin(), certified(made, key, "bob@example.com")
    steps = [lambda: prove(login, key, blob), lambda: show(login, token())]
    first, second = steps[::-1] if is_token_first else steps
    assert first() is Step.PARTIAL
    assert second() is Step.FAILED
    assert "after a factor of" in login.reason
    assert login.identity is None


def test_a_code_is_no_token_and_the_reverse(tmp_path: Path) -> None:
    key = Key.new()
    made = house(
        tmp_path, (Factor.PUBLIC_KEY, Factor.TOTP), TOKEN, people=[person(ALICE, key)], with_codes=[ALICE]
    )
    assert show(made.begin(), made.door.code()) is Step.FAILED
    login = made.begin()
    assert prove(login, key) is Step.PARTIAL
    assert type_code(login, token()) is Step.FAILED
    assert type_code(login, made.door.code(1)) is Step.DONE


BAD = {
    "nothing": "",
    "a password": "hunter2",
    "expired": token(claims(exp=NOW - 1)),
    "another key's": token(kind="rsa/forger"),
    "for others": token(claims(aud="mail")),
}


@pytest.mark.parametrize("secret", [pytest.param(secret, id=name) for name, secret in BAD.items()])
def test_tokens_that_do_not_count(tmp_path: Path, secret: str) -> None:
    login = house(tmp_path, TOKEN).begin()
    assert show(login, secret) is Step.FAILED
    assert login.identity is None
    assert login.failures == 1
    assert login.notice.startswith("proxyd: the token")
    assert not secret or secret not in login.notice + login.reason
    assert show(login, token()) is Step.DONE
    assert login.notice == ""


def test_a_notice_is_for_who_caused_it(tmp_path: Path) -> None:
    login = house(tmp_path, TOKEN).begin()
    show(login, "hunter2")
    assert login.notice
    login.methods("root+web1")
    assert not login.notice


def test_tokens_that_do_not_count_are_counted(tmp_path: Path) -> None:
    made = house(tmp_path, TOKEN, settings={"attempts": 3})
    login = made.begin()
    for _ in range(3):
        assert show(login, "hunter2") is Step.FAILED
    assert login.methods(USER) == ()
    assert login.prompts(USER) is None
    assert login.answer(USER, [token()]) is Step.FAILED


def test_a_key_that_is_not_here_is_asked_for_and_fails_this_attempt(tmp_path: Path) -> None:
    made = house(tmp_path, TOKEN)
    (source,) = made.tokens._sources.values()
    assert not source._wake.is_set()
    login = made.begin()
    later = token(kind="rsa/2", key_id="rsa/2")
    assert show(login, later) is Step.FAILED
    assert "try again" in login.notice
    assert source._wake.is_set()
    source._succeeded(key_set(jwk("rsa/2")))
    assert show(login, later) is Step.DONE


def test_a_token_that_ends_before_the_last_factor(tmp_path: Path) -> None:
    made, key = house(tmp_path, CERTIFICATE_AND_TOKEN[::-1]), Key.new()
    login, blob = made.begin(), certified(made, key)
    assert show(login, token(claims(exp=NOW + 5))) is Step.PARTIAL
    made.door.now = NOW + 5
    assert prove(login, key, blob) is Step.FAILED
    assert "the token has expired meanwhile" in login.reason


# --- pieces -----------------------------------------------------------------------------------------------


def pieces_of(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]


@pytest.mark.parametrize("size", [0, 700, 1500, 5000, 10_000])
def test_a_long_token_in_pieces(tmp_path: Path, size: int) -> None:
    login = house(tmp_path, TOKEN).begin()
    text = token(claims(padding="x" * size))
    assert show(login, *pieces_of(text)) is Step.DONE


def test_a_token_that_just_fills_the_answer(tmp_path: Path) -> None:
    """Its end is not to be seen: one more answer says that there is nothing more."""
    made = (
        token(
            claims(padding="x" * size),
            kind="Ed25519",
            algorithm="EdDSA",
            key_id="Ed25519",
            headers={"cty": "y" * more},
        )
        for size in range(400, 600)
        for more in range(3)
    )
    text = next(text for text in made if len(text) == PIECE_CHARS)
    login = house(tmp_path, TOKEN).begin()
    assert login.prompts(USER) is not None
    assert login.answer(USER, [text]) is Step.UNFINISHED
    assert login.further_prompts() == (("Token, from character 1024 on: ", False),)
    assert login.answer(USER, [""]) is Step.DONE


def test_pieces_are_bounded(tmp_path: Path) -> None:
    login = house(tmp_path, TOKEN).begin()
    assert login.prompts(USER) is not None
    count = 0
    while login.answer(USER, ["x" * PIECE_CHARS]) is Step.UNFINISHED:
        count += 1
        assert count < 20
    assert "longer than 16 KiB" in login.reason


@pytest.mark.parametrize("between", ["methods of another", "prompts", "offer", "prompts of another"])
def test_pieces_belong_together(tmp_path: Path, between: str) -> None:
    """Whatever comes between two pieces, the second is not put behind the first."""
    made = house(tmp_path, TOKEN, PUBLIC_KEY, people=[person(ALICE, Key.new())])
    login = made.begin()
    first, *rest = pieces_of(token(claims(padding="x" * 1000)))
    assert login.prompts(USER) is not None
    assert login.answer(USER, [first]) is Step.UNFINISHED
    user = USER
    match between:
        case "methods of another":
            login.methods("root+web1")
            user = "root+web1"
        case "prompts":
            login.prompts(USER)
        case "offer":
            login.offer(USER, b"", Key.new().blob)
        case _:
            user = "root+web1"
            login.prompts(user)
    for piece in rest:
        assert login.answer(user, [piece]) is Step.FAILED
    assert login.identity is None


@pytest.mark.parametrize("responses", [[], ["a", "b"], ["", "", ""]])
def test_one_answer_to_one_question(tmp_path: Path, responses: list[str]) -> None:
    login = house(tmp_path, TOKEN).begin()
    login.prompts(USER)
    assert login.answer(USER, responses) is Step.FAILED


def test_an_answer_needs_its_question(tmp_path: Path) -> None:
    login = house(tmp_path, TOKEN).begin()
    assert login.answer(USER, [token()]) is Step.FAILED
    assert login.further_prompts() == ()


# --- settings ---------------------------------------------------------------------------------------------


def test_two_tokens_in_one_combination() -> None:
    with pytest.raises(SshSettingsError, match="stands twice"):
        SshLoginSettings(factors=((Factor.TOKEN, Factor.TOKEN),))


def test_without_issuers_no_token_counts(tmp_path: Path) -> None:
    made = house(tmp_path, TOKEN)
    made = replace(made, bench=Bench(issuers=()))
    assert show(made.begin(), token()) is Step.FAILED
    door = Door(tmp_path, authority=Authority.new(), factors=[TOKEN])
    login = door.begin()
    assert show(login, token()) is Step.FAILED
    assert "ask its operators" in login.notice

"""Logins of SSH clients: keys, codes, their combinations, and that nothing but the attempt that succeeds counts.

What a certificate may and may not is in test_ssh_certificate_logins.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.identity.ssh import MAX_LOOKS, SshLogin, Step
from proxyd.identity.ssh_settings import Factor
from tests.proxyd.identity.ssh_logins import (
    CERTIFICATE,
    CERTIFICATE_AND_CODE,
    KEY_AND_CODE,
    PEER,
    PUBLIC_KEY,
    USER,
    Door,
    person,
    prove,
    type_code,
)
from tests.ssh_pki import Authority, Key, SecurityKey, option, request, string

CA = Authority.new()
ALICE, ALICE_2, BOB, NOBODY = Key.new(), Key.new("ecdsa-sha2-nistp256"), Key.new(), Key.new()
PEOPLE = [person("alice", ALICE, ALICE_2, groups=["data"]), person("bob", BOB)]
OTHER_USER = "root+web1"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """Plain keys let in."""
    return Door(tmp_path, CA, [PUBLIC_KEY], PEOPLE)


@pytest.fixture
def strict(tmp_path: Path) -> Door:
    """A key and then a code."""
    return Door(tmp_path, CA, [KEY_AND_CODE], PEOPLE, with_codes=["alice", "bob"])


def name_of(login: SshLogin) -> str | None:
    return None if login.identity is None else login.identity.subject.name


# --- plain keys ---------------------------------------------------------------------------------------


def test_a_key_makes_a_subject(door: Door) -> None:
    login = door.begin()
    assert login.methods(USER) == ("publickey",)
    assert login.offer(USER, b"ssh-ed25519", ALICE.blob)
    assert prove(login, ALICE) is Step.DONE
    identity = login.identity
    assert identity is not None
    assert (identity.subject.name, identity.subject.groups) == ("alice", ("data",))
    assert (identity.subject.method, identity.subject.expires_at) == ("ssh_key", None)
    assert identity.subject.claims == {"keys": [ALICE.key.get_fingerprint()]}
    assert identity.logins is None
    assert identity.forced_command is None
    assert (identity.may_use_pty, identity.may_forward, identity.may_use_agent, identity.may_use_x11) == (
        True,
    ) * 4


@pytest.mark.parametrize("key", [ALICE_2, Key.new("ssh-rsa"), Key.new("ecdsa-sha2-nistp521"), SecurityKey()])
def test_kinds_of_keys(key: Key | SecurityKey, door: Door) -> None:
    door.people = [person("alice", key)]
    assert prove(door.begin(), key) is Step.DONE


def test_a_token_that_was_not_touched(door: Door) -> None:
    token = SecurityKey(flags=0)
    door.people = [person("alice", token)]
    login = door.begin()
    assert prove(login, token) is Step.FAILED
    assert "not touched" in login.reason


def test_nobodys_key(door: Door) -> None:
    login = door.begin()
    assert not login.offer(USER, b"", NOBODY.blob)
    assert prove(login, NOBODY) is Step.FAILED
    assert "nobody's key" in login.reason
    assert name_of(login) is None


def test_the_first_reasons_and_the_last_are_kept(door: Door) -> None:
    """OpenSSH tries a certificate, then its key alone, then whatever its agent has."""
    login = door.begin()
    keys = [Key.new() for _ in range(6)]
    for key in (*keys, keys[-1]):
        assert not login.offer(USER, b"", key.blob)
    kept = [*keys[:3], keys[-1]]
    assert login.reasons == [f"offered key: {key.key.get_fingerprint()} is nobody's key" for key in kept]


@pytest.mark.parametrize("revoked", [ALICE.line, ALICE.key.get_fingerprint()])
def test_a_revoked_key(revoked: str, door: Door) -> None:
    door.revoked = revoked
    login = door.begin()
    assert not login.offer(USER, b"", ALICE.blob)
    assert prove(login, ALICE) is Step.FAILED
    assert prove(login, ALICE_2) is Step.DONE


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\0\0\0\1",
        b"\xff" * 100,
        string("ssh-ed25519"),
        string("ssh-ed25519") + string(b"short"),
        ALICE.blob + b"\0",
        string("ssh-ed25519") + string(b"\0" + ALICE.blob[-32:]),
        string("no-such-kind") + string(b"x"),
        string("ssh-rsa") + string(b"\1\0\1") + string(b""),
        string("ssh-rsa") + string(b"\1\0\1") + string(b"\0" + b"\xff" * 256) + b"x",
        string("ssh-rsa") + string(b"\1\0\1") + string(b"\x7f" + b"\xfe" * 10_000),
        string("ecdsa-sha2-nistp256") + string("nistp384") + string(b"\4" + bytes(64)),
        string("ecdsa-sha2-nistp256") + string("nistp256") + string(b"\4" + bytes(64)),
        string("sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"\xff"),
        string("ssh-ed25519-cert-v01@openssh.com") + bytes(4),
        string("x509v3-ssh-rsa") + bytes(8),
        b"\0\1\0\0" + bytes(70_000),
    ],
)
def test_keys_that_are_none(blob: bytes, door: Door) -> None:
    login = door.begin()
    assert not login.offer(USER, b"", blob)
    assert login.verify_key(USER, blob, request(USER, blob, "ssh-ed25519"), ALICE.sign(b"x")) is Step.FAILED
    assert login.reason.isprintable()
    assert len(login.reason) < 300


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    login = _LOGIN_DOOR.begin()
    assert not login.offer(USER, data, data)
    assert login.verify_key(USER, data, data, data) is Step.FAILED
    assert login.verify_key(USER, ALICE.blob, request(USER, ALICE.blob), data) is Step.FAILED
    assert login.verify_key(USER, ALICE.blob, data, ALICE.sign(data)) is Step.FAILED
    assert name_of(login) is None


# --- what was signed ----------------------------------------------------------------------------------

REQUEST = request(USER, ALICE.blob)


@pytest.mark.parametrize(
    "signed",
    [
        b"",
        REQUEST[:-1],
        REQUEST + b"x",
        request(OTHER_USER, ALICE.blob),
        request("Deploy+web1", ALICE.blob),
        request("deploy\uff0bweb1", ALICE.blob),  # what RFC 4013 makes into our user name
        request(USER, BOB.blob),
        request(USER, ALICE.blob, service="ssh-userauth"),
        request(USER, ALICE.blob, method="hostbased"),
        request(USER, ALICE.blob, has_signature=0),
        request(USER, ALICE.blob, has_signature=2),
        request(USER, ALICE.blob, algorithm="ssh-rsa"),
        request(USER, ALICE.blob, algorithm="ssh-ed25519-cert-v01@openssh.com"),
        request(USER, ALICE.blob, session=b""),
        request(USER, ALICE.blob)[4 + 32 :],  # without a session identifier
    ],
)
def test_a_signature_over_something_else(signed: bytes, door: Door) -> None:
    login = door.begin()
    assert login.verify_key(USER, ALICE.blob, signed, ALICE.sign(signed)) is Step.FAILED
    assert name_of(login) is None
    assert login.verify_key(USER, ALICE.blob, REQUEST, ALICE.sign(REQUEST)) is Step.DONE


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        BOB.sign(REQUEST),
        ALICE.sign(REQUEST + b"x"),
        ALICE.sign(REQUEST) + b"x",
        ALICE.sign(REQUEST)[:-1],
        string("ssh-ed25519") + string(b""),
        string("ssh-ed25519") + string(bytes(64)),
        string("ssh-rsa") + ALICE.sign(REQUEST)[15:],
        string("x" * 20_000),
    ],
)
def test_a_signature_that_is_none(signature: bytes, door: Door) -> None:
    login = door.begin()
    assert login.verify_key(USER, ALICE.blob, REQUEST, signature) is Step.FAILED
    assert name_of(login) is None


def test_sha1_signatures_and_other_hashes_are_refused(door: Door) -> None:
    key = Key.new("ssh-rsa")
    door.people = [person("alice", key)]
    login = door.begin()
    for algorithm in ("ssh-rsa", "ssh-rsa-sha224@ssh.com", "ssh-rsa-sha256@ssh.com", "rsa2048-sha256"):
        signed = request(USER, key.blob, algorithm)
        assert login.verify_key(USER, key.blob, signed, key.sign(signed, algorithm)) is Step.FAILED
        assert not login.offer(USER, algorithm.encode(), key.blob)
    assert prove(login, key) is Step.DONE


# --- an offer proves nothing --------------------------------------------------------------------------


def test_an_offer_is_no_proof(door: Door) -> None:
    login = door.begin()
    for _ in range(3):
        assert login.offer(USER, b"", ALICE.blob)
    assert login.identity is None
    assert login.methods(USER) == ("publickey",)
    assert login.failures == 0


def test_identity_is_of_the_key_that_signed(door: Door) -> None:
    login = door.begin()
    assert login.offer(USER, b"", ALICE.blob)
    assert prove(login, BOB) is Step.DONE
    assert name_of(login) == "bob"


def test_identity_is_of_the_key_that_signed_after_a_failed_signature(door: Door) -> None:
    login = door.begin()
    assert login.verify_key(USER, ALICE.blob, REQUEST, BOB.sign(REQUEST)) is Step.FAILED
    assert login.offer(USER, b"", ALICE.blob)
    assert prove(login, BOB) is Step.DONE
    assert name_of(login) == "bob"


def test_a_certificates_rights_do_not_stay_after_its_attempt_failed(door: Door) -> None:
    door.factors = [CERTIFICATE, PUBLIC_KEY]
    free = CA.certify(ALICE, "alice")
    bound = CA.certify(BOB, "bob", options={"force-command": option("id")}, extensions=())
    login = door.begin()
    assert login.offer(USER, b"", free)
    signed = request(USER, free)
    assert login.verify_key(USER, free, signed, BOB.sign(signed)) is Step.FAILED
    assert prove(login, BOB, bound) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.name == "bob"
    assert login.identity.forced_command == "id"
    assert not login.identity.may_use_pty


def test_a_signature_by_another_certificate_of_the_same_key(door: Door) -> None:
    """The one that was signed for counts, not the one that was offered."""
    door.factors = [CERTIFICATE]
    first = CA.certify(ALICE, "alice", options={"force-command": option("id")})
    second = CA.certify(ALICE, "alice")
    login = door.begin()
    signed = request(USER, first)
    assert login.verify_key(USER, second, signed, ALICE.sign(signed)) is Step.FAILED
    assert "another key" in login.reason


# --- combinations -------------------------------------------------------------------------------------


def test_a_key_and_then_a_code(strict: Door) -> None:
    login = strict.begin()
    assert login.methods(USER) == ("publickey",)
    assert login.prompts(USER) is None
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.identity is None
    assert login.methods(USER) == ("keyboard-interactive",)
    assert login.prompts(USER) == (("One-time code: ", False),)
    assert login.answer(USER, [strict.code()]) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.name == "alice"
    assert login.identity.subject.method == "ssh_key"


def test_a_code_is_no_first_factor(strict: Door) -> None:
    login = strict.begin()
    assert login.answer(USER, [strict.code()]) is Step.FAILED
    assert login.offer(USER, b"", ALICE.blob)
    assert login.prompts(USER) is None
    assert login.answer(USER, [strict.code()]) is Step.FAILED


def test_the_same_key_does_not_count_twice(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert prove(login, ALICE) is Step.FAILED
    assert prove(login, ALICE_2) is Step.FAILED
    assert login.identity is None
    assert type_code(login, strict.code()) is Step.DONE


TWO_KEYS = (Factor.PUBLIC_KEY, Factor.PUBLIC_KEY)
CERTIFICATE_AND_KEY = (Factor.CERTIFICATE, Factor.PUBLIC_KEY)


def test_two_keys_of_one_person(door: Door) -> None:
    door.factors = [TWO_KEYS]
    login = door.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert not login.offer(USER, b"", ALICE.blob)
    assert prove(login, ALICE) is Step.FAILED
    assert "same key" in login.reason
    assert prove(login, BOB) is Step.FAILED
    assert "after a factor of 'alice'" in login.reason
    assert prove(login, ALICE_2) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.claims["keys"] == [
        ALICE.key.get_fingerprint(),
        ALICE_2.key.get_fingerprint(),
    ]


def test_a_certificate_and_the_key_in_it(door: Door) -> None:
    door.factors = [CERTIFICATE_AND_KEY]
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, "alice", extensions=())) is Step.PARTIAL
    assert prove(login, ALICE) is Step.FAILED
    assert "same key" in login.reason
    assert prove(login, ALICE_2) is Step.DONE
    assert login.identity is not None
    assert not login.identity.may_use_pty  # the certificate's word, though a plain key was the last factor


def test_a_certificate_of_one_and_the_key_of_another(door: Door) -> None:
    door.factors = [CERTIFICATE_AND_KEY]
    login = door.begin()
    assert prove(login, NOBODY, CA.certify(NOBODY, "bob")) is Step.PARTIAL
    assert prove(login, ALICE) is Step.FAILED
    assert prove(login, BOB) is Step.DONE
    assert name_of(login) == "bob"


def test_the_code_of_another_person(tmp_path: Path) -> None:
    """Who has no secret of their own cannot come in by the one of somebody else."""
    door = Door(tmp_path, CA, [KEY_AND_CODE], PEOPLE, with_codes=["bob"])
    login = door.begin()
    assert not login.offer(USER, b"", ALICE.blob)
    assert prove(login, ALICE) is Step.FAILED
    assert "no one-time codes" in login.reason
    assert prove(login, BOB) is Step.PARTIAL
    assert type_code(login, door.code()) is Step.DONE
    assert name_of(login) == "bob"


def test_a_certificate_and_a_code(tmp_path: Path) -> None:
    door = Door(tmp_path, CA, [CERTIFICATE_AND_CODE], PEOPLE, with_codes=["alice"])
    login = door.begin()
    assert prove(login, NOBODY, CA.certify(NOBODY, "carol")) is Step.FAILED
    assert prove(login, NOBODY, CA.certify(NOBODY, "alice", extensions=("permit-pty",))) is Step.PARTIAL
    assert type_code(login, door.code()) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.groups == ("data",)
    assert login.identity.subject.method == "ssh_certificate"
    assert not login.identity.may_forward


def test_a_certificate_that_ends_before_the_code(tmp_path: Path) -> None:
    door = Door(tmp_path, CA, [CERTIFICATE_AND_CODE], PEOPLE, with_codes=["alice"])
    login = door.begin()
    blob = CA.certify(NOBODY, "alice", valid_before=int(door.now) + 10)
    assert prove(login, NOBODY, blob) is Step.PARTIAL
    door.now += 20
    assert type_code(login, door.code()) is Step.FAILED
    assert "expired meanwhile" in login.reason
    assert login.identity is None


def test_either_of_two_combinations(tmp_path: Path) -> None:
    door = Door(tmp_path, CA, [CERTIFICATE, KEY_AND_CODE], PEOPLE, with_codes=["alice"])
    first = door.begin()
    assert prove(first, NOBODY, CA.certify(NOBODY, "alice")) is Step.DONE
    second = door.begin()
    assert prove(second, ALICE) is Step.PARTIAL
    # The other combination is not continued from here.
    assert second.methods(USER) == ("keyboard-interactive",)
    assert prove(second, NOBODY, CA.certify(NOBODY, "alice")) is Step.FAILED
    assert type_code(second, door.code()) is Step.DONE


# --- user names ---------------------------------------------------------------------------------------


def test_another_user_name_forgets_what_was_proved(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.methods(OTHER_USER) == ("publickey",)
    assert login.prompts(OTHER_USER) is None
    assert login.answer(OTHER_USER, [strict.code()]) is Step.FAILED
    # And coming back does not bring it back.
    assert login.methods(USER) == ("publickey",)
    assert login.prompts(USER) is None
    assert login.answer(USER, [strict.code()]) is Step.FAILED
    assert login.identity is None


def test_an_answer_to_the_prompt_of_another_user_name(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.prompts(USER) is not None
    assert login.answer(OTHER_USER, [strict.code()]) is Step.FAILED
    assert login.identity is None


def test_an_offer_under_another_user_name_forgets_too(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    login.offer(OTHER_USER, b"", BOB.blob)
    assert login.prompts(USER) is None


def test_a_mere_question_under_another_user_name_forgets_too(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.methods(OTHER_USER) == ("publickey",)
    assert login.methods(USER) == ("publickey",)
    assert login.prompts(USER) is None


def test_factors_of_two_people_under_two_user_names(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert prove(login, BOB, user=OTHER_USER) is Step.PARTIAL
    assert type_code(login, strict.code(), user=OTHER_USER) is Step.DONE
    assert name_of(login) == "bob"


# --- failures leave no trace --------------------------------------------------------------------------


def test_a_failed_second_factor_does_not_undo_the_first(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert type_code(login, "000000") is Step.FAILED
    assert type_code(login, strict.code()) is Step.DONE


@pytest.mark.parametrize("responses", [[], ["", ""], ["000000", "000000"], ["x" * 100_000]])
def test_answers_that_are_none(responses: list[str], strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.prompts(USER) is not None
    assert login.answer(USER, responses) is Step.FAILED
    assert len(login.reason) < 200


def test_each_prompt_takes_one_answer(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.prompts(USER) is not None
    assert login.answer(USER, ["000000"]) is Step.FAILED
    assert login.answer(USER, [strict.code()]) is Step.FAILED
    assert "not asked for" in login.reason


def test_after_it_is_done_nothing_counts(door: Door) -> None:
    login = door.begin()
    assert prove(login, ALICE) is Step.DONE
    assert prove(login, BOB) is Step.FAILED
    assert prove(login, BOB, user=OTHER_USER) is Step.FAILED
    assert not login.offer(USER, b"", BOB.blob)
    assert not login.offer(OTHER_USER, b"", BOB.blob)
    assert login.prompts(USER) is None
    assert login.methods(USER) == ()
    assert login.methods(OTHER_USER) == ()
    assert name_of(login) == "alice"


# --- codes --------------------------------------------------------------------------------------------


def test_a_code_is_not_taken_twice_whichever_the_connection_or_listener(strict: Door) -> None:
    first = strict.begin()
    assert prove(first, ALICE) is Step.PARTIAL
    assert type_code(first, strict.code()) is Step.DONE
    second = strict.begin()  # another authenticator, which shares the guard as those of two listeners do
    assert prove(second, ALICE) is Step.PARTIAL
    assert type_code(second, strict.code()) is Step.FAILED
    strict.now += 30
    assert type_code(second, strict.code(-1)) is Step.FAILED
    assert type_code(second, strict.code()) is Step.DONE


def test_guessing_codes_over_many_connections(strict: Door) -> None:
    for _ in range(5):
        login = strict.begin()
        assert prove(login, ALICE) is Step.PARTIAL
        assert type_code(login, "000000") is Step.FAILED
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert login.prompts(USER) is None
    assert "has to wait 60 s" in login.reason
    strict.now += 60
    assert type_code(login, strict.code()) is Step.DONE


def test_a_prompt_from_before_the_wait_is_not_answered_during_it(strict: Door) -> None:
    waiting = strict.begin()
    assert prove(waiting, ALICE) is Step.PARTIAL
    assert waiting.prompts(USER) is not None
    for _ in range(5):
        login = strict.begin()
        assert prove(login, ALICE) is Step.PARTIAL
        assert type_code(login, "000000") is Step.FAILED
    assert waiting.answer(USER, [strict.code()]) is Step.FAILED


def test_the_code_is_not_in_the_reason(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    assert type_code(login, "918273") is Step.FAILED
    assert "918273" not in login.reason


# --- limits -------------------------------------------------------------------------------------------


def test_attempts(door: Door) -> None:
    door.settings = {"attempts": 3}
    login = door.begin()
    for count in range(1, 4):
        assert login.methods(USER) == ("publickey",)
        assert prove(login, NOBODY) is Step.FAILED
        assert login.failures == count
    assert login.methods(USER) == ()
    assert login.methods(OTHER_USER) == ()
    assert prove(login, ALICE) is Step.FAILED
    assert not login.offer(USER, b"", ALICE.blob)
    assert "too many" in login.reason
    assert login.identity is None


def test_codes_and_keys_and_user_names_share_the_attempts(strict: Door) -> None:
    strict.settings = {"attempts": 3}
    login = strict.begin()
    assert prove(login, NOBODY, user=OTHER_USER) is Step.FAILED
    assert prove(login, ALICE) is Step.PARTIAL
    assert type_code(login, "000000") is Step.FAILED
    assert type_code(login, "000000") is Step.FAILED
    assert login.methods(USER) == ()
    assert type_code(login, strict.code()) is Step.FAILED


def test_offers_are_not_attempts_but_have_a_limit(door: Door) -> None:
    login = door.begin()
    for _ in range(MAX_LOOKS):
        login.offer(USER, b"", NOBODY.blob)
    assert login.failures == 0
    assert login.methods(USER) == ()
    assert prove(login, ALICE) is Step.FAILED


def test_prompts_have_a_limit(strict: Door) -> None:
    login = strict.begin()
    assert prove(login, ALICE) is Step.PARTIAL
    asked = sum(login.prompts(USER) is not None for _ in range(2 * MAX_LOOKS))
    assert asked < MAX_LOOKS
    assert login.methods(USER) == ()


def test_proofs_without_end_have_a_limit(strict: Door) -> None:
    login = strict.begin()
    steps = [prove(login, ALICE, user=f"u{number}+web1") for number in range(MAX_LOOKS + 1)]
    assert steps == [Step.PARTIAL] * MAX_LOOKS + [Step.FAILED]


@pytest.mark.parametrize(
    "user", ["", "a/b", "../x+web1", "deploy+web1\n", "-x", "x" * 10_000, "a+b+c", "\ud800"]
)
def test_user_names_that_are_refused(user: str, door: Door) -> None:
    login = door.begin()
    assert login.methods(user) == ("publickey",)
    assert not login.offer(user, b"", ALICE.blob)
    signed = request(user.encode("utf-8", "surrogatepass"), ALICE.blob)
    assert login.verify_key(user, ALICE.blob, signed, ALICE.sign(signed)) is Step.FAILED
    assert login.reason.isprintable()
    assert len(login.reason) < 300


_LOGIN_DOOR: Door


@pytest.fixture(autouse=True, scope="module")
def _door_for_hypothesis(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _LOGIN_DOOR  # noqa: PLW0603
    _LOGIN_DOOR = Door(tmp_path_factory.mktemp("door"), CA, [PUBLIC_KEY, CERTIFICATE], PEOPLE)


def test_an_unknown_peer(door: Door) -> None:
    for peer in ("", "nonsense", PEER):
        assert prove(door.begin(peer), ALICE) is Step.DONE

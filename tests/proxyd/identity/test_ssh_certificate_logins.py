"""Logins with certificates: which are taken, what they let their holder do, and the table of those that are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxyd.identity.ssh import Step
from tests.proxyd.identity.ssh_logins import CERTIFICATE, PUBLIC_KEY, USER, Door, person, prove
from tests.ssh_pki import FOREVER, HOST, HOUR, Authority, Key, Keygen, SecurityKey, line, option, request

NOW = int(time.time())
CA = Authority.new()
ALICE = Key.new()
NAME = "alice@example.com"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path, CA)


def test_a_certificate_makes_a_subject(door: Door) -> None:
    door.people = [person(NAME, groups=["data", "oncall"])]
    blob = CA.certify(ALICE, NAME, ["deploy", "root"], serial=42)
    login = door.begin()
    assert login.methods(USER) == ("publickey",)
    assert login.identity is None
    assert prove(login, ALICE, blob) is Step.DONE
    identity = login.identity
    assert identity is not None
    subject = identity.subject
    assert (subject.name, subject.groups, subject.method) == (NAME, ("data", "oncall"), "ssh_certificate")
    assert subject.expires_at is not None
    assert NOW < subject.expires_at <= time.time() + HOUR
    assert subject.claims == {
        "keys": [_fingerprint(ALICE)],
        "key_id": NAME,
        "principals": ["deploy", "root"],
        "serial": "42",
        "authority": _fingerprint(CA.key),
    }
    assert identity.logins == {"deploy", "root"}
    assert identity.forced_command is None
    assert (identity.may_use_pty, identity.may_forward, identity.may_use_agent, identity.may_use_x11) == (
        True,
    ) * 4
    assert login.methods(USER) == ()


def _fingerprint(key: Key) -> str:
    return key.key.get_fingerprint()


# --- certificates that are refused --------------------------------------------------------------------

OTHER = Authority.new()
SMALL_CA = Authority.new("ssh-rsa", 1024)
RSA_CA = Authority.new("ssh-rsa")
SMALL = Key.new("ssh-rsa", 1024)
DSA = Key.new("ssh-dss", 1024)

# A user certificate for Mallory, who then signs with that key and shows the certificate as the authority's key.
MALLORY = Authority.new()
MALLORYS = CA.certify(MALLORY.key, "mallory@example.com", ["deploy"])


def _flipped(blob: bytes, at: int) -> bytes:
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


_GOOD = CA.certify(ALICE, NAME)

BAD = {
    "another authority": (OTHER.certify(ALICE, NAME), "not a trusted authority"),
    "the right authority's key, another's signature": (
        OTHER.certify(ALICE, NAME, signer_blob=CA.blob),
        "not this key's",
    ),
    "changed after it was signed": (_flipped(_GOOD, _GOOD.index(b"deploy")), "not this key's"),
    "a signature of zeros": (_GOOD[:-64] + bytes(64), "not this key's"),
    "expired": (CA.certify(ALICE, NAME, valid_before=NOW - 1), "expired"),
    "expired this second": (CA.certify(ALICE, NAME, valid_before=NOW), "expired"),
    "not yet valid": (CA.certify(ALICE, NAME, valid_after=NOW + HOUR), "valid only from"),
    "never valid": (CA.certify(ALICE, NAME, valid_after=FOREVER, valid_before=0), "valid only from"),
    "another principal": (CA.certify(ALICE, NAME, ["root"]), "not one of the certificate's principals"),
    "a principal that begins alike": (CA.certify(ALICE, NAME, ["deploy2"]), "not one of"),
    "a principal that ends alike": (CA.certify(ALICE, NAME, ["xdeploy"]), "not one of"),
    "a principal in other letters": (CA.certify(ALICE, NAME, ["Deploy"]), "not one of"),
    "a pattern as principal": (CA.certify(ALICE, NAME, ["*"]), "not one of"),
    "the whole user name as principal": (CA.certify(ALICE, NAME, [USER]), "not one of"),
    "no principals": (CA.certify(ALICE, NAME, []), "no principals"),
    "an empty principal": (CA.certify(ALICE, NAME, [""]), "not one of"),
    "a host certificate": (CA.certify(ALICE, NAME, kind=HOST), "host certificate"),
    "of type 0": (CA.certify(ALICE, NAME, kind=0), "unknown type"),
    "of type 3": (CA.certify(ALICE, NAME, kind=3), "unknown type"),
    "signed by a user's key": (MALLORY.certify(ALICE, NAME), "not a trusted authority"),
    "signed by a user's certificate": (
        MALLORY.certify(ALICE, NAME, signer_blob=MALLORYS),
        "not a trusted authority",
    ),
    "signed by itself": (Authority(ALICE).certify(ALICE, NAME), "not a trusted authority"),
    "an unknown critical option": (
        CA.certify(ALICE, NAME, options={"no-such-option": b""}),
        "critical option no-such-option",
    ),
    "an extension as critical option": (
        CA.certify(ALICE, NAME, options={"permit-pty": b""}),
        "critical option permit-pty",
    ),
    "a critical option twice": (
        CA.certify(ALICE, NAME, options=[("force-command", option("a")), ("force-command", option("b"))]),
        "twice",
    ),
    "an empty force-command": (
        CA.certify(ALICE, NAME, options={"force-command": option("")}),
        "force-command",
    ),
    "a force-command that is no text": (
        CA.certify(ALICE, NAME, options={"force-command": option("a\0b")}),
        "force-command",
    ),
    "more in force-command": (
        CA.certify(ALICE, NAME, options={"force-command": option("a") + option("b")}),
        "force-command",
    ),
    "another address": (
        CA.certify(ALICE, NAME, options={"source-address": option("198.51.100.0/24")}),
        "this address",
    ),
    "no address at all": (CA.certify(ALICE, NAME, options={"source-address": option("")}), "source-address"),
    "an address that is none": (
        CA.certify(ALICE, NAME, options={"source-address": option("192.0.2.7,nonsense")}),
        "source-address",
    ),
    "a network with host bits": (
        CA.certify(ALICE, NAME, options={"source-address": option("192.0.2.7/24")}),
        "source-address",
    ),
    "an extension with a value": (CA.certify(ALICE, NAME, extensions={"permit-pty": b"x"}), "permit-pty"),
    "verify-required of a key that cannot": (
        CA.certify(ALICE, NAME, options={"verify-required": b""}),
        "cannot verify",
    ),
    "for the authority's own key": (CA.certify(CA.key, NAME), "key of an authority"),
    "no key id": (CA.certify(ALICE, ""), "is empty"),
    "a key id with a line feed": (CA.certify(ALICE, "alice\nroot"), "control"),
    "a key id that turns the writing": (CA.certify(ALICE, "alice\u202e"), "invisible"),
    "a key id that is no text": (CA.certify(ALICE, b"\xff\xfe"), "UTF-8"),
    "a key id of 10 KB": (CA.certify(ALICE, "x" * 10_000), "longer"),
    "a principal that is no text": (CA.certify(ALICE, NAME, [b"\xff"]), "UTF-8"),
    "too many principals": (CA.certify(ALICE, NAME, [f"p{n}" for n in range(300)]), "principals"),
    "something behind it": (CA.certify(ALICE, NAME, trailing=b"x"), "follows"),
    "cut short": (_GOOD[:-1], "cut short"),
    "nothing but a name": (_GOOD[:36], "cut short"),
    "a short RSA key": (CA.certify(SMALL, NAME), "1024 bits"),
    "a DSA key": (CA.certify(DSA, NAME), "not accepted"),
}


@pytest.mark.parametrize(("blob", "reason"), BAD.values(), ids=BAD.keys())
def test_certificates_that_are_refused(blob: bytes, reason: str, door: Door) -> None:
    door.now = NOW
    login = door.begin()
    holder = {"a short RSA key": SMALL, "a DSA key": DSA}.get(_name_of(blob), ALICE)
    holder = CA.key if blob is BAD["for the authority's own key"][0] else holder
    assert not login.offer(USER, b"", blob)
    signed = request(USER, blob, holder.algorithm + "-cert-v01@openssh.com")
    assert login.verify_key(USER, blob, signed, holder.sign(signed)) is Step.FAILED
    assert reason in login.reason
    assert login.reason.isprintable()
    assert len(login.reason) < 600
    assert login.identity is None
    assert login.failures == 1


def _name_of(blob: bytes) -> str:
    return next(name for name, (each, _) in BAD.items() if each is blob)


def test_the_table_is_about_its_faults(door: Door) -> None:
    """The same holder with a certificate without fault comes in."""
    door.now = NOW
    assert prove(door.begin(), ALICE, _GOOD) is Step.DONE


@pytest.mark.parametrize(
    ("authority", "algorithm", "is_taken"),
    [
        (RSA_CA, "rsa-sha2-256", True),
        (RSA_CA, "rsa-sha2-512", True),
        (RSA_CA, "ssh-rsa", False),  # SHA-1
        (SMALL_CA, "rsa-sha2-512", False),
        (Authority.new("ecdsa-sha2-nistp384"), None, True),
    ],
)
def test_the_authoritys_signature(
    authority: Authority, algorithm: str | None, is_taken: bool, tmp_path: Path
) -> None:
    if authority is SMALL_CA:
        door = Door(tmp_path, CA)
        trusted = door.authenticator()
        object.__setattr__(trusted._trust, "authorities", frozenset({authority.blob}))
        login = trusted.begin("192.0.2.7")
    else:
        login = Door(tmp_path, authority).begin()
    blob = authority.certify(ALICE, NAME, signature_algorithm=algorithm)
    assert (prove(login, ALICE, blob) is Step.DONE) is is_taken, login.reason


# --- the holder's signature ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "algorithm", "signature", "is_taken"),
    [
        ("ssh-rsa", "rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512", True),
        ("ssh-rsa", "rsa-sha2-256-cert-v01@openssh.com", "rsa-sha2-256", True),
        ("ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-rsa", False),
        ("ssh-rsa", "rsa-sha2-256-cert-v01@openssh.com", "ssh-rsa", False),
        ("ssh-rsa", "rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256", False),
        ("ssh-rsa", "rsa-sha2-512", "rsa-sha2-512", False),
        ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256-cert-v01@openssh.com", None, True),
        ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521-cert-v01@openssh.com", None, True),
        ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384-cert-v01@openssh.com", None, False),
    ],
)
def test_algorithms(kind: str, algorithm: str, signature: str | None, is_taken: bool, door: Door) -> None:
    key = Key.new(kind)
    blob = CA.certify(key, NAME)
    signed = request(USER, blob, algorithm)
    login = door.begin()
    step = login.verify_key(USER, blob, signed, key.sign(signed, signature))
    assert (step is Step.DONE) is is_taken, login.reason


def test_an_offer_with_an_algorithm_that_would_be_refused(door: Door) -> None:
    key = Key.new("ssh-rsa")
    blob = CA.certify(key, NAME)
    login = door.begin()
    assert login.offer(USER, b"rsa-sha2-256-cert-v01@openssh.com", blob)
    assert not login.offer(USER, b"ssh-rsa-cert-v01@openssh.com", blob)
    assert not login.offer(USER, b"ssh-rsa", blob)
    assert not login.offer(USER, b"\xff\xfe\0", blob)


@pytest.mark.parametrize(
    ("flags", "options", "extensions", "is_taken"),
    [
        (0x01, {}, (), True),
        (0x05, {}, (), True),
        (0x00, {}, (), False),
        (0x04, {}, (), False),
        (0x00, {}, ("no-touch-required",), True),
        (0x05, {"verify-required": b""}, (), True),
        (0x01, {"verify-required": b""}, (), False),
        (0x04, {"verify-required": b""}, ("no-touch-required",), True),
        (0x01, {"verify-required": b"x"}, (), False),
    ],
)
def test_security_keys(
    flags: int, options: dict[str, bytes], extensions: Any, is_taken: bool, door: Door
) -> None:
    token = SecurityKey(flags=flags)
    blob = CA.certify(token, NAME, options=options, extensions=extensions)
    login = door.begin()
    assert (prove(login, token, blob) is Step.DONE) is is_taken, login.reason


# --- options and extensions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "peer", "is_taken"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("198.51.100.1,192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:198.51.100.7", False),
        ("2001:db8::/32", "2001:db8::7", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0", "2001:db8::7", False),
        ("0.0.0.0/0,::/0", "", False),  # over a Unix socket
        ("0.0.0.0/0", "client.example.com", False),
    ],
)
def test_source_address(listed: str, peer: str, is_taken: bool, door: Door) -> None:
    blob = CA.certify(ALICE, NAME, options={"source-address": option(listed)})
    login = door.begin(peer)
    assert (prove(login, ALICE, blob) is Step.DONE) is is_taken, login.reason


@pytest.mark.parametrize(
    "missing", ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"]
)
def test_what_no_extension_permits(missing: str, door: Door) -> None:
    names = ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"]
    blob = CA.certify(ALICE, NAME, extensions=[name for name in names if name != missing])
    login = door.begin()
    assert prove(login, ALICE, blob) is Step.DONE
    identity = login.identity
    assert identity is not None
    permitted = (identity.may_use_pty, identity.may_forward, identity.may_use_agent, identity.may_use_x11)
    assert permitted == tuple(name != missing for name in names)


def test_unknown_extensions_are_passed_over(door: Door) -> None:
    blob = CA.certify(ALICE, NAME, extensions={"login@github.com": b"\0\0\0\1x", "permit-user-rc": b""})
    login = door.begin()
    assert prove(login, ALICE, blob) is Step.DONE
    assert login.identity is not None
    assert not login.identity.may_use_pty


def test_a_forced_command(door: Door) -> None:
    blob = CA.certify(ALICE, NAME, options={"force-command": option("uptime -p")})
    login = door.begin()
    assert prove(login, ALICE, blob) is Step.DONE
    assert login.identity is not None
    assert login.identity.forced_command == "uptime -p"


def test_a_certificate_for_ever(door: Door) -> None:
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, NAME, valid_after=0, valid_before=FOREVER)) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.expires_at is None


# --- names and principals -----------------------------------------------------------------------------


def test_principals_as_groups(door: Door) -> None:
    door.settings = {"principals": "groups"}
    door.people = [person(NAME, groups=["oncall"])]
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, NAME, ["data", "oncall"])) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.groups == ("oncall", "data")
    assert login.identity.logins is None


def test_principals_as_groups_still_have_to_be_there(door: Door) -> None:
    door.settings = {"principals": "groups"}
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, NAME, [])) is Step.FAILED
    assert "no principals" in login.reason


def test_the_principal_as_name(door: Door) -> None:
    door.settings = {"name": "principal"}
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, "ticket 4711", ["deploy"])) is Step.DONE
    assert login.identity is not None
    assert login.identity.subject.name == "deploy"


def test_two_principals_are_no_name(door: Door) -> None:
    door.settings = {"name": "principal"}
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, NAME, ["deploy", "root"])) is Step.FAILED
    assert "2 principals" in login.reason


def test_a_user_name_without_a_target(door: Door) -> None:
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, NAME, ["deploy"]), user="deploy") is Step.DONE


@pytest.mark.parametrize(
    "user", ["deploy/web1", "deploy+web1\n", "deploy+../web1", "x" * 10_000, "", "deploy+web1+web2"]
)
def test_user_names_that_are_refused(user: str, door: Door) -> None:
    login = door.begin()
    blob = CA.certify(ALICE, NAME)
    assert not login.offer(user, b"", blob)
    assert prove(login, ALICE, blob, user=user) is Step.FAILED
    assert login.reason.isprintable()
    assert len(login.reason) < 300


# --- revocation and reload ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        lambda blob: ALICE.line,
        lambda blob: _fingerprint(ALICE),
        lambda blob: CA.line,
        lambda blob: _fingerprint(CA.key),
        line,
        lambda blob: "serial: 7",
        lambda blob: "serial: 5-9",
        lambda blob: f"id: {NAME}",
        lambda blob: f"# a comment\n\n  {ALICE.line}  \n",
    ],
)
def test_revoked(entry: Callable[[bytes], str], door: Door) -> None:
    blob = CA.certify(ALICE, NAME, serial=7)
    door.revoked = entry(blob)
    login = door.begin()
    assert not login.offer(USER, b"", blob)
    assert prove(login, ALICE, blob) is Step.FAILED
    assert "is revoked" in login.reason


def test_others_are_not_revoked(door: Door) -> None:
    door.revoked = f"{Key.new().line}\nserial: 8\nid: bob\n{OTHER.line}\n{DSA.line}\n"
    assert prove(door.begin(), ALICE, CA.certify(ALICE, NAME, serial=7)) is Step.DONE


def test_reload(door: Door) -> None:
    blob = CA.certify(ALICE, NAME)
    door.revoked = ""
    authenticator = door.authenticator()
    assert not authenticator.reload()
    before = authenticator.begin("192.0.2.7")
    (door.directory / "revoked").write_text(ALICE.line)
    assert authenticator.reload()
    assert prove(before, ALICE, blob) is Step.DONE  # a login is under the trust that it began with
    assert prove(authenticator.begin("192.0.2.7"), ALICE, blob) is Step.FAILED


@pytest.mark.parametrize(
    ("name", "content"), [("revoked", "nonsense"), ("user_ca.pub", ""), ("user_ca.pub", "nonsense")]
)
def test_a_bad_reload_changes_nothing(name: str, content: str, door: Door) -> None:
    from proxyd.ssh_public_keys import SshSettingsError

    door.revoked = ""
    authenticator = door.authenticator()
    (door.directory / name).write_text(content)
    with pytest.raises(SshSettingsError) as caught:
        authenticator.reload()
    assert str(door.directory / name) in str(caught.value)
    assert prove(authenticator.begin("192.0.2.7"), ALICE, CA.certify(ALICE, NAME)) is Step.DONE


# --- the real ssh-keygen ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("ca_kind", ["ed25519", "ecdsa", "rsa"])
def test_certificates_of_ssh_keygen(kind: str, ca_kind: str, tmp_path: Path) -> None:
    keygen = Keygen(tmp_path)
    ca, key = (
        keygen.key(name, each, 2048 if each == "rsa" else None)
        for name, each in (("ca", ca_kind), ("id", kind))
    )
    made = keygen.sign(
        ca, key.with_suffix(".pub"), NAME, "-n", "deploy,root", "-V", "-5m:+1h", "-z", "99",
        "-O", "source-address=192.0.2.0/24", "-O", "force-command=id", "-O", "no-x11-forwarding",
    )  # fmt: skip
    login = Door(tmp_path, Authority(keygen.load(ca))).begin()
    assert prove(login, keygen.load(key), keygen.blob(made)) is Step.DONE, login.reason
    identity = login.identity
    assert identity is not None
    assert identity.subject.name == NAME
    assert identity.subject.claims["serial"] == "99"
    assert identity.logins == {"deploy", "root"}
    assert identity.forced_command == "id"
    assert identity.may_use_pty
    assert not identity.may_use_x11


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-n", "deploy", "-V", "-2h:-1h"], "expired"),
        (["-n", "deploy", "-V", "+1h:+2h"], "valid only from"),
        (["-n", "root"], "not one of"),
        ([], "no principals"),
        (["-n", "deploy", "-h"], "host certificate"),
        (["-n", "deploy", "-O", "source-address=198.51.100.0/24"], "this address"),
        (["-n", "deploy", "-O", "critical:frobnicate=1"], "critical option frobnicate"),
        (["-n", "deploy", "-t", "ssh-rsa"], "ssh-rsa"),
    ],
)
def test_certificates_of_ssh_keygen_that_are_refused(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    keygen = Keygen(tmp_path)
    with_sha1 = "ssh-rsa" in arguments
    ca, key = (
        keygen.key("ca", "rsa" if with_sha1 else "ed25519", 2048 if with_sha1 else None),
        keygen.key("id"),
    )
    made = keygen.sign(ca, key.with_suffix(".pub"), NAME, *arguments)
    login = Door(tmp_path, Authority(keygen.load(ca))).begin()
    assert prove(login, keygen.load(key), keygen.blob(made)) is Step.FAILED
    assert reason in login.reason


def test_ours_are_as_ssh_keygen_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "x-cert.pub"
    path.write_text(line(CA.certify(ALICE, NAME, ["deploy"], options={"force-command": option("id")})))
    shown = Keygen(tmp_path).run("-L", "-f", path)
    assert f'Key ID: "{NAME}"' in shown
    assert "force-command id" in shown
    assert "deploy" in shown


# --- keys that are not certificates -------------------------------------------------------------------


def test_a_plain_key_is_not_asked_for(door: Door) -> None:
    door.people = [person(NAME, ALICE)]
    login = door.begin()
    assert not login.offer(USER, b"", ALICE.blob)
    assert prove(login, ALICE) is Step.FAILED
    assert "public_key is not what is asked for" in login.reason


def test_a_certificate_is_not_asked_for(door: Door) -> None:
    door.factors = [PUBLIC_KEY]
    door.people = [person(NAME, ALICE)]
    login = door.begin()
    assert prove(login, ALICE, CA.certify(ALICE, NAME)) is Step.FAILED
    assert prove(login, ALICE) is Step.DONE


def test_the_authoritys_key_lets_nobody_in(door: Door) -> None:
    door.factors = [CERTIFICATE, PUBLIC_KEY]
    login = door.begin()
    assert prove(login, CA.key) is Step.FAILED
    assert "key of an authority" in login.reason

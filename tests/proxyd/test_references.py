"""What the configuration refers to: every fault of a file stands at the line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.located_yaml import DocumentError
from proxyd.references import Material
from tests.proxyd.documents import CONFIG, POLICY, write_secret, write_setup

NOW = 1_800_000_000.0


def material_faults(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        Material.read(path, NOW)
    return [str(fault) for fault in caught.value.faults]


def test_a_sound_setup_has_policy_and_keys(tmp_path: Path) -> None:
    material = Material.read(write_setup(tmp_path), NOW)
    assert material.keys == {"customers": b"0123456789abcdef0123456789abcdef"}
    assert material.policy.masks[0].mask.apply("123-45-6789", "text") != "123-45-6789"
    assert "0123456789abcdef" not in repr(material)


@pytest.mark.parametrize(
    ("missing", "place", "words"),
    [
        ("pki/server.crt", "6:11", "server.crt"),
        ("pki/server.key", "6:40", "server.key"),
        ("pki/ca.crt", "6:61", "ca.crt"),
        ("secrets/reader", "20:45", "secrets/reader"),
        ("secrets/pseudonym", "25:5", "secrets/pseudonym"),
    ],
)
def test_missing_files_are_faults_where_they_are_named(
    tmp_path: Path, missing: str, place: str, words: str
) -> None:
    path = write_setup(tmp_path)
    (tmp_path / missing).unlink()
    shown = [fault for fault in material_faults(path) if words in fault]
    assert shown[0].startswith(f"{path}:{place}: "), shown


def test_missing_policy(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    (tmp_path / "policy.yaml").unlink()
    assert material_faults(path)[0].startswith(f"{tmp_path}/policy.yaml:1:1: cannot be read")


def test_key_of_another_certificate(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    (tmp_path / "pki/server.key").write_bytes((tmp_path / "pki/client.key").read_bytes())
    faults = material_faults(path)
    assert len(faults) == 1
    assert f"{path}:6:" in faults[0]


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    (tmp_path / "pki/ca.crt").write_text("hello")
    assert f"{path}:6:61: listeners[0].tls.client_ca" in material_faults(path)[0]


def test_all_faults_at_once(tmp_path: Path) -> None:
    path = write_setup(tmp_path, policy=POLICY.replace("effect: allow", "effect: alow"))
    (tmp_path / "pki/server.key").unlink()
    (tmp_path / "secrets/reader").unlink()
    faults = material_faults(path)
    assert len(faults) == 4  # two logins use the one secret
    assert any("policy.yaml" in fault and "alow" in fault for fault in faults)


def test_a_short_mask_key(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    write_secret(tmp_path / "secrets/pseudonym", "short")
    faults = material_faults(path)
    assert "shorter than 16 bytes" in faults[0]
    assert "short;" not in faults[0]


def test_a_mask_key_that_the_policy_needs(tmp_path: Path) -> None:
    path = write_setup(tmp_path, policy=POLICY.replace("key: customers", "key: orders"))
    assert "needs a key" in material_faults(path)[0]


def test_a_secret_open_to_others(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    (tmp_path / "secrets/pseudonym").chmod(0o644)
    assert "chmod 600" in material_faults(path)[0]


def test_a_tape_directory_that_is_a_file(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    (tmp_path / "tapes").rmdir()
    (tmp_path / "tapes").write_text("")
    assert "not a directory" in material_faults(path)[0]


def test_two_listeners_on_one_address(tmp_path: Path) -> None:
    text = CONFIG.replace("127.0.0.1:0\n    tls", "127.0.0.1:6432\n    tls")
    start, end = text.index("  - name: postgres"), text.index("identity:")
    text = text[:end] + text[start:end].replace("name: postgres", "name: second") + text[end:]
    assert "taken by the listener `postgres`" in material_faults(write_setup(tmp_path, config=text))[0]


@pytest.mark.parametrize(
    ("first", "second", "is_taken"),
    [
        ("127.0.0.1:6432", "127.0.0.1:6432", True),
        ("0.0.0.0:6432", "127.0.0.1:6432", True),
        ("127.0.0.1:6432", "0.0.0.0:6432", True),
        ("localhost:6432", "0.0.0.0:6432", True),
        ('"[::]:6432"', '"[::1]:6432"', True),
        ('"[::]:6432"', "127.0.0.1:6432", False),  # each kind of address has ports of its own
        ("0.0.0.0:6432", "127.0.0.1:6433", False),
        ("127.0.0.1:6432", "127.0.0.2:6432", False),
        ("0.0.0.0:0", "127.0.0.1:0", False),
        ("unix:/run/a", "0.0.0.0:6432", False),
    ],
)
def test_metrics_where_a_listener_is(tmp_path: Path, first: str, second: str, is_taken: bool) -> None:
    text = CONFIG.replace("address: 127.0.0.1:0\n    tls", f"address: {first}\n    tls")
    assert text != CONFIG
    text = text.replace("metrics: {address: 127.0.0.1:0}", f"metrics: {{address: {second}}}")
    path = write_setup(tmp_path, config=text)
    if is_taken:
        (fault,) = material_faults(path)
        assert "metrics.address: taken by the listener `postgres`" in fault
    else:
        Material.read(path, NOW)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o600, 0o640, 0o400])
def test_a_private_key_of_tls_that_others_can_read_is_a_warning(tmp_path: Path, mode: int) -> None:
    path = write_setup(tmp_path)
    (tmp_path / "pki/server.key").chmod(mode)
    shown = [text for text in warnings_of(path) if "listeners[0].tls.key" in text]
    if mode in {0o600, 0o640, 0o400}:
        assert shown == []
    else:
        assert f"is open to other accounts (mode {mode:04o}); run: chmod 600 " in shown[0]


@pytest.mark.parametrize("kind", ['json: ["$..x"], method: redact', "detect: [email]"])
def test_a_mask_for_a_target_that_nobody_has_is_a_warning(tmp_path: Path, kind: str) -> None:
    mask = f"masks:\n  - {{name: lost, targets: {{names: [nowhere]}}, {kind}}}\n"
    assert "masks:\n" in POLICY
    path = write_setup(tmp_path, policy=POLICY.replace("masks:\n", mask))
    assert any("masks[0].targets: none of the configured targets" in text for text in warnings_of(path))


def warnings_of(path: Path) -> list[str]:
    return [str(warning) for warning in Material.read(path, NOW).warnings]


def test_a_login_that_no_target_has_is_a_warning_in_the_policy(tmp_path: Path) -> None:
    path = write_setup(tmp_path, policy=POLICY.replace("[readonly]", "[readonly, redaonly]"))
    shown = [text for text in warnings_of(path) if "redaonly" in text]
    assert shown[0].startswith(f"{tmp_path}/policy.yaml:8:5: access[0].logins")


def test_access_to_no_target_is_a_warning(tmp_path: Path) -> None:
    path = write_setup(tmp_path, policy=POLICY.replace("env: prod", "env: test"))
    assert any("none of the configured targets" in text for text in warnings_of(path))


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (
            "    effect: allow\n",
            "    effect: allow\n    targets: {labels: {env: test}}\n",
            "12:5: rules[0].targets",
        ),
        ("    method:", "    targets: {names: [stop]}\n    method:", "17:5: masks[0].targets"),
    ],
)
def test_a_rule_or_mask_for_no_target_is_a_warning(tmp_path: Path, old: str, new: str, place: str) -> None:
    path = write_setup(tmp_path, policy=POLICY.replace(old, new))
    assert any(
        text.startswith(f"{tmp_path}/policy.yaml:{place}: none of the configured targets")
        for text in warnings_of(path)
    ), warnings_of(path)


def test_a_tape_directory_that_others_can_change_is_a_warning(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    assert not any("tapes.directory" in text for text in warnings_of(path))
    (tmp_path / "tapes").chmod(0o777)
    assert any("tapes.directory" in text and "chmod go-w" in text for text in warnings_of(path))


def test_metrics_for_everybody_is_a_warning(tmp_path: Path) -> None:
    path = write_setup(
        tmp_path, config=CONFIG.replace("metrics: {address: 127.0.0.1", "metrics: {address: 0.0.0.0")
    )
    assert any("metrics.address" in text for text in warnings_of(path))


def test_a_remote_target_in_clear_is_a_warning(tmp_path: Path) -> None:
    path = write_setup(tmp_path, config=CONFIG.replace("127.0.0.1:5432", "db.example:5432"))
    assert any("targets[0].tls.mode" in text for text in warnings_of(path))


def test_certificates_that_end_are_warnings(tmp_path: Path) -> None:
    path = write_setup(tmp_path)
    late = Material.read(path, NOW + 100 * 365 * 86400).warnings
    assert any("has expired" in str(warning) for warning in late)

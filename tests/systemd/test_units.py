"""The unit files: nothing for systemd to complain about, and as little as possible for an attacker to use."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
PROGRAM = "/opt/proxyd/bin/proxyd"
WORST_EXPOSURE = 2.0


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Copies whose program exists here: the real place is tested where proxyd is installed."""
    program = shutil.which("true")
    names = ("proxyd.service", "proxyd.socket", "proxyd-ssh.socket", "proxyd-http.socket")
    for name in names:
        text = (UNITS / name).read_text().replace(PROGRAM, str(program))
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in names]


def test_verify_is_clean(units: list[str]) -> None:
    done = analyze("verify", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_finds_what_is_wrong(units: list[str]) -> None:
    path = Path(units[0])
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSytem=strict"))
    assert "ProtectSytem" in analyze("verify", *units).stderr


def test_exposure() -> None:
    done = analyze("security", "--offline=true", str(UNITS / "proxyd.service"))
    found = re.search(r"Overall exposure level for proxyd\.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= WORST_EXPOSURE, done.stdout


def test_the_account_of_the_service_is_the_one_that_is_made() -> None:
    service = (UNITS / "proxyd.service").read_text()
    account = re.search(r"^u (\S+) ", (UNITS / "proxyd.sysusers").read_text(), re.MULTILINE)
    assert account
    assert f"\nUser={account[1]}\n" in service


def test_what_another_group_needs_for_the_admin_socket_is_sound(units: list[str]) -> None:
    path = Path(units[0])
    text = path.read_text()
    for line in ("SupplementaryGroups=operators", "SystemCallFilter=@chown", "RuntimeDirectoryMode=0751"):
        assert f"\n#{line}\n" in text
        text = text.replace(f"\n#{line}\n", f"\n{line}\n")
    path.write_text(text)
    assert analyze("verify", *units).stderr == ""


@pytest.mark.parametrize("protocol", ["ssh", "http"])
def test_the_sockets_for_other_protocols_are_the_services_too(protocol: str) -> None:
    text = (UNITS / f"proxyd-{protocol}.socket").read_text()
    assert "\nService=proxyd.service\n" in text
    assert f"\nFileDescriptorName={protocol}\n" in text


def test_the_service_takes_its_own_socket() -> None:
    assert "\nSockets=proxyd.socket\n" in (UNITS / "proxyd.service").read_text()
    assert "\nFileDescriptorName=postgres\n" in (UNITS / "proxyd.socket").read_text()

"""What `make` and the scripts under .ci do on machines that lack something, tried with programs that
pretend.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)$")


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        match = PINNED.match(line)
        assert match, f"constraints.txt: {line!r} is not NAME==VERSION"
        found[normal(match[1])] = match[2]
    return found


def needed(distribution: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Everything that an installed distribution stands on, by the normal names, itself left out."""
    found: set[str] = set()
    waiting = [(distribution, extras)]
    while waiting:
        name, wanted = waiting.pop()
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            contexts = [{"extra": extra} for extra in wanted or {""}]
            if requirement.marker and not any(requirement.marker.evaluate(context) for context in contexts):
                continue
            if normal(requirement.name) not in found:
                found.add(normal(requirement.name))
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def test_everything_that_the_project_stands_on_is_pinned_at_the_version_installed() -> None:
    packages = needed("proxyd", frozenset({"demo", "dev"}))
    assert len(packages) > 20
    assert {name: metadata.version(name) for name in packages} == {
        name: version for name, version in pins().items() if name in packages
    }


def test_no_file_of_the_build_names_a_host() -> None:
    for name in ("constraints.txt", "Makefile", *(f".ci/{path.name}" for path in (ROOT / ".ci").iterdir())):
        assert "://" not in (ROOT / name).read_text(), name


@dataclass
class Machine:
    """A PATH on which some programs pretend; what they were called with is in `calls`."""

    directory: Path

    @property
    def calls(self) -> list[str]:
        log = self.directory / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def pretend(self, name: str, script: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.directory}/calls\n{script}\n')
        path.chmod(0o755)

    def borrow(self, *names: str) -> None:
        """Programs of this machine that are as they are."""
        for name in names:
            found = next(
                Path(directory, name)
                for directory in ("/usr/bin", "/bin", "/usr/sbin")
                if Path(directory, name).exists()
            )
            (self.directory / "bin").mkdir(exist_ok=True)
            (self.directory / "bin" / name).symlink_to(found)

    def run(self, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.directory / "bin"), "HOME": str(self.directory)}
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.borrow("sh", "env", "dirname", "true", "rm", "mkdir", "tee", "chmod", "cat", "touch")
    made.pretend("apt-cache", "exit 0")
    made.pretend("dpkg-query", "exit 1")
    made.pretend("apt-get", "exit 0")
    made.pretend("id", "echo 1000")
    return made


def installs(machine: Machine) -> list[str]:
    return [call for call in machine.calls if call.startswith("apt-get") and " install " in call]


def test_nothing_is_installed_when_nothing_is_missing(machine: Machine) -> None:
    machine.pretend("dpkg-query", "echo installed")
    done = machine.run(".ci/debian", "the test", "one", "two")
    assert (done.returncode, done.stdout, installs(machine)) == (0, "", [])


def test_root_installs_what_is_missing_and_says_so(machine: Machine) -> None:
    machine.pretend("id", "echo 0")
    machine.pretend("dpkg-query", 'case "$*" in *one) echo installed ;; *) exit 1 ;; esac')
    done = machine.run(".ci/debian", "the test", "one", "two", "three")
    assert done.returncode == 0
    assert "Installing Debian packages for the test: two three" in done.stdout
    assert installs(machine)[0].endswith("--no-install-recommends two three")


def test_an_ordinary_user_installs_through_sudo(machine: Machine) -> None:
    machine.pretend("sudo", 'exec "$@"')
    done = machine.run(".ci/debian", "the test", "one")
    assert done.returncode == 0
    assert "with sudo for the test: one" in done.stdout
    assert any(call.startswith("sudo env") and call.endswith(" one") for call in machine.calls)


def test_without_root_and_sudo_the_missing_packages_are_named(machine: Machine) -> None:
    done = machine.run(".ci/debian", "the test", "one", "two")
    assert done.returncode == 1
    assert "the test needs the Debian packages: one two" in done.stderr
    assert "apt-get install one two" in done.stderr
    assert installs(machine) == []


def test_a_sudo_that_refuses_is_told_apart(machine: Machine) -> None:
    machine.pretend("sudo", "exit 1")
    done = machine.run(".ci/debian", "the test", "one")
    assert done.returncode == 1
    assert "sudo does not let this account" in done.stderr
    assert installs(machine) == []


def test_aged_package_lists_are_read_again_once(machine: Machine) -> None:
    machine.pretend("id", "echo 0")
    flag = machine.directory / "updated"
    machine.pretend("apt-get", f'case "$*" in *update) touch {flag} ;; *) [ -e {flag} ] ;; esac')
    done = machine.run(".ci/debian", "the test", "one")
    assert done.returncode == 0
    assert [
        ("update" in call, "install" in call) for call in machine.calls if call.startswith("apt-get")
    ] == [
        (False, True),
        (True, False),
        (False, True),
    ]


def test_packages_that_cannot_be_installed_fail_by_name(machine: Machine) -> None:
    machine.pretend("id", "echo 0")
    machine.pretend("apt-get", "exit 100")
    done = machine.run(".ci/debian", "the test", "one")
    assert done.returncode == 1
    assert "apt-get could not install them" in done.stderr
    assert "needs the Debian packages: one" in done.stderr


def test_what_is_only_wanted_if_possible_asks_nobody_and_fails_nothing(machine: Machine) -> None:
    words = (".ci/debian", "--if-possible", "the test", "one")
    done = machine.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    machine.pretend("sudo", 'case "$1" in -n) exit 1 ;; *) exec "$@" ;; esac')
    done = machine.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert installs(machine) == []
    machine.pretend("sudo", 'case "$1" in -n) exit 0 ;; *) exec "$@" ;; esac')
    assert "with sudo for the test: one" in machine.run(*words).stdout
    machine.pretend("apt-get", "exit 100")
    assert machine.run(*words).returncode == 0


@pytest.mark.parametrize(
    ("package", "unit"), [("openssh-server", "ssh"), ("nginx-light", "nginx"), ("pgbouncer", "pgbouncer")]
)
def test_a_server_for_tests_does_not_start_by_itself(machine: Machine, package: str, unit: str) -> None:
    # It writes nothing: the guard against starts is a file of the machine's.
    machine.pretend("sudo", "exit 0")
    assert machine.run(".ci/debian", "the test", package).returncode == 0
    assert f"sudo systemctl --quiet disable {unit}" in machine.calls


def test_a_python_without_ensurepip_asks_for_debians_package(machine: Machine, tmp_path: Path) -> None:
    machine.pretend("python3", 'case "$2" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac')
    done = machine.run(".ci/venv", "python3", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_a_python_that_is_too_old_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.pretend("python3", 'case "$*" in *version_info*) exit 1 ;; *) echo Python 3.9.2 ;; esac')
    done = machine.run(".ci/venv", "python3", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "Python 3.9.2; 3.11 or later" in done.stderr


def test_no_python_at_all_is_said(machine: Machine, tmp_path: Path) -> None:
    done = machine.run(".ci/venv", "python3", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "no python3 here" in done.stderr


def make(directory: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_the_environment_is_built_once_and_again_when_what_it_is_made_of_changes(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / ".ci").mkdir()
    venv = tmp_path / ".ci" / "venv"
    venv.write_text('#!/bin/sh\nmkdir -p "$2"\necho built\n')
    venv.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    assert make(tmp_path, "venv").count("built") == 1
    assert make(tmp_path, "venv").count("built") == 0
    later = (tmp_path / ".venv" / ".stamp").stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert make(tmp_path, "venv").count("built") == 1


def test_continuous_integration_checks_then_tests_and_ends_with_pytest() -> None:
    assert "check test" in (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    commands = make(ROOT, "--dry-run", "--old-file=.venv/.stamp", "check", "test").splitlines()
    assert any("ruff format --check" in command for command in commands)
    assert any("mypy" in command for command in commands)
    assert any("lint-imports" in command for command in commands)
    assert "pytest" in commands[-1]


def test_every_documented_target_exists() -> None:
    for target in ("demo", "test", "check", "bench", "test-systemd", "clean", "help", "format", "venv"):
        make(ROOT, "--dry-run", "--old-file=.venv/.stamp", target)

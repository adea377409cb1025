"""`.ci/node`: what tests and demo drive on Node is there afterwards, wherever Node comes from, or it says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_build import Machine, installs, machine

__all__ = ["machine"]

PROVIDER = "oidc-provider@8.8.1"
CLIENT = "pg@8.16.3"


def directory(machine: Machine) -> Path:
    return machine.directory / "node"


def npm_script(machine: Machine) -> str:
    package = directory(machine) / "node_modules/oidc-provider"
    return f"""mkdir -p {package}
echo '"version": "8.8.1"' > {package}/package.json
touch {machine.directory}/installed"""


def pretend_node(machine: Machine) -> None:
    """A Node that finds its packages once npm has installed something."""
    machine.pretend("node", f"[ -e {machine.directory}/installed ]")


@pytest.fixture(autouse=True)
def _tools(machine: Machine) -> None:
    machine.borrow("grep")


def npm_calls(machine: Machine) -> list[str]:
    return [call for call in machine.calls if call.startswith("npm ")]


def test_a_node_from_elsewhere_gets_both_from_npm(machine: Machine) -> None:
    pretend_node(machine)
    machine.pretend("npm", npm_script(machine))
    done = machine.run(".ci/node", str(directory(machine)))
    assert done.returncode == 0, done.stderr
    (call,) = npm_calls(machine)
    assert call.endswith(f"--prefix {directory(machine)} {PROVIDER} {CLIENT}")
    assert installs(machine) == []
    again = machine.run(".ci/node", str(directory(machine)))
    assert (again.returncode, again.stdout, len(npm_calls(machine))) == (0, "", 1)


def test_another_version_is_replaced(machine: Machine) -> None:
    pretend_node(machine)
    machine.pretend("npm", npm_script(machine))
    package = directory(machine) / "node_modules/oidc-provider"
    package.mkdir(parents=True)
    (package / "package.json").write_text('"version": "8.8.0"')
    (machine.directory / "installed").touch()
    assert machine.run(".ci/node", str(directory(machine))).returncode == 0
    assert len(npm_calls(machine)) == 1


def test_without_node_debian_gives_it_and_npm_the_provider_alone(machine: Machine) -> None:
    machine.pretend("id", "echo 0")
    binaries = machine.directory / "bin"
    later = machine.directory / "later"
    later.mkdir()
    for name, script in (("node", f"[ -e {machine.directory}/installed ]"), ("npm", npm_script(machine))):
        (later / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {machine.directory}/calls\n{script}\n')
        (later / name).chmod(0o755)
    machine.borrow("cp")
    machine.pretend("apt-get", f"cp {later}/node {later}/npm {binaries}/")
    done = machine.run(".ci/node", str(directory(machine)))
    assert done.returncode == 0, done.stderr
    assert installs(machine)[0].endswith("nodejs node-pg npm")
    (call,) = npm_calls(machine)
    assert call.endswith(PROVIDER)


@pytest.mark.parametrize("is_optional", [False, True])
def test_a_node_without_npm(machine: Machine, is_optional: bool) -> None:
    pretend_node(machine)
    words = ["--if-possible"] if is_optional else []
    done = machine.run(".ci/node", *words, str(directory(machine)))
    assert done.returncode == (0 if is_optional else 1)
    assert ("need npm" in done.stderr) == (not is_optional)


@pytest.mark.parametrize("is_optional", [False, True])
def test_an_npm_that_fails(machine: Machine, is_optional: bool) -> None:
    pretend_node(machine)
    machine.pretend("npm", "exit 1")
    words = ["--if-possible"] if is_optional else []
    done = machine.run(".ci/node", *words, str(directory(machine)))
    assert done.returncode == (0 if is_optional else 1)
    assert ("npm could not install" in done.stderr) == (not is_optional)

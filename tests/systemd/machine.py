"""A Debian 12 under a real systemd, in a container that shares the host's network.

    with Machine(directory, {"setup": host_directory}) as machine:
        machine.run("systemctl", "is-active", "proxyd.service")

Owns the tree it boots from, the wheels that are installed in it, and the container. Tree and wheels are made
once and kept below CACHE; what a machine changes goes to memory and is gone with it. Commands are run by
nsenter in the namespaces of its first process, so neither machined nor a login is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

CACHE = Path("/var/tmp/proxyd-systemd")
ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PYTHON = "3.11"  # Debian 12's
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,procps"

BOOT_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 120.0
_NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--cgroup")


class MachineFailed(Exception):
    """The machine could not be made or booted. Says what failed, with the end of the output."""


def require_root() -> None:
    if os.geteuid() != 0:
        raise MachineFailed("a container needs root: run `sudo make test-systemd`")
    for program, package in (("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")):
        if shutil.which(program) is None:
            raise MachineFailed(f"{program} is missing: run `apt-get install {package}`")


def tree() -> Path:
    """The root of a Debian 12, made at the first call (a minute, from the mirror)."""
    place = CACHE / f"tree-{_short_hash(SUITE + PACKAGES)}"
    if not place.exists():
        _make(
            place,
            lambda new: _do(
                "debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(new), *_mirror()
            ),
        )
    return place


def _mirror() -> list[str]:
    """Where this machine's own packages come from; nothing, and debootstrap's default, when it does not say."""
    wanted = ("Created-By: Packages", f"Codename: {SUITE}", "Component: main")
    found = subprocess.run(
        ("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    return [uri for uri in found.stdout.split() if uri.startswith(("http://", "https://"))][:1]


def wheels() -> Path:
    """proxyd and all that it needs, for the Python of the tree, so that nothing is fetched from inside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = ROOT / "constraints.txt"
    needs: list[str] = project["dependencies"]
    place = CACHE / f"wheels-{_short_hash(repr(needs) + constraints.read_text())}"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    if not place.exists():
        options = ("--only-binary=:all:", f"--python-version={PYTHON}", f"--constraint={constraints}")
        _make(place, lambda new: _do(*pip, "download", *options, f"--dest={new}", *needs))
    for old in place.glob("proxyd-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as source:
        _copy_sources(Path(source))
        _do(*pip, "wheel", "--no-deps", f"--wheel-dir={place}", source)
    return place


def _copy_sources(into: Path) -> None:
    """Built elsewhere, because setuptools would leave its build directory, and take files out of an old one."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, into)
    for package in ("proxyd", "protocols", "policy"):
        shutil.copytree(ROOT / package, into / package, ignore=shutil.ignore_patterns("__pycache__"))


def _make(place: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory of another name first: what exists under the final one is whole."""
    new = place.with_name(f"{place.name}.new-{os.getpid()}")
    new.mkdir(parents=True)
    try:
        fill(new)
        new.rename(place)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _do(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise MachineFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")


class Machine:
    """A booted container. `shared`: directories of the host, readable below /srv by these names."""

    def __init__(self, directory: Path, shared: Mapping[str, Path]) -> None:
        self._console = directory / "console.log"
        self._shared = shared
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        require_root()
        binds = [f"--bind-ro={path}:/srv/{name}" for name, path in self._shared.items()]
        command = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--volatile=overlay",
            "--console=pipe",
            f"--directory={tree()}",
            f"--machine=proxyd-test-{os.getpid()}",
            *binds,
            "--boot",
        ]
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
            )
        try:
            self._wait_for_boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root. AssertionError with its output when `check` and it fails."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), *_NAMESPACES, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def _wait_for_boot(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        state = "no process"
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            self._leader = self._leader or self._find_leader()
            if self._leader:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state == "running":
                    return
            time.sleep(0.2)
        console = self._console.read_text(errors="replace")[-4000:]
        raise MachineFailed(f"the container did not boot ({state}):\n{console}")

    def _find_leader(self) -> int:
        """The container's init: the child of systemd-nspawn that has become systemd."""
        if self._process is None:
            return 0
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for child in children:
            name = Path(f"/proc/{child}/comm")
            if name.exists() and name.read_text().strip() == "systemd":
                return int(child)
        return 0

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)  # an orderly shutdown
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            process.kill()
            process.wait()

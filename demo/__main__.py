"""`python -m demo`: set the stage, walk through the tour, stay up until Ctrl-C, leave nothing running."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from demo.gateway import GatewayFailed
from demo.issuer import IssuerFailed
from demo.postgres_installs import InstallMissing
from demo.postgres_server import ServerFailed
from demo.ssh_host import HostFailed
from demo.sshd import SshdFailed
from demo.stage import PEOPLE, SSH_TARGET, Stage, StageBusy
from demo.steps import scene_of, steps_for
from demo.tour import run_tour, shell_line

DIRECTORY = Path(".demo")
WATCH_INTERVAL_S = 0.5


class _Ended(BaseException):
    """A signal asked us to end. Not an Exception, so that nothing on the way takes it for an error."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--tour-only", action="store_true", help="end after the tour")
    parser.add_argument(
        "--directory", type=Path, default=DIRECTORY, help="where everything is written (.demo)"
    )
    parser.add_argument(
        "--no-sshd", action="store_true", help="have the demo's own SSH host, as where there is no sshd"
    )
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    stage = Stage(arguments.directory, has_sshd=False if arguments.no_sshd else None)
    try:
        return _show(stage, is_tour_only=arguments.tour_only)
    except _Ended:
        return 0 if not arguments.tour_only else 130
    except (
        GatewayFailed,
        HostFailed,
        InstallMissing,
        IssuerFailed,
        ServerFailed,
        SshdFailed,
        StageBusy,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        # A second Ctrl-C must not leave something running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stage.tear_down()


def _show(stage: Stage, *, is_tour_only: bool) -> int:
    print(
        "Setting up: PostgreSQL with a small shop, a web server, an API, a model, an issuer of tokens, certificates,"
        " the gateway.",
        flush=True,
    )
    kept = stage.set_up()
    scene = scene_of(stage)
    if kept is not None:
        print(f"Your edited policy is now {kept}; this run starts from the demo's own.")
    stage.start_gateway()
    print(f"Everything is in {scene.names['config'].removesuffix('proxyd.yaml')}: read")
    print(f"  {scene.names['config']}  where the gateway listens and what it leads to")
    print(f"  {scene.names['policy']}  who may do what, and what they see\n")
    is_right = run_tour(steps_for(stage), scene, sys.stdout)
    if not stage.has_ssh_client:
        print("The steps over SSH were left out: there is no ssh here (apt-get install openssh-client).")
    if not stage.has_curl:
        print("The steps by curl were left out: there is no curl here (apt-get install curl).")
    if is_tour_only:
        return 0 if is_right else 1
    _print_invitation(stage, scene.names)
    _wait(stage)
    return 1  # something that had to run has ended


def _print_invitation(stage: Stage, names: dict[str, str]) -> None:
    print("\nIt is yours now. From another terminal, in this directory:\n")
    for person, (group, _login) in PEOPLE.items():
        words = " ".join(f"{name}={value}" for name, value in stage.connection(person).items())
        print(f"  # as {person} (group {group})")
        print(f"  {shell_line([names['psql'], words])}\n")
    print("  # the same, shorter")
    print(f"  {names['psql']} service=alice\n")
    if stage.has_ssh_client:
        ssh = f"ssh -F {names['ssh_config']}"
        print("  # web1: a few commands for alice, a shell for dora; without a target, a menu of them")
        print(f"  {ssh} alice.{SSH_TARGET} ls www")
        print(f"  {ssh} dora.{SSH_TARGET}")
        print(f"  {ssh} dora.gateway\n")
    print("  # the shop's API (as alice, by a token that lasts for eight hours), and a model")
    if stage.has_curl:
        print(f"  curl -K {names['curl']} {names['gateway']}/t/api/customers/7")
    print(f"  {names['ask']} 'Say hello'\n")
    print("  # the tapes of what you did (tape play replays one), and what is open now")
    print(f"  {names['proxyd']} tape ls --config {names['config']}")
    print(f"  {names['proxyd']} sessions ls --config {names['config']}\n")
    print("  # after a change of the policy")
    print(f"  {names['proxyd']} check --config {names['config']} && kill -HUP {stage.gateway.pid}\n")
    print("Ctrl-C ends it.", flush=True)


def _wait(stage: Stage) -> None:
    """Until a signal ends us, our parent is gone (nobody could send Ctrl-C then) or a part has failed."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(WATCH_INTERVAL_S)
        if not stage.gateway.is_running:
            print(
                f"error: the gateway has ended; its log ends with:\n{stage.gateway.log_tail()}",
                file=sys.stderr,
            )
            return
        if not stage.server.is_running:
            print(f"error: PostgreSQL has ended:\n{stage.server.log_text()[-2000:]}", file=sys.stderr)
            return
        if not stage.http.issuer.is_running:
            print(f"error: the issuer has ended:\n{stage.http.issuer.log_text()[-2000:]}", file=sys.stderr)
            return
        if not stage.web1.is_running:
            print(f"error: web1 has ended:\n{stage.web1.log_text()[-2000:]}", file=sys.stderr)
            return


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


if __name__ == "__main__":
    sys.exit(main())

"""The README's commands: each one in a ```console block is tried, and what it prints has the shape that is
shown.

A command stands behind "$ " (a line that ends in a backslash goes on); the lines below it are what it
prints, and a line of three dots stands for any lines. Numbers, hashes and the width of tables may differ,
words may not. Commands of `make` are only asked whether they exist; the others run in order, in a directory
where a demo runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.stage import GATEWAY_PORT, HTTP_PORT, Stage
from demo.terminal import Terminal, Typed

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = (
    *(".demo/bin/", ".venv/bin/", "ssh -F .demo/ssh_config ", "printf ", "curl -K .demo/alice.curl "),
    *('PGPASSWORD="$(cat .demo/tokens/alice)" .demo/bin/', "HTTPS_PROXY=", "SSH_ASKPASS=.demo/bin/"),
)
ANYTHING = "..."


@dataclass(frozen=True)
class Example:
    """One command of a document, and the lines shown below it. `line` is where it stands."""

    line: int
    command: str
    output: tuple[str, ...]


def examples(text: str) -> list[Example]:
    found = []
    is_inside = False
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if line.startswith("```"):
            is_inside = line == "```console"
        elif is_inside and line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines)[1].lstrip()
            found.append(Example(number, command, ()))
        elif is_inside:
            assert found, f"line {number}: output without a command"
            last = found[-1]
            found[-1] = Example(last.line, last.command, (*last.output, line))
    return found


def shape(line: str) -> str:
    """What of a line must be the same in another run."""
    line = re.sub(r"/\S*/\.demo/", ".demo/", line)  # where the checkout is
    line = re.sub(r"\bp_[a-z2-7]{16}\b", "#", line)  # a pseudonym: its key is new at every start
    line = re.sub(r"\b[0-9a-zA-Z]*(?:[0-9][a-zA-Z]+|[a-zA-Z]+[0-9])[0-9a-zA-Z]*\b|\d+", "#", line)
    line = re.sub(r"#(?:[-:.,+TZ/]*#)*", "#", line)
    return re.sub(r"[-\s]+", " ", line).strip()


def fits(shown: tuple[str, ...], printed: str) -> bool:
    """Is the output shown the output printed, by the shape of its lines?"""
    wanted = [line.strip() if line.strip() == ANYTHING else shape(line) for line in shown]
    pattern = "".join(
        r"(?:.*\n)*?" if line == ANYTHING else re.escape(line) + r"\n" for line in _trimmed(wanted)
    )
    actual = "".join(f"{line}\n" for line in _trimmed([shape(line) for line in printed.splitlines()]))
    return re.fullmatch(pattern, actual) is not None


def _trimmed(lines: list[str]) -> list[str]:
    """Without the empty lines at the end."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines


EXAMPLES = examples(README.read_text())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A demo that runs, in a directory that looks like a checkout."""
    made = tmp_path_factory.mktemp("readme")
    (made / ".venv").symlink_to(sys.prefix)
    with Stage(made / ".demo") as running:
        yield running


@pytest.fixture(scope="module")
def shell(stage: Stage) -> Iterator[Terminal]:
    """Dora, who sits at a shell on web1."""
    words = ["ssh", "-F", str(stage.ssh_config), "dora.web1"]
    terminal = Terminal(words, stage.directory, dict(os.environ))
    try:
        assert terminal.play([Typed("deploy@web1")], 60), terminal.new_text()
        yield terminal
    finally:
        terminal.close()


def test_the_two_commands_come_first() -> None:
    assert [example.command for example in EXAMPLES[:2]] == ["make demo", "make test"]


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one.command.startswith("make ")], ids=lambda one: one.command
)
def test_a_make_command_exists(example: Example) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    words = ["make", "--dry-run", "--old-file=.venv/.stamp", *example.command.split()[1:]]
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize(
    "example",
    [one for one in EXAMPLES if not one.command.startswith("make ")],
    ids=lambda one: f"line {one.line}",
)
def test_a_command_prints_what_is_shown(
    example: Example, stage: Stage, request: pytest.FixtureRequest
) -> None:
    if " sessions " in example.command:
        request.getfixturevalue("shell")
    assert example.command.startswith(RUN), f"line {example.line}: nothing here tries {example.command!r}"
    own = ("PG", "PSQL", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(own)}
    environment |= {"PSQLRC": "/dev/null", "PSQL_PAGER": "cat"}
    done = subprocess.run(
        ["/bin/sh", "-c", at(stage, example.command)],
        cwd=stage.directory.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert fits(example.output, done.stdout), f"{example.command}\nprints:\n{done.stdout}"


def at(stage: Stage, command: str) -> str:
    """The command with the ports of a demo that found the usual ones taken."""
    here = command.replace(f"port={GATEWAY_PORT}", f"port={stage.ports.gateway}")
    return here.replace(f"localhost:{HTTP_PORT}", f"localhost:{stage.ports.http}")


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_section_that_is_linked_exists() -> None:
    text = README.read_text()
    titles = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= titles


def test_the_lines_for_ssh_config_work_as_they_are(stage: Stage, tmp_path: Path) -> None:
    """With the demo's address, key and certificate in place of the reader's."""
    block = re.search(r"\n\n((?:    (?:Host|    ).*\n)+)", README.read_text())
    assert block is not None
    ssh = stage.directory / "ssh"
    text = textwrap.dedent(block[1])
    for shown, real in {
        "HostName gateway.example": "HostName 127.0.0.1",
        "Port 2222": f"Port {stage.ports.ssh}",
        "~/.ssh/id_ed25519-cert.pub": str(ssh / "alice-cert.pub"),
        "IdentityFile ~/.ssh/id_ed25519": f"IdentityFile {ssh / 'alice'}",
    }.items():
        assert shown in text
        text = text.replace(shown, real)
    isolated = f"IdentityAgent none\nUserKnownHostsFile {ssh / 'known_hosts_of_people'}\nBatchMode yes\n"
    config = tmp_path / "config"
    config.write_text(f"{text}\nHost *\n{isolated}")
    for host in ("web1", "deploy+web1@gateway"):
        done = subprocess.run(
            ["ssh", "-F", str(config), host, "ls", "www"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("index.html\nprices.csv\n", "")


DOCUMENT = """\
Text.
```console
$ make demo
```
```yaml
$ not: a command
```
```console
$ echo one \\
    two
one two
$ false
$ date
...
```
"""


def test_examples_are_found_in_console_blocks_only() -> None:
    assert examples(DOCUMENT) == [
        Example(3, "make demo", ()),
        Example(9, "echo one two", ("one two",)),
        Example(12, "false", ()),
        Example(13, "date", ("...",)),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "is_fit"),
    [
        (("a b",), "a b\n", True),
        (("a b",), "a c\n", False),
        ((), "", True),
        ((), "something\n", False),
        (("port 6432",), "port 51234\n", True),
        (("took 3 ms",), "took 12.5 ms\n", True),
        (("id 3ea8eb4add8b5cc2 ok",), "id d4dcabbc19d23d64 ok\n", True),
        (("id 3ea8eb4add8b5cc2 ok",), "id abcd ok\n", False),
        (("at 2026-11-21T01:40:02Z",), "at 2027-01-02T11:00:59Z\n", True),
        (("sound; policy /home/ada/x/.demo/policy.yaml",), "sound; policy /tmp/y/.demo/policy.yaml\n", True),
        (("p_k4j3ua3jgfxzdpfx",), "p_abcdefghijklmnop\n", True),
        (("p_k4j3ua3jgfxzdpfx",), "ID-724775-H\n", False),
        (("name | mail", "-----+-----"), "name  |  mail\n-------+------\n", True),
        (("first", "...", "last"), "first\nlast\n", True),
        (("first", "...", "last"), "first\nx\ny\nlast\n\n", True),
        (("first", "...", "last"), "first\nx\n", False),
        (("...",), "", True),
        (("****@example.net",), "carla@example.net\n", False),
    ],
)
def test_outputs_are_compared_by_their_shape(shown: tuple[str, ...], printed: str, is_fit: bool) -> None:
    assert fits(shown, printed) is is_fit

"""The tour's steps over SSH: what is said, what is run, what it must show. `steps` puts them behind PostgreSQL's.

What a command did or did not do on web1 is looked up in web1's own files.
"""

from __future__ import annotations

from demo import web1
from demo.stage import Stage
from demo.terminal import Typed
from demo.tour import SHELL, Check, Outcome, Step, ends_with, hides, shows

REFUSED = 126
PROMPT = "$ "

LAST_BAR = "\x1b[10;8H"  # where `visitors` puts the last bar each time that they have grown

DORAS_SHELL = (
    Typed(PROMPT, "ls\n"),
    Typed(PROMPT, "tail -n 2 log/access.log\n"),
    Typed(PROMPT, "visitors\n"),
    *[Typed(LAST_BAR)] * 5,
    Typed(LAST_BAR, size=(96, 20)),
    Typed(PROMPT, "echo 'stool,60.00' >> www/prices.csv\n"),
    Typed(PROMPT, "cat www/prices.csv\n"),
    Typed(PROMPT, "exit\n"),
)


def ssh_steps_for(stage: Stage) -> tuple[Step, ...]:
    ssh = ("ssh", "-F", "{ssh_config}")
    alice, dora = (*ssh, "alice.web1"), (*ssh, "dora.web1")
    secrets = hides(web1.SECRETS, "the site's secret")
    site_is_whole = _site_is_whole(stage)
    return (
        Step(
            "ssh",
            "SSH: a second door",
            f"web1 is {stage.web1.kind}. It trusts the gateway's authority and knows no key of a person. "
            "Alice's ssh is the one on this machine; her certificate and the address are in a file.",
            (*alice, "ls", "-s", "www"),
            (ends_with(0), shows("index.html", "prices.csv")),
        ),
        Step(
            "ssh_denied",
            "A denied command never reaches the host",
            "The line names the rule and says what to do; the exit status is 126. The connection stays as it was.",
            (*alice, "rm", "www/index.html"),
            (ends_with(REFUSED), shows("the-site-stays"), site_is_whole),
        ),
        Step(
            "ssh_hidden",
            "Wrapping it up does not help",
            "A command is taken apart as the shell would do it, and every simple command in it is judged.",
            (*alice, "sh -c 'ls www && rm -rf www'"),
            (
                ends_with(REFUSED),
                shows("the-site-stays"),
                hides(["prices.csv"], "what ls says"),
                site_is_whole,
            ),
        ),
        Step(
            "ssh_explained",
            "Which parts it has, and what is decided about them",
            "The same question without asking the host.",
            (
                *("{proxyd}", "explain", "--config", "{config}", "--subject", "alice", "--group", "data"),
                *("--target", "web1", "--exec", "sh -c 'ls www && rm -rf www'"),
            ),
            (ends_with(0), shows("ls www", "rm -rf www", "the-site-stays", "=> deny")),
        ),
        Step(
            "ssh_held",
            "A command that needs a second person",
            "Dora may run everything but what the rules deny or hold.",
            (*dora, "systemctl", "restart", "nginx"),
            (ends_with(REFUSED), shows("restarts-wait-for-a-human", "approv")),
        ),
        Step(
            "ssh_files",
            "Files are judged one by one",
            "Alice may fetch what is below www, and no .env wherever it is.",
            (
                *SHELL,
                "printf '%s\\n' 'get www/prices.csv {fetched}' 'get www/.env {fetched}' |"
                " sftp -q -b - -F {ssh_config} alice.web1",
            ),
            (ends_with(1), shows("no-secret-files"), _has_been_fetched(stage), secrets),
        ),
        Step(
            "ssh_files_shown",
            "They are on the tape, with size and SHA-256",
            "Each file that was moved, whole or not, and each operation with its decision.",
            ("{proxyd}", "tape", "show", "{tape_ssh_files}"),
            (
                ends_with(0),
                shows("www/prices.csv: 51 bytes, sha256", "denied by no-secret-files"),
                secrets,
            ),
        ),
        Step(
            "shell",
            "Dora works at a shell",
            "What she types there is not judged, by no gateway: it is recorded. (The tour types for her; a full-screen"
            " program and a larger window are among it.)",
            dora,
            (ends_with(0), shows("deploy@web1", "prices.csv", "stool,60.00")),
            typed=DORAS_SHELL,
        ),
        Step(
            "shell_played",
            "Her shell replays",
            "Here as lines, since nobody may be at this terminal. Try it yourself later: it replays at its pace, with"
            " colours, full screen and all; space, arrows and q work.",
            ("{proxyd}", "tape", "play", "{tape_shell}"),
            (ends_with(0), shows("dora", "tail -n 2 log/access.log", "Requests by hour", "stool,60.00")),
        ),
        Step(
            "live",
            "Somebody is at a shell now",
            "Dora again, who stays.",
            dora,
            (shows("deploy@web1", "tail -f log/access.log"),),
            typed=(Typed(PROMPT, "tail -f log/access.log\n"), Typed("GET")),
            stays=True,
        ),
        Step(
            "sessions",
            "Live sessions",
            "Asked of the daemon over a socket that is root's and its own (`proxyd sessions watch` shows one as it"
            " happens).",
            ("{proxyd}", "sessions", "ls", "--config", "{config}"),
            (ends_with(0), shows("dora", "web1", "deploy")),
        ),
        Step(
            "ended",
            "...and the end of one",
            "It closes at once, and says so to its user.",
            (
                *("{proxyd}", "sessions", "end", "--config", "{config}"),
                *("{session_live}", "--reason", "the site is frozen for the evening"),
            ),
            (ends_with(0), shows("ended: session", "administrator: the site is frozen for the evening")),
            watches="live",
        ),
    )


def _site_is_whole(stage: Stage) -> Check:
    def is_whole(_outcome: Outcome) -> bool:
        return all((stage.web1.home / name).read_text() == text for name, text in web1.FILES.items())

    return Check("web1's files are all there", is_whole)


def _has_been_fetched(stage: Stage) -> Check:
    def is_here(_outcome: Outcome) -> bool:
        fetched = stage.directory / "fetched"
        names = sorted(path.name for path in fetched.iterdir())
        return names == ["prices.csv"] and (fetched / names[0]).read_text() == web1.FILES["www/prices.csv"]

    return Check("prices.csv has come as it is, and nothing else", is_here)

"""The table of the tour's steps: what is said, what is run, what it must show.

Owns the content of the tour and the names its commands use. `tour` runs it; the README quotes it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psycopg

from demo.http_steps import http_steps_for
from demo.ssh_steps import ssh_steps_for
from demo.stage import Stage
from demo.tour import SHELL, Check, Scene, Step, ends_with, hides, shows

CUSTOMERS = "SELECT name, email, ssn, card_number, birth_date FROM shop.customers ORDER BY id LIMIT 4"
ORDER = 7


def scene_of(stage: Stage) -> Scene:
    """The names that commands use, relative to the working directory where that is shorter. The stage is set up."""
    here = Path.cwd()

    def shown(path: Path) -> str:
        return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)

    names = {
        "psql": shown(stage.psql),
        "proxyd": shown(Path(sys.executable).parent / "proxyd"),
        "config": shown(stage.config),
        "policy": shown(stage.policy),
        "forged": shown(stage.directory / "forged.tape"),
        "ssh_config": shown(stage.ssh_config),
        "fetched": shown(stage.fetched),
        "token": shown(stage.http.token_file("alice")),
        "curl": shown(stage.http.curl_file("alice")),
        "ask": shown(stage.http.ask),
        "askpass": shown(stage.http.askpass),
        "ca": shown(stage.directory / "pki" / "ca.crt"),
        "inspection": shown(stage.directory / "pki" / "inspection.crt"),
        "har": shown(stage.har),
        "gateway": f"https://localhost:{stage.ports.http}",
        "gateway_port": str(stage.ports.http),
        "api": f"http://127.0.0.1:{stage.ports.api}",
    }
    return Scene(here, stage.tapes, names)


def steps_for(stage: Stage) -> tuple[Step, ...]:
    """All of them; those over SSH and by curl only where there is a client for it."""
    ssh = ssh_steps_for(stage) if stage.has_ssh_client else ()
    return (*postgres_steps_for(stage), *ssh, *http_steps_for(stage))


def postgres_steps_for(stage: Stage) -> tuple[Step, ...]:
    private = hides(stage.shop.private_values(), "every e-mail, number, birthday and key")
    names = tuple(customer.name for customer in stage.shop.customers[:4])
    unmasked = tuple(
        value
        for customer in stage.shop.customers[:4]
        for value in (customer.email, customer.ssn, customer.card_number, str(customer.birth_date))
    )
    alice = ("{psql}", "service=alice")
    dora = ("{psql}", "service=dora")
    return (
        Step(
            "masked",
            "An analyst reads; private columns leave masked",
            "Alice is an analyst: her certificate says so. psql is psql, only the address is the gateway's. "
            "The rows are real; what the policy masks is rewritten on the way back.",
            (*alice, "-c", CUSTOMERS),
            (ends_with(0), shows(*names), private),
        ),
        Step(
            "view",
            "A view is no way round",
            "The view calls the columns otherwise. The gateway knows what is behind it from the target's own"
            " catalog. The identity number becomes a token, the same for the same person every time.",
            (
                *alice,
                "-c",
                "SELECT mail, telephone FROM shop.contacts ORDER BY id LIMIT 2",
                "-c",
                "SELECT name, id_number FROM shop.customers WHERE id <= 2 ORDER BY id",
            ),
            (ends_with(0), shows(names[0], names[1]), private),
        ),
        Step(
            "denied",
            "A denied statement never reaches the database, and the session goes on",
            "The error names the rule and says what to do. It is an ordinary error of PostgreSQL, so the next"
            " statement of the same session works.",
            (*alice, "-c", "SELECT * FROM shop.api_keys", "-c", "SELECT count(*) FROM shop.orders"),
            (shows("ERROR:", "no-secrets-table", "HINT:", str(len(stage.shop.orders))), private),
        ),
        Step(
            "guessed",
            "Asking about a masked column instead of for it",
            "A filter on a masked column would give it away one guess at a time, so that is refused as well.",
            (*alice, "-c", "SELECT name FROM shop.customers WHERE ssn LIKE '9%'"),
            (
                ends_with(1),
                shows("ERROR:", "ssn", "identity-numbers", "HINT:"),
                hides(names, "who it would be"),
            ),
        ),
        Step(
            "held",
            "A change that needs a second person",
            "The policy holds an analyst's writes for approval. Nobody can approve here yet, so it is "
            "refused and says so; the order is as it was.",
            (*alice, "-c", f"UPDATE shop.orders SET status = 'cancelled' WHERE id = {ORDER}"),
            (ends_with(1), shows("ERROR:", "writes-wait-for-a-human", "approv"), _order_is_unchanged(stage)),
        ),
        Step(
            "clear",
            "The same query by a database administrator",
            "Dora's certificate puts her into the group dba, for whom the masks do not hold.",
            (*dora, "-c", CUSTOMERS),
            (
                ends_with(0),
                shows(*names),
                shows(*unmasked, what="their e-mails, numbers, cards and birthdays as they are"),
            ),
        ),
        Step(
            "described",
            "psql's own commands work",
            "What psql asks the system catalogs about tables is answered; no value of a row is in it.",
            (*alice, "-c", r"\d shop.orders"),
            (ends_with(0), shows("customer_id", "orders_pkey", "FOREIGN KEY")),
        ),
        Step(
            "explained",
            "What would be decided, without running it",
            "`proxyd explain` judges a statement as the gateway would, for anybody, and gives its reasons.",
            (
                *("{proxyd}", "explain", "--config", "{config}", "--subject", "alice", "--group", "data"),
                *("--target", "shop", "--login", "readonly", "DELETE FROM shop.orders"),
            ),
            (shows("deny", "no-unbounded-change"),),
        ),
        Step(
            "listed",
            "Every session is on a tape",
            "One file for each session. These are Alice's and Dora's of a moment ago.",
            ("{proxyd}", "tape", "ls", "--config", "{config}"),
            (ends_with(0), shows("alice", "dora", "readonly", "admin")),
        ),
        Step(
            "played",
            "A tape replays",
            "Alice's third session again: who, what, the decision and why, and the reply as she saw it.",
            ("{proxyd}", "tape", "play", "{tape_denied}"),
            (ends_with(0), shows("alice", "shop.api_keys", "no-secrets-table", "shop.orders"), private),
        ),
        Step(
            "verified",
            "A tape can be proved untouched",
            "Each frame carries a checksum and the hash of the one before it.",
            ("{proxyd}", "tape", "verify", "{tape_denied}"),
            (ends_with(0), shows("whole")),
        ),
        Step(
            "forged",
            "A forged tape is found out",
            "Somebody would rather have read the products, and rewrites the tape.",
            (
                *SHELL,
                "sed s/shop.api_keys/shop.products/ {tape_denied} > {forged} && {proxyd} tape verify {forged}",
            ),
            (ends_with(2), shows("TAMPERED")),
        ),
    )


def _order_is_unchanged(stage: Stage) -> Check:
    """Asked of the database itself, not through the gateway."""
    was = next(str(row[2]) for row in stage.shop.orders if row[0] == ORDER)

    def is_unchanged(_outcome: object) -> bool:
        dsn = stage.server.dsn("shop", host=str(stage.server.directory))
        with contextlib.closing(psycopg.connect(dsn)) as connection:
            row = connection.execute("SELECT status FROM shop.orders WHERE id = %s", [ORDER]).fetchone()
        return row == (was,)

    return Check(f"order {ORDER} is still {was!r} in the database", is_unchanged)

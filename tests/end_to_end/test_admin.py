"""`proxyd sessions` against a real daemon: psql sessions listed, watched and ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo import shop
from demo.gateway import program
from tests.end_to_end.conftest import GatewayFactory
from tests.end_to_end.gateway import Document, Gateway, psql_env, psql_words, wait_until
from tests.end_to_end.shop_server import SHOP
from tests.end_to_end.terminal import Terminal

SLEEPING = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(%'"
TERMINATED = "FATAL:  terminating connection due to administrator command"
NO_SESSION = 4


def with_admin(config: Document) -> None:
    config["admin"] = {"socket": "admin.sock"}


@pytest.fixture
def administered(make_gateway: GatewayFactory) -> Gateway:
    gateway: Gateway = make_gateway(adjust=with_admin)
    return gateway


def psql_terminal(gateway: Gateway, person: str = "dora") -> Terminal:
    """Debian's psql at its first prompt."""
    words = psql_words(gateway.dsn(person), "-v", "PROMPT1==> ", "-P", "pager=off", major=15, stop=False)
    shown = Terminal(words, psql_env(15))
    shown.expect("=> ")
    return shown


def sessions(gateway: Gateway, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command, *more = arguments
    return gateway.proxyd("sessions", command, "--config", str(gateway.config_path), *more, check=check)


def listed(gateway: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sessions(gateway, "ls", "--json").stdout.splitlines()]


class Watcher:
    """`proxyd sessions watch` in the background, and what it has printed."""

    def __init__(self, gateway: Gateway, session: str, *options: str) -> None:
        words = [program(), "sessions", "watch", "--config", str(gateway.config_path), session, *options]
        self._path = gateway.directory / f"watched-{session}"
        with self._path.open("wb") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def text(self) -> str:
        return self._path.read_text()

    def expect(self, text: str) -> None:
        wait_until(lambda: text in self.text, f"{text!r} in what is watched")


@contextmanager
def watching(gateway: Gateway, session: str, *options: str) -> Iterator[Watcher]:
    watcher = Watcher(gateway, session, *options)
    try:
        yield watcher
    finally:
        watcher.process.kill()
        watcher.process.wait()


def test_ls_shows_who_is_there(administered: Gateway) -> None:
    assert listed(administered) == []
    with psql_terminal(administered, "alice") as alice, psql_terminal(administered, "dora"):
        alice.press("select count(*) from shop.customers;\r")
        alice.expect("=> ")
        one, two = listed(administered)
        assert (one["subject"], one["target"], one["detail"]) == ("alice", "shop", shop.DATABASE)
        assert (one["login"], one["protocol"], one["listener"]) == ("readonly", "postgres", "postgres")
        assert one["operations"] == 1
        assert Path(one["tape"]).exists()
        assert (two["subject"], two["operations"]) == ("dora", 0)
        assert two["idle_s"] >= 0
        table = sessions(administered, "ls").stdout.splitlines()
        assert len(table) == 3
        assert table[1].split()[:4] == [one["id"], "postgres", "alice", f"shop/{shop.DATABASE}"]
    wait_until(lambda: not listed(administered), "the end of both sessions")
    uses = administered.logged("admin request", command="ls")
    assert {use["uid"] for use in uses} == {os.geteuid()}


def test_watch_shows_statements_as_their_user_sees_them(administered: Gateway) -> None:
    with psql_terminal(administered, "alice") as psql:
        psql.press("select 'before' as word;\r")
        psql.expect("=> ")
        (session,) = listed(administered)
        with (
            watching(administered, session["id"]) as watcher,
            watching(administered, session["id"][:15], "--from-start") as whole,
        ):
            wait_until(lambda: len(administered.logged("admin request", command="watch")) == 2, "watching")
            psql.press("select name, email from shop.customers where id = 1;\r")
            psql.expect("(1 row)")
            for one in (watcher, whole):
                one.expect("select name, email from shop.customers where id = 1")
                one.expect(SHOP.customers[0].name)
                one.expect("-- allowed by read-the-shop")
            psql.press("select key from shop.api_keys;\r")
            watcher.expect("API keys are not readable through the gateway.")
            psql.press("\\q\r")
            assert watcher.process.wait(60) == 0
            assert whole.process.wait(60) == 0
        assert "before" not in watcher.text
        assert "before" in whole.text
        assert "-- session ended: " in watcher.text
        assert not [value for value in SHOP.private_values() if value in whole.text]
    shown = administered.proxyd("tape", "show", session["tape"]).stdout
    assert shown.count("event watched") == 2
    assert administered.proxyd("tape", "verify", session["tape"]).returncode == 0


def test_end_closes_an_idle_session_and_psql_says_why(administered: Gateway) -> None:
    with psql_terminal(administered) as psql, psql_terminal(administered, "alice") as other:
        (session,) = [one for one in listed(administered) if one["subject"] == "dora"]
        done = sessions(administered, "end", session["id"][:8], "--reason", "the quarter is closed")
        assert done.stdout.startswith(f"ended: session {session['id']} of dora to shop/")
        assert [one["subject"] for one in listed(administered)] == ["alice"]
        psql.press("select 1;\r")
        psql.expect(TERMINATED)
        psql.expect("DETAIL:  Ended by an administrator: the quarter is closed.")
        other.press("select 6 * 7;\r")
        other.expect("42")
    (ended,) = administered.logged("session ended", session=session["id"])
    assert ended["outcome"] == "ended"
    assert ended["reason"] == "ended by an administrator: the quarter is closed"
    (use,) = administered.logged("admin request", command="end")
    assert (use["session"], use["subject"], use["uid"]) == (session["id"], "dora", os.geteuid())
    assert administered.metrics()['proxyd_sessions_total{outcome="ended"}'] == 1
    shown = administered.proxyd("tape", "show", session["tape"]).stdout
    assert "event ended by an administrator" in shown
    assert administered.proxyd("tape", "verify", session["tape"]).returncode == 0


def test_end_cancels_a_running_statement_and_its_transaction(administered: Gateway) -> None:
    def asked(sql: str) -> str:
        return administered.server.psql(sql, shop.DATABASE).strip()

    with psql_terminal(administered) as psql:
        psql.press("begin; create table shop.never (id int); select pg_sleep(600);\r")
        wait_until(lambda: asked(SLEEPING.replace("select pg_sleep(%", "%pg_sleep(600%")) != "0", "the sleep")
        (session,) = listed(administered)
        done = json.loads(sessions(administered, "end", session["id"], "--json").stdout)
        assert done["is_gone"] is True
        psql.expect(TERMINATED)
        gone = "select count(*) from pg_stat_activity where query like '%pg_sleep(600%' and pid <> pg_backend_pid()"
        wait_until(lambda: asked(gone) == "0", "the end of the statement")
    assert asked("select to_regclass('shop.never') is null") == "t"


def test_a_session_that_floods_its_client_is_ended_too(administered: Gateway) -> None:
    flood = "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout"
    words = psql_words(administered.dsn("dora"), "-c", flood)
    with subprocess.Popen(
        words, env=psql_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as psql:
        assert psql.stdout is not None  # and nobody reads from it: the client stands still
        wait_until(lambda: bool(listed(administered)), "the session")
        (session,) = listed(administered)
        wait_until(lambda: Path(session["tape"]).stat().st_size > 100_000, "the flood")
        assert json.loads(sessions(administered, "end", session["id"], "--json").stdout)["is_gone"] is True
        psql.kill()
    (ended,) = administered.logged("session ended", session=session["id"])
    assert ended["outcome"] == "ended"


def test_a_session_that_is_still_connecting_is_ended_too(make_gateway: GatewayFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def adjust(config: Document) -> None:
            with_admin(config)
            config["targets"][0]["address"] = f"127.0.0.1:{silent.getsockname()[1]}"
            config["targets"][0]["connect_timeout"] = "60s"

        gateway = make_gateway(adjust=adjust)
        words = psql_words(gateway.dsn("dora"), "-c", "select 1")
        with subprocess.Popen(
            words, env=psql_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as psql:
            wait_until(lambda: bool(listed(gateway)), "the session")
            (session,) = listed(gateway)
            assert json.loads(sessions(gateway, "end", session["id"], "--json").stdout)["is_gone"] is True
            assert TERMINATED in psql.communicate(timeout=60)[1]
    assert gateway.metrics()['proxyd_handshake_failures_total{listener="postgres",reason="ended"}'] == 1


def test_a_watcher_who_does_not_read_slows_nobody(administered: Gateway) -> None:
    with psql_terminal(administered) as psql:
        (session,) = listed(administered)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(administered.directory / "admin.sock"))
            sock.sendall(json.dumps({"command": "watch", "session": session["id"]}).encode() + b"\n")
            wait_until(lambda: bool(administered.logged("admin request", command="watch")), "watching")
            psql.press("\\o /dev/null\rselect repeat('x', 1000) from generate_series(1, 15000);\r")
            psql.expect("=> ")
            psql.press("\\o\rselect 6 * 7 as answer;\r")
            psql.expect("42")
            assert Path(session["tape"]).stat().st_size > 15_000_000
            assert len(listed(administered)) == 1
    wait_until(lambda: bool(administered.logged("admin watch over")), "the end of the watching")


def test_callers_who_make_no_sense_hurt_nobody(administered: Gateway) -> None:
    with psql_terminal(administered) as psql:
        for raw in (b"\0" * 10_000, b"x" * 10_000 + b"\n", b'{"command":', b"{}\n", b""):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(administered.directory / "admin.sock"))
                sock.sendall(raw)
        psql.press("select 6 * 7;\r")
        psql.expect("42")
        assert len(listed(administered)) == 1
    assert not administered.logged("a request to the admin socket failed")


def test_the_command_says_what_is_wrong(administered: Gateway) -> None:
    for command in ("watch", "end"):
        done = sessions(administered, command, "abc", check=False)
        assert (done.returncode, done.stderr) == (NO_SESSION, "proxyd: no live session 'abc'\n")
    administered.stop()
    done = sessions(administered, "ls", check=False)
    assert done.returncode == 3
    assert "proxyd is not running" in done.stderr


def test_sessions_can_be_ended_while_the_daemon_drains(make_gateway: GatewayFactory) -> None:
    def adjust(config: Document) -> None:
        with_admin(config)
        config["drain_timeout"] = "60s"

    gateway = make_gateway(adjust=adjust)
    with psql_terminal(gateway) as psql:
        psql.press("begin;\r")
        psql.expect("=> ")
        os.kill(gateway.daemon.pid, 15)
        wait_until(lambda: bool(gateway.logged("draining")), "the drain")
        (session,) = listed(gateway)
        sessions(gateway, "end", session["id"])
        wait_until(lambda: bool(gateway.logged("stopped")), "the end of the daemon")
        psql.press("select 1;\r")
        psql.expect(TERMINATED)

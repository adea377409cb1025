"""psql 18 and Debian's psql 15 through the gateway, before PostgreSQL 18 and 15: what people do in it all day."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import shop
from tests.end_to_end.gateway import Gateway, psql_env, psql_words, run_psql, wait_until
from tests.end_to_end.shop_server import SHOP
from tests.end_to_end.terminal import CTRL_C, Terminal

PSQLS = [18, 15]

# Every command by which psql shows what there is, with a pattern and without.
DESCRIBES = r"""
\d
\d shop.*
\d+ shop.customers
\d+ shop.contacts
\d shop.orders_pkey
\dt+ shop.*
\dtvmsE *.*
\di+ shop.*
\dv+ shop.*
\df
\df+ pg_catalog.lower
\da count
\do ||
\dT+
\dT+ pg_catalog.int4
\dD
\dn+
\dp shop.*
\ddp
\du
\drds
\db+
\dc
\dC integer as *
\dd shop.*
\des
\dew
\det
\dF
\dg+
\dL+
\dO pg_catalog.C
\dp
\dPt
\dRp
\dx
\dy
\dA
\dAc btree integer
\l
\sv shop.contacts
\z shop.orders
\conninfo
\encoding
"""


@pytest.mark.parametrize("major", PSQLS)
def test_describing_commands_show_an_analyst_what_the_target_shows(
    either_gateway: Gateway, major: int
) -> None:
    commands = DESCRIBES.replace("\\conninfo\n", "")
    direct = run_psql(either_gateway.direct_dsn("readonly"), commands, "-e", major=major, check=False)
    through = either_gateway.psql("alice", commands, "-e", major=major, check=False)
    assert through.stderr == direct.stderr
    assert through.stdout == direct.stdout
    assert "customers_pkey" in through.stdout
    assert not [value for value in SHOP.private_values() if value in through.stdout + through.stderr]


def test_subscriptions_are_not_listed_for_an_analyst(gateway: Gateway) -> None:
    """pg_subscription holds connection strings, with their passwords."""
    done = gateway.psql("alice", "\\dRs\nselect 'goes on';", "-At", check=False)
    assert "pg_subscription" in done.stderr
    assert done.stdout == "goes on\n"


@pytest.mark.parametrize("major", PSQLS)
def test_an_analyst_sees_masked_columns_and_the_dba_all(either_gateway: Gateway, major: int) -> None:
    sql = "select name, email, ssn, birth_date from shop.customers where id = 1"
    customer = SHOP.customers[0]
    alice = either_gateway.psql("alice", sql, "-At", major=major).stdout
    dora = either_gateway.psql("dora", sql, "-At", major=major).stdout
    assert dora == f"{customer.name}|{customer.email}|{customer.ssn}|{customer.birth_date}\n"
    assert alice == f"{customer.name}|{'*' * (len(customer.email) - 4)}{customer.email[-4:]}|[redacted]|\n"


@pytest.mark.parametrize("major", PSQLS)
def test_a_denial_leaves_the_session_as_it_was(either_gateway: Gateway, major: int) -> None:
    done = either_gateway.psql(
        "alice",
        "begin; select 1;\nselect key from shop.api_keys;\nselect 'still here';\ncommit;\ndrop table shop.orders;\n",
        "-At",
        major=major,
        check=False,
    )
    assert done.stdout.splitlines() == ["BEGIN", "1", "still here", "COMMIT"]
    assert done.stderr.count("ERROR:") == 2
    assert "no-secrets-table" in done.stderr
    assert done.stderr.count("HINT:") == 2


@pytest.mark.parametrize("major", PSQLS)
def test_copy_between_file_and_table(either_gateway: Gateway, major: int, tmp_path: Path) -> None:
    out, back = tmp_path / "orders.csv", tmp_path / "back.csv"
    done = either_gateway.psql(
        "alice",
        f"\\copy shop.orders to '{out}' csv header\n"
        f"\\copy (select id, email from shop.customers order by id) to '{tmp_path}/masked.csv' csv\n"
        "begin;\ndelete from shop.order_items where order_id < 0;\n"
        "\\copy shop.products from stdin\n901\tFrom stdin\t1.50\n\\.\n"
        "select name from shop.products where id = 901;\nrollback;\n",
        "-At",
        major=major,
    )
    assert "COPY 500" in done.stdout
    assert "From stdin" in done.stdout
    assert len(out.read_text().splitlines()) == 501
    masked = (tmp_path / "masked.csv").read_text()
    assert len(masked.splitlines()) == 240
    assert not [customer.email for customer in SHOP.customers if customer.email in masked]
    either_gateway.psql(
        "dora",
        "create temp table o (like shop.orders);\n"
        f"\\copy o from '{out}' csv header\n\\copy (table o order by id) to '{back}' csv header\n",
        major=major,
    )
    assert sorted(back.read_text().splitlines()) == sorted(out.read_text().splitlines())


def test_watch_gset_gexec_gdesc_and_crosstabview(gateway: Gateway) -> None:
    done = gateway.psql(
        "alice",
        "select count(*) from shop.orders \\watch i=0.01 c=3\n"
        "select max(id) as top, min(id) as bottom from shop.orders \\gset\n\\echo :top-:bottom\n"
        "select id, email, phone from shop.customers \\gdesc\n"
        "select 'select count(*) from shop.' || t from unnest(array['orders', 'products']) t \\gexec\n"
        "select status, extract(year from placed_at) as year, count(*) from shop.orders group by 1, 2 order by 1, 2 "
        "\\crosstabview\n",
        "-At",
    )
    lines = done.stdout.splitlines()
    assert lines.count("500") == 4
    assert "500-1" in lines
    assert "24" in lines
    assert "email|text" in lines
    statuses = {line.split("|")[0]: line.count("|") for line in lines if line.startswith(("new|", "paid|"))}
    assert statuses == {"new": 2, "paid": 2}  # a column for each of two years


def test_variables_of_masked_values_hold_the_masked_value(gateway: Gateway) -> None:
    done = gateway.psql(
        "alice", "select email as mail from shop.customers where id = 1 \\gset\n\\echo :mail\n"
    )
    assert done.stdout.endswith(f"*{SHOP.customers[0].email[-4:]}\n")
    assert SHOP.customers[0].email not in done.stdout


def terminal(gateway: Gateway, person: str) -> Terminal:
    """Debian's psql, which edits lines and completes words, at its first prompt."""
    words = psql_words(gateway.dsn(person), "-v", "PROMPT1==> ", "-P", "pager=off", major=15, stop=False)
    shown = Terminal(words, psql_env(15))
    shown.expect("=> ")
    return shown


@pytest.mark.parametrize("person", ["alice", "dora"])
def test_tab_completes_names_of_the_target(either_gateway: Gateway, person: str) -> None:
    with terminal(either_gateway, person) as shown:
        shown.press("select count(*) from shop.custo\t")
        shown.expect("mers ")
        shown.press(";\r")
        shown.expect("240")
        shown.expect("=> ")
        shown.press("\\d shop.order_i\t")
        shown.expect("tems")  # and an index of that beginning
        shown.press("\r")
        shown.expect("quantity")
        shown.expect("=> ")
        shown.press("update shop.products se\t")
        shown.expect("t ")
        shown.press("na\t")
        shown.expect("me ")
        shown.press(CTRL_C)
        shown.expect("=> ")
        shown.press("set work_\t")
        shown.expect("mem ")


SLEEPING = (
    "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(6_)%'"
)


def test_ctrl_c_ends_the_statement_of_that_session_and_no_other(either_gateway: Gateway) -> None:
    gateway = either_gateway

    def sleepers() -> str:
        return gateway.server.psql(SLEEPING, shop.DATABASE)

    cancels = len(gateway.logged("cancel"))
    with terminal(gateway, "dora") as one, terminal(gateway, "dora") as other:
        one.press("select pg_sleep(61);\r")
        other.press("select pg_sleep(62);\r")
        wait_until(lambda: sleepers() == "2", "both statements")
        one.press(CTRL_C)
        one.expect("ERROR:  canceling statement due to user request")
        one.expect("=> ")
        assert sleepers() == "1"
        one.press("select 6 * 7;\r")
        one.expect("42")
        other.press(CTRL_C)
        other.expect("ERROR:  canceling statement due to user request")
    assert len(gateway.logged("cancel")) == cancels + 2

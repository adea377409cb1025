"""The PostgreSQL gate, case by case: what is forwarded, what the client is told, in which order."""

from __future__ import annotations

import pytest

from policy.decision import SessionLimits
from policy.document import load_document
from policy.sql.catalog_rows import RelationRow
from protocols.errors import RemoteProtocolError
from protocols.postgres.messages import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    NO_DATA,
    PARSE_COMPLETE,
    SYNC,
    TERMINATE,
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyResponse,
    Describe,
    Execute,
    FunctionCall,
    NotificationResponse,
    ParameterDescription,
    Parse,
    Query,
    command_complete,
    data_row,
    error_response,
    notice,
    parameter_status,
    ready_for_query,
    row_description,
)
from proxyd.gates.postgres.actions import Need
from proxyd.gates.postgres.provocations import FAILING_PARSE, FAILING_QUERY, NOBODY
from tests.proxyd.gates.postgres.playbook import (
    EMAIL,
    EMAIL_ROWS,
    ID,
    NO_MASKS,
    POLICY,
    TEXT,
    InForce,
    Playbook,
    column,
    shop,
)

READY = ready_for_query("I")
IN_TRANSACTION = ready_for_query("T")
MASKED = b"[redacted]"
SELECT_EMAIL = "select email from customers"

CLOSE_UNNAMED = Close("S", b"").encode()
# What the target says to a name that the gateway sends in place of one that does not exist.
NO_STATEMENT = error_response("ERROR", "26000", "the gateway's own name")


def query(text: str) -> bytes:
    return Query(text).encode()


def parse(text: str, name: bytes = b"") -> bytes:
    return Parse(name, text).encode()


def bind(statement: bytes = b"", portal: bytes = b"", formats: tuple[int, ...] = ()) -> bytes:
    return Bind(portal, statement, result_formats=formats).encode()


EXECUTE = Execute(b"").encode()
DESCRIBE_PORTAL = Describe("P", b"").encode()


# --- simple protocol ---


def test_an_allowed_query_passes_and_its_masked_column_is_rewritten() -> None:
    play = Playbook()
    play.client(query(SELECT_EMAIL)).forwards(query(SELECT_EMAIL))
    play.target(EMAIL_ROWS, data_row([b"a@b.c"]), data_row([None]), command_complete("SELECT 2"), READY)
    play.tells(EMAIL_ROWS, data_row([MASKED]), data_row([None]), command_complete("SELECT 2"), READY)
    play.done()


def test_without_masks_rows_pass_as_they_are() -> None:
    play = Playbook(policy=NO_MASKS)
    play.client(query(SELECT_EMAIL)).forwards(query(SELECT_EMAIL))
    reply = EMAIL_ROWS + data_row([b"a@b.c"]) + command_complete("SELECT 1") + READY
    play.target(reply).tells(reply).done()


def test_a_denied_query_never_reaches_the_target_and_is_on_the_tape() -> None:
    play = Playbook()
    play.client(query("drop table customers")).forwards()
    play.tells_error("42501", "drop_table", then=READY)
    assert play.taped == [query("drop table customers")]
    assert play.events == ["denied"]
    play.done()


def test_a_held_query_says_that_it_needs_an_approval() -> None:
    play = Playbook()
    play.client(query("delete from orders where id = 1")).forwards()
    play.tells_error("42501", "approval", "hold-deletes", then=READY)
    play.done()


def test_a_denial_reports_the_true_transaction_state() -> None:
    play = Playbook()
    play.client(query("begin")).forwards(query("begin"))
    play.target(command_complete("BEGIN"), IN_TRANSACTION).tells(command_complete("BEGIN"), IN_TRANSACTION)
    play.client(query("drop table orders")).forwards()
    play.tells_error("42501", then=IN_TRANSACTION)
    play.done()


def test_a_denial_waits_for_the_answers_before_it() -> None:
    play = Playbook()
    play.client(query("select 1"), query("drop table orders")).forwards(query("select 1")).tells()
    one = (
        row_description([column("?column?")])
        + data_row([b"1"])
        + command_complete("SELECT 1")
        + IN_TRANSACTION
    )
    play.target(one)
    assert play.told.startswith(one)
    play.told = play.told[len(one) :]
    play.tells_error("42501", then=IN_TRANSACTION)
    play.done()


def test_every_statement_is_judged_before_the_first_is_forwarded() -> None:
    play = Playbook()
    play.client(query("select id from orders; drop table orders")).forwards()
    play.tells_error("42501", "drop_table", then=READY)
    play.done()


def test_a_syntax_error_fails_on_the_target_too() -> None:
    play = Playbook()
    play.client(query("selec 1")).forwards(FAILING_QUERY)
    play.target(error_response("ERROR", "42601", "the gateway's text"), ready_for_query("E"))
    play.tells_error("42601", 'syntax error at or near "selec"', then=ready_for_query("E"))
    play.done()


def test_a_masked_column_in_an_expression_is_refused() -> None:
    play = Playbook()
    play.client(query("select upper(email) from customers")).forwards()
    play.tells_error("42501", "shop.customers.email", "mail", then=READY)
    play.done()


def test_a_computed_column_that_the_analysis_did_not_foresee_is_withheld() -> None:
    play = Playbook()
    play.client(query(SELECT_EMAIL)).forwards(query(SELECT_EMAIL))
    moved = row_description([column("email"), column("more")])
    play.target(moved, data_row([b"a@b.c", b"x"]), command_complete("SELECT 1"), READY)
    play.tells_error("42501", "withheld", then=READY)
    play.done()


def test_a_column_of_an_unknown_table_asks_for_a_fresh_catalog_first() -> None:
    play = Playbook()
    play.client(query("select id from orders")).forwards(query("select id from orders"))
    rows = row_description([column("id", 30000, 1)])
    play.target(rows, data_row([b"1"]), command_complete("SELECT 1"), READY)
    assert play.need is Need.CATALOG
    play.tells()
    play.refreshed(shop((RelationRow(30000, "shop", "new", "r", False),)))
    play.tells(rows, data_row([b"1"]), command_complete("SELECT 1"), READY)
    play.done()


def test_a_column_of_a_table_that_stays_unknown_is_withheld() -> None:
    play = Playbook()
    play.client(query("select id from orders")).forwards(query("select id from orders"))
    play.target(
        row_description([column("id", 30000, 1)]), data_row([b"1"]), command_complete("SELECT 1"), READY
    )
    play.refreshed()
    play.tells_error("42501", "withheld", then=READY)
    play.done()


def test_the_function_call_message_is_refused() -> None:
    play = Playbook()
    play.client(FunctionCall(1598).encode()).forwards()
    play.tells_error("42501", "function-call", then=READY)
    play.done()


# --- extended protocol ---


def test_prepared_once_executed_often() -> None:
    play = Playbook()
    play.client(parse(SELECT_EMAIL, b"s"), Describe("S", b"s").encode(), SYNC)
    play.forwards(parse(SELECT_EMAIL, b"s"), Describe("S", b"s").encode(), SYNC)
    described = PARSE_COMPLETE + ParameterDescription(()).encode() + EMAIL_ROWS + READY
    play.target(described).tells(described)
    for _ in range(3):
        play.client(bind(b"s"), EXECUTE, SYNC).forwards(bind(b"s"), EXECUTE, SYNC)
        play.target(BIND_COMPLETE, data_row([b"a@b.c"]), command_complete("SELECT 1"), READY)
        play.tells(BIND_COMPLETE, data_row([MASKED]), command_complete("SELECT 1"), READY)
    play.done()


def test_the_gate_asks_for_the_description_that_the_client_did_not_ask_for() -> None:
    play = Playbook()
    play.client(parse(SELECT_EMAIL), bind(), EXECUTE, SYNC)
    play.forwards(parse(SELECT_EMAIL), bind(), DESCRIBE_PORTAL, EXECUTE, SYNC)
    play.target(
        PARSE_COMPLETE, BIND_COMPLETE, EMAIL_ROWS, data_row([b"a@b.c"]), command_complete("SELECT 1"), READY
    )
    play.tells(PARSE_COMPLETE, BIND_COMPLETE, data_row([MASKED]), command_complete("SELECT 1"), READY)
    play.done()


def test_binary_results_are_masked_in_binary() -> None:
    play = Playbook()
    play.client(parse(SELECT_EMAIL), bind(formats=(1,)), DESCRIBE_PORTAL, EXECUTE, SYNC)
    play.forwards(parse(SELECT_EMAIL), bind(formats=(1,)), DESCRIBE_PORTAL, EXECUTE, SYNC)
    binary = row_description([column("email", EMAIL.table_oid, 2, TEXT, fmt=1)])
    play.target(
        PARSE_COMPLETE, BIND_COMPLETE, binary, data_row([b"a@b.c"]), command_complete("SELECT 1"), READY
    )
    play.tells(PARSE_COMPLETE, BIND_COMPLETE, binary, data_row([MASKED]), command_complete("SELECT 1"), READY)
    play.done()


def test_a_denied_parse_skips_up_to_sync() -> None:
    play = Playbook()
    play.client(parse("drop table orders"), bind(), EXECUTE, SYNC).forwards(SYNC)
    play.target(READY)
    play.tells_error("42501", then=READY)
    play.client(bind(), SYNC).forwards(CLOSE_UNNAMED, bind(), SYNC)
    play.target(CLOSE_COMPLETE, NO_STATEMENT, READY)
    play.tells_error("26000", then=READY)
    play.done()


def test_a_target_that_accepts_what_had_to_fail_is_followed_no_further() -> None:
    play = Playbook()
    play.client(bind(b"s"), SYNC).forwards(Bind(b"", NOBODY).encode(), SYNC)
    with pytest.raises(RemoteProtocolError, match="had to fail"):
        play.target(BIND_COMPLETE)


def test_in_a_failed_transaction_the_target_has_the_word() -> None:
    play = Playbook()
    play.client(query("begin")).forwards(query("begin"))
    failed = command_complete("BEGIN") + ready_for_query("E")
    play.target(failed).tells(failed)
    play.client(query("execute nobody")).forwards(query(f'EXECUTE "{NOBODY.decode()}"'))
    play.target(error_response("ERROR", "25P02", "aborted"), ready_for_query("E"))
    play.tells_error("25P02", then=ready_for_query("E"))
    play.done()


def test_a_denial_behind_an_execute_fails_the_batch_on_the_target() -> None:
    play = Playbook()
    insert = "insert into orders (id) values (1)"
    play.client(parse(insert), bind(), EXECUTE, parse("drop table orders"), bind(), EXECUTE, SYNC)
    play.forwards(parse(insert), bind(), DESCRIBE_PORTAL, EXECUTE, CLOSE_UNNAMED, FAILING_PARSE, SYNC)
    play.target(PARSE_COMPLETE, BIND_COMPLETE, NO_DATA, command_complete("INSERT 0 1"))
    play.tells(PARSE_COMPLETE, BIND_COMPLETE, command_complete("INSERT 0 1"))
    play.target(CLOSE_COMPLETE, error_response("ERROR", "42601", "the gateway's text"), READY)
    play.tells_error("42501", "drop_table", then=READY)
    play.done()


def test_a_denial_behind_an_error_of_the_target_is_never_told() -> None:
    play = Playbook()
    play.client(parse("select id from orders"), parse("drop table orders"), SYNC)
    play.forwards(parse("select id from orders"), CLOSE_UNNAMED, SYNC)
    play.target(error_response("ERROR", "42P01", "gone"), READY)
    play.tells_error("42P01", "gone", then=READY)
    play.done()


def test_a_denied_query_in_an_open_batch_ends_it_with_an_error() -> None:
    play = Playbook()
    play.client(parse("select id from orders"), query("drop table orders"))
    play.forwards(parse("select id from orders"), FAILING_QUERY)
    play.target(PARSE_COMPLETE, error_response("ERROR", "42601", "the gateway's text"), READY)
    assert play.told.startswith(PARSE_COMPLETE)
    play.told = play.told[len(PARSE_COMPLETE) :]
    play.tells_error("42501", "drop_table", then=READY)
    play.done()


def test_a_name_of_an_earlier_batch_is_not_guessed() -> None:
    play = Playbook()
    play.client(parse(SELECT_EMAIL, b"s"), SYNC, bind(b"s"), EXECUTE, SYNC)
    play.forwards(parse(SELECT_EMAIL, b"s"), SYNC)
    assert play.need is Need.SETTLED
    assert not play.state.can_proceed
    play.target(PARSE_COMPLETE, READY).tells(PARSE_COMPLETE, READY)
    play.resumed().forwards(bind(b"s"), DESCRIBE_PORTAL, EXECUTE, SYNC)
    play.target(BIND_COMPLETE, EMAIL_ROWS, data_row([b"x"]), command_complete("SELECT 1"), READY)
    play.tells(BIND_COMPLETE, data_row([MASKED]), command_complete("SELECT 1"), READY)
    play.done()


def test_a_name_whose_parse_failed_does_not_exist() -> None:
    play = Playbook()
    play.client(parse(SELECT_EMAIL, b"s"), SYNC).forwards(parse(SELECT_EMAIL, b"s"), SYNC)
    play.target(error_response("ERROR", "42P01", "gone"), READY).tells_error("42P01", then=READY)
    play.client(bind(b"s"), SYNC).forwards(Bind(b"", NOBODY).encode(), SYNC)
    play.target(NO_STATEMENT, READY)
    play.tells_error("26000", 'prepared statement "s" does not exist', then=READY)
    play.done()


def test_execute_of_a_name_that_prepare_may_just_have_made_asks_the_target_first() -> None:
    play = Playbook()
    prepare = "prepare p as select email from customers"
    play.client(parse(prepare), bind(), EXECUTE, parse("execute p"))
    play.forwards(parse(prepare), bind(), DESCRIBE_PORTAL, EXECUTE, FLUSH)
    assert play.need is Need.SETTLED
    play.target(PARSE_COMPLETE, BIND_COMPLETE, NO_DATA, command_complete("PREPARE"))
    play.tells(PARSE_COMPLETE, BIND_COMPLETE, command_complete("PREPARE"))
    play.resumed().forwards(parse("execute p"))
    play.target(PARSE_COMPLETE).tells(PARSE_COMPLETE)
    play.done()


def test_sql_execute_is_judged_and_masked_by_what_was_prepared() -> None:
    play = Playbook()
    play.client(query("prepare p as select email from customers; execute p"))
    play.forwards(query("prepare p as select email from customers; execute p"))
    play.target(
        command_complete("PREPARE"), EMAIL_ROWS, data_row([b"a@b.c"]), command_complete("SELECT 1"), READY
    )
    play.tells(
        command_complete("PREPARE"), EMAIL_ROWS, data_row([MASKED]), command_complete("SELECT 1"), READY
    )
    play.client(query("deallocate p")).forwards(query("deallocate p"))
    play.target(command_complete("DEALLOCATE"), READY).tells(command_complete("DEALLOCATE"), READY)
    play.client(query("execute p")).forwards(query(f'EXECUTE "{NOBODY.decode()}"'))
    play.target(NO_STATEMENT, READY)
    play.tells_error("26000", 'prepared statement "p" does not exist', then=READY)
    play.done()


def test_a_cursor_is_masked_by_fetch_and_by_execute() -> None:
    play = Playbook()
    play.client(query("begin; declare c cursor for select email from customers"))
    play.forwards(query("begin; declare c cursor for select email from customers"))
    opened = command_complete("BEGIN") + command_complete("DECLARE CURSOR") + IN_TRANSACTION
    play.target(opened).tells(opened)
    play.client(query("fetch c")).forwards(query("fetch c"))
    play.target(EMAIL_ROWS, data_row([b"x"]), command_complete("FETCH 1"), IN_TRANSACTION)
    play.tells(EMAIL_ROWS, data_row([MASKED]), command_complete("FETCH 1"), IN_TRANSACTION)
    named = Execute(b"c").encode()
    play.client(named, SYNC).forwards(Describe("P", b"c").encode(), named, SYNC)
    play.target(EMAIL_ROWS, data_row([b"x"]), command_complete("SELECT 1"), IN_TRANSACTION)
    play.tells(data_row([MASKED]), command_complete("SELECT 1"), IN_TRANSACTION)
    play.done()


def test_a_reload_that_forbids_is_felt_at_the_next_bind() -> None:
    play = Playbook()
    play.client(parse(SELECT_EMAIL, b"s"), SYNC).forwards(parse(SELECT_EMAIL, b"s"), SYNC)
    play.target(PARSE_COMPLETE, READY).tells(PARSE_COMPLETE, READY)
    stricter = POLICY.replace(
        "rules:", 'rules:\n  - {name: closed, effect: deny, postgres: {relations: ["shop.customers"]}}'
    )
    play.in_force = InForce(load_document(stricter, "policy.yaml"), serial=2)
    play.client(bind(b"s"), EXECUTE, SYNC).forwards(SYNC)
    play.target(READY)
    play.tells_error("42501", "closed", then=READY)
    play.done()


# --- COPY ---

COPY_IN = CopyResponse("in", 0, (0, 0)).encode()
COPY_OUT = CopyResponse("out", 0, (0, 0)).encode()


def test_what_follows_copy_from_stdin_waits_until_the_target_has_answered() -> None:
    play = Playbook()
    copy = query("copy orders from stdin")
    data = CopyData(b"1\t2\n").encode()
    done = CopyDone().encode()
    play.client(copy, data, done).forwards(copy)
    assert play.need is Need.SETTLED
    play.target(COPY_IN).tells(COPY_IN)
    play.resumed().forwards(data, done)
    play.target(command_complete("COPY 1"), READY).tells(command_complete("COPY 1"), READY)
    play.done()


def test_copy_data_after_a_failed_copy_goes_nowhere() -> None:
    play = Playbook()
    copy = query("copy orders from stdin")
    play.client(copy, CopyData(b"1\t2\n").encode(), CopyDone().encode(), query("select 1")).forwards(copy)
    play.target(error_response("ERROR", "42501", "no"), READY).tells_error("42501", "no", then=READY)
    play.resumed().forwards(query("select 1"))
    answer = command_complete("SELECT 0") + READY
    play.target(answer).tells(answer)
    play.done()


@pytest.mark.parametrize("before", ["answered", "failed"])
def test_a_copy_is_still_awaited_when_what_was_sent_before_it_is_answered(before: str) -> None:
    play = Playbook()
    copy = query("copy orders from stdin")
    data = CopyData(b"1\t2\n").encode()
    play.client(query("select 1"), copy, data).forwards(query("select 1"), copy)
    first = (
        command_complete("SELECT 0")
        if before == "answered"
        else error_response("ERROR", "57014", "cancelled")
    )
    play.target(first, READY)
    play.told = b""
    assert not play.state.can_proceed
    play.target(COPY_IN).tells(COPY_IN)
    play.resumed().forwards(data)


def test_another_message_in_the_middle_of_copy_data_ends_the_session() -> None:
    play = Playbook()
    play.client(query("copy orders from stdin")).forwards(query("copy orders from stdin"))
    play.target(COPY_IN).tells(COPY_IN)
    with pytest.raises(RemoteProtocolError):
        play.client(query("select 1"))


def test_copy_to_stdout_is_masked() -> None:
    play = Playbook()
    copy = query("copy customers (id, email) to stdout")
    play.client(copy).forwards(copy)
    rest = CopyDone().encode() + command_complete("COPY 1") + READY
    play.target(COPY_OUT, CopyData(b"1\ta@b.c\n").encode(), rest)
    play.tells(COPY_OUT, CopyData(b"1\t[redacted]\n").encode(), rest)
    play.done()


# --- errors, notices, what comes at any time ---


def test_the_text_of_an_error_that_may_quote_a_value_is_withheld_under_masks() -> None:
    play = Playbook()
    play.client(query("insert into orders (id) values (1)")).forwards(
        query("insert into orders (id) values (1)")
    )
    play.target(
        error_response("ERROR", "23505", "duplicate key", detail="Key (email)=(a@b.c) exists."), READY
    )
    assert b"a@b.c" not in play.told
    play.tells_error("23505", "withheld", then=READY)
    play.done()


def test_errors_pass_as_they_are_without_masks() -> None:
    play = Playbook(policy=NO_MASKS)
    play.client(query("insert into orders (id) values (1)")).forwards(
        query("insert into orders (id) values (1)")
    )
    error = error_response("ERROR", "23505", "duplicate key", detail="Key (email)=(a@b.c) exists.")
    play.target(error, READY).tells(error, READY).done()


def test_notices_and_notifications_are_output_too() -> None:
    play = Playbook()
    play.target(notice("NOTICE", "P0001", "mail a@b.c"))
    play.target(NotificationResponse(7, "channel", "a@b.c").encode())
    assert b"a@b.c" not in play.told
    assert b"withheld" in play.told
    assert b"channel" in play.told


@pytest.mark.parametrize(
    ("name", "value"), [("client_encoding", "SJIS"), ("standard_conforming_strings", "off")]
)
def test_a_pinned_setting_that_changes_ends_the_session(name: str, value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Playbook().target(parameter_status(name, value))


def test_the_search_path_follows_what_the_target_reports() -> None:
    play = Playbook()
    play.client(query("set search_path to other")).forwards(query("set search_path to other"))
    assert play.state.resolution.search_path is None
    told = parameter_status("search_path", "other") + command_complete("SET") + READY
    play.target(told).tells(told)
    assert play.state.resolution.search_path == ("other",)
    play.done()


def test_rows_that_nobody_asked_for_end_the_session() -> None:
    with pytest.raises(RemoteProtocolError):
        Playbook().target(data_row([b"x"]))


# --- limits ---


def test_the_statement_limit_of_the_session() -> None:
    play = Playbook(limits=SessionLimits(statements=1))
    play.client(query("select 1")).forwards(query("select 1"))
    play.target(command_complete("SELECT 0"), READY).tells(command_complete("SELECT 0"), READY)
    play.client(query("select 1")).forwards()
    play.tells_error("53400", "session.statements", then=READY)
    play.done()


def test_the_row_limit_ends_the_session() -> None:
    play = Playbook(limits=SessionLimits(rows=2))
    play.client(query("select id from customers")).forwards(query("select id from customers"))
    play.target(row_description([ID]), data_row([b"1"]), data_row([b"2"]))
    play.told = b""
    play.target(data_row([b"3"]))
    assert play.close == "row limit reached"
    assert b"FATAL" in play.told
    assert data_row([b"3"]) not in play.told


def test_an_overlong_statement_is_refused() -> None:
    play = Playbook(max_statement_bytes=100)
    play.client(query("select " + "1," * 100 + "1")).forwards()
    play.tells_error("54000", then=READY)
    play.done()


def test_ddl_makes_the_catalog_stale_when_its_transaction_ends() -> None:
    policy = (
        NO_MASKS
        + """  - {name: ddl, effect: allow, roles: [analyst], postgres: {commands: ["*"], relations: ["*.*"]}}
"""
    )
    play = Playbook(policy=policy)
    play.client(query("alter table orders add note text")).forwards(query("alter table orders add note text"))
    assert play.source.marks == 0
    play.target(command_complete("ALTER TABLE"), READY).tells(command_complete("ALTER TABLE"), READY)
    assert play.source.marks == 1
    play.client(query("select id from orders")).forwards()
    assert play.need is Need.CATALOG
    play.refreshed().forwards(query("select id from orders"))


def test_terminate_ends_the_session() -> None:
    play = Playbook()
    play.client(TERMINATE).forwards(TERMINATE)
    assert play.close == "client terminated"

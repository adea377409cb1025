"""The ledger: whose reply is it, what does an error drop, when does a local reply get its turn."""

from __future__ import annotations

import pytest

from protocols.errors import RemoteProtocolError
from protocols.postgres.exchange import Exchange, Owed, OwedKind

P, B, D, E, S, Q = (
    OwedKind.PARSE,
    OwedKind.BIND,
    OwedKind.DESCRIBE_PORTAL,
    OwedKind.EXECUTE,
    OwedKind.SYNC,
    OwedKind.QUERY,
)


class Entry(Owed):
    def __init__(
        self, kind: OwedKind, detail: str = "", reply: bytes = b"", with_ready: bool = False
    ) -> None:
        super().__init__(kind)
        self.detail = detail
        self.reply = reply
        self.with_ready = with_ready


def forwarded(*kinds: OwedKind) -> Exchange[Entry]:
    exchange: Exchange[Entry] = Exchange()
    for number, kind in enumerate(kinds):
        exchange.expect(Entry(kind, f"{number}"))
    return exchange


def answer(exchange: Exchange[Entry], replies: str) -> list[str]:
    """The detail of the entry that each reply belongs to."""
    whose = []
    for reply in replies:
        if reply == "Z":
            entry = exchange.ready(ord("I"))
        else:
            entry = exchange.answered(ord(reply))
        whose.append(entry.detail)
    return whose


def test_replies_belong_to_requests_in_order() -> None:
    exchange = forwarded(P, B, D, E, S, Q)
    assert answer(exchange, "12TDDCZTDCTDCZ") == list("01233345555555")
    assert exchange.is_settled


def test_describe_statement_takes_two_replies() -> None:
    exchange = forwarded(OwedKind.DESCRIBE_STATEMENT, S)
    assert answer(exchange, "tnZ") == list("001")


@pytest.mark.parametrize(
    ("owed", "reply"),
    [((), "1"), ((P,), "2"), ((P,), "D"), ((E,), "T"), ((S,), "C"), ((Q,), "1"), ((Q,), "s"), ((B,), "Z")],
)
def test_a_reply_that_does_not_fit_is_an_error(owed: tuple[OwedKind, ...], reply: str) -> None:
    with pytest.raises(RemoteProtocolError):
        answer(forwarded(*owed), reply)


def test_an_unknown_transaction_status_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError):
        forwarded(S).ready(ord("X"))


def test_an_error_drops_what_is_owed_up_to_sync() -> None:
    exchange = forwarded(P, B, E, S, P, S)
    answer(exchange, "1")
    head, dropped = exchange.failed()
    assert head is not None
    assert head.detail == "1"
    assert [entry.detail for entry in dropped] == ["1", "2"]
    assert not exchange.is_skipping
    assert answer(exchange, "Z1Z") == ["3", "4", "5"]


def test_an_error_before_sync_was_sent_makes_the_rest_skipped() -> None:
    exchange = forwarded(P, B, E)
    exchange.failed()
    assert exchange.is_skipping
    assert exchange.is_settled
    exchange.expect(Entry(S, "sync"))
    assert not exchange.is_skipping
    assert answer(exchange, "Z") == ["sync"]


def test_a_query_inside_the_skipped_part_is_never_answered() -> None:
    exchange = forwarded(P, Q, S)
    _, dropped = exchange.failed()
    assert [entry.kind for entry in dropped] == [P, Q]
    assert answer(exchange, "Z") == ["2"]


def test_an_error_of_a_query_leaves_its_ready_owed() -> None:
    exchange = forwarded(Q, Q)
    head, dropped = exchange.failed()
    assert head is not None
    assert head.detail == "0"
    assert dropped == []
    assert answer(exchange, "ZCZ") == ["0", "1", "1"]


def test_an_error_at_sync_leaves_its_ready_owed() -> None:
    exchange = forwarded(S)
    head, dropped = exchange.failed()
    assert head is not None
    assert head.kind is S
    assert dropped == []
    assert answer(exchange, "Z") == ["0"]


def test_an_error_outside_any_request_belongs_to_nobody() -> None:
    assert Exchange[Entry]().failed() == (None, [])


def test_a_local_reply_waits_for_its_turn() -> None:
    exchange = forwarded(P)
    exchange.expect_local(Entry(OwedKind.LOCAL, "local", b"denied"))
    exchange.expect(Entry(S, "sync"))
    assert list(exchange.take_local()) == []
    answer(exchange, "1")
    assert [entry.reply for entry in exchange.take_local()] == [b"denied"]
    assert answer(exchange, "Z") == ["sync"]


def test_a_local_reply_behind_an_error_is_never_given() -> None:
    exchange = forwarded(P)
    exchange.expect_local(Entry(OwedKind.LOCAL, "", b"denied"))
    exchange.expect(Entry(S, "sync"))
    exchange.failed()
    assert list(exchange.take_local()) == []
    assert answer(exchange, "Z") == ["sync"]


def test_transaction_status_is_the_last_told() -> None:
    exchange = forwarded(Q, Q)
    exchange.ready(ord("T"))
    assert exchange.transaction_status == ord("T")
    exchange.ready(ord("E"))
    assert exchange.transaction_status == ord("E")


def test_pipelining_is_bounded() -> None:
    exchange: Exchange[Entry] = Exchange(max_owed=3)
    for _ in range(3):
        assert not exchange.is_overfull
        exchange.expect(Entry(P))
    assert exchange.is_overfull


def test_batches_are_counted_by_sync_and_query() -> None:
    exchange = forwarded(P, S, Q, P)
    assert [entry.batch for entry in exchange.owed] == [0, 0, 1, 2]

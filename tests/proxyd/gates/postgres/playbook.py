"""A gate between a scripted client and a scripted target: what goes in on one side, what must come out on the other.

`client(...)` hands the gate client messages and tells what it forwards; `target(...)` hands it replies and tells what
the client gets. What the gate says beyond what a step asserts stays in `forwarded` and `told`, and `done()` fails when
anything was left unasserted: forgetting to look is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from policy.decision import SessionLimits
from policy.document import PolicyDocument, load_document
from policy.facts import Subject, Target
from policy.sql.catalog import Catalog, build_catalog
from policy.sql.catalog_rows import CatalogRows, ColumnRow, RelationRow
from protocols.postgres.codec import BackendCodec, FrontendCodec
from protocols.postgres.messages import (
    ErrorResponse,
    FieldDescription,
    Frame,
    decode_backend,
    row_description,
)
from proxyd.gates.postgres.actions import Actions, Need
from proxyd.gates.postgres.judge import VerdictCache
from proxyd.gates.postgres.replies import Replies
from proxyd.gates.postgres.requests import Requests
from proxyd.gates.postgres.state import SessionSetting, State

INT4, TEXT = 23, 25
CUSTOMERS, ORDERS = 20001, 20002
MAX_BYTES = 1 << 20

POLICY = """
version: 1
roles:
  analyst: {groups: [data]}
access:
  - {name: analysts, roles: [analyst], targets: {protocol: postgres}, logins: [reader]}
rules:
  - {name: read, effect: allow, roles: [analyst], postgres: {commands: [select, copy_to], relations: ["shop.*"]}}
  - {name: write-orders, effect: allow, roles: [analyst],
     postgres: {commands: [insert, update, copy_from], relations: ["shop.orders"]}}
  - {name: hold-deletes, effect: hold, roles: [analyst], postgres: {commands: [delete], relations: ["shop.orders"]},
     approval: {approvers: [dba], approvals: 1, timeout: 10m}}
masks:
  - {name: mail, columns: ["shop.customers.email"], method: redact}
"""
NO_MASKS = POLICY[: POLICY.index("masks:")]


def shop(extra: tuple[RelationRow, ...] = ()) -> Catalog:
    relations = (
        RelationRow(CUSTOMERS, "shop", "customers", "r", False),
        RelationRow(ORDERS, "shop", "orders", "r", False),
        *extra,
    )
    columns = [
        ColumnRow(CUSTOMERS, 1, "id", INT4, -1, ""),
        ColumnRow(CUSTOMERS, 2, "email", TEXT, -1, ""),
        ColumnRow(ORDERS, 1, "id", INT4, -1, ""),
        ColumnRow(ORDERS, 2, "total", INT4, -1, ""),
        *(ColumnRow(relation.oid, 1, "id", INT4, -1, "") for relation in extra),
    ]
    return build_catalog(
        CatalogRows(
            server_version=180000,
            database="shop",
            schemas=("shop", "pg_catalog"),
            relations=relations,
            columns=tuple(columns),
        )
    )


@dataclass
class InForce:
    document: PolicyDocument
    serial: int = 1


@dataclass
class Source:
    """The catalog as the gate sees it; `mark_stale` is remembered and lifted by the test."""

    latest: Catalog | None
    is_stale: bool = False
    marks: int = 0

    def mark_stale(self) -> None:
        self.is_stale = True
        self.marks += 1


def column(name: str, table: int = 0, number: int = 0, kind: int = TEXT, fmt: int = 0) -> FieldDescription:
    return FieldDescription(name, table, number, kind, -1, -1, fmt)


EMAIL = column("email", CUSTOMERS, 2)
ID = column("id", CUSTOMERS, 1, INT4)
EMAIL_ROWS = row_description([EMAIL])


@dataclass
class Playbook:
    policy: str = POLICY
    limits: SessionLimits = field(default_factory=SessionLimits)
    catalog: Catalog = field(default_factory=shop)
    max_statement_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        self.in_force = InForce(load_document(self.policy, "policy.yaml"))
        self.source = Source(self.catalog)
        self.state = State(
            SessionSetting(
                subject=Subject("alice", ("data",)),
                target=Target("shop", "postgres"),
                database="shop",
                login="reader",
                role="shop_reader",
                limits=self.limits,
                policy=lambda: self.in_force,
                catalog=self.source,
                cache=VerdictCache(),
                search_path=("shop",),
            )
        )
        self.requests = Requests(self.state, self.max_statement_bytes)
        self.replies = Replies(self.state)
        self.frontend = FrontendCodec(MAX_BYTES)
        self.backend = BackendCodec(MAX_BYTES)
        self.forwarded = b""
        self.told = b""
        self.taped: list[bytes] = []
        self.events: list[str] = []
        self.need: Need | None = None
        self.close: str | None = None

    def client(self, *messages: bytes) -> Playbook:
        self._take(self.requests.receive(self.frontend.receive(b"".join(messages))))
        return self

    def target(self, *messages: bytes) -> Playbook:
        self._take(self.replies.receive(self.backend.receive(b"".join(messages))))
        return self

    def refreshed(self, catalog: Catalog | None = None) -> Playbook:
        """The relay has read the catalog again and comes back to both sides."""
        self.source.latest = catalog or self.source.latest
        self.source.is_stale = False
        self._take(self.replies.receive(()))
        self._take(self.requests.receive(()))
        return self

    def resumed(self) -> Playbook:
        """The relay has seen `can_proceed`."""
        assert self.state.can_proceed
        self._take(self.requests.receive(()))
        return self

    def _take(self, actions: Actions) -> None:
        self.taped += [raw for _, _, raw in actions.requests]
        self.events += [name for name, _ in actions.events]
        self.forwarded += b"".join(actions.to_target)
        self.told += b"".join(actions.to_client)
        assert b"".join(actions.to_client) == b"".join(raw for _, raw, _ in actions.replies)
        self.need = actions.need
        self.close = actions.close or self.close
        owed = self.state.exchange.owed
        if owed and owed[0].reply:
            self._take(self.replies.local_replies())

    def forwards(self, *messages: bytes) -> Playbook:
        assert self.forwarded == b"".join(messages)
        self.forwarded = b""
        return self

    def tells(self, *messages: bytes) -> Playbook:
        assert self.told == b"".join(messages)
        self.told = b""
        return self

    def tells_error(self, sqlstate: str, *words: str, then: bytes = b"") -> Playbook:
        """The first message to the client is this error; exactly `then` follows."""
        length = 1 + int.from_bytes(self.told[1:5])
        error = decode_backend(Frame(self.told[0], self.told[:length]))
        assert isinstance(error, ErrorResponse)
        assert error.fields.get("S") == "ERROR"
        assert error.fields.get("C") == sqlstate
        text = " ".join(error.fields.get(key) or "" for key in "MDH")
        for word in words:
            assert word in text
        assert self.told[length:] == then
        self.told = b""
        return self

    def done(self) -> None:
        assert self.forwarded == b""
        assert self.told == b""
        assert self.need is None

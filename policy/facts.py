"""What the gateway knows of a caller, a target and an operation, as plain data.

Facts carry no judgement: they are the same whatever the policy says, so that a tape can be judged again under
another document. Gates build them, `policy.evaluate` reads them, the tape stores them (msgspec, arrays of plain
values). Nothing here does I/O or reads a clock; times are passed in as Unix seconds.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec


class Subject(msgspec.Struct, frozen=True):
    """Who is calling. `claims` holds every other name of the certificate or claim of the token."""

    name: str
    groups: tuple[str, ...] = ()
    claims: dict[str, str | list[str]] = {}
    method: str = "certificate"
    expires_at: float | None = None


class Target(msgspec.Struct, frozen=True):
    """What is called: one configured system behind the gateway."""

    name: str
    protocol: str
    labels: dict[str, str] = {}


class Use(Enum):
    """How a statement uses a column."""

    OUTPUT = "output"  # leaves unchanged as (part of) an output column of the statement
    EXPRESSION = "expression"  # goes into a computed output value
    FILTER = "filter"  # WHERE, HAVING, JOIN ON, CASE WHEN, FILTER, LIMIT...
    JOIN = "join"  # equality between two columns in JOIN ON / USING / NATURAL
    GROUP = "group"  # GROUP BY, DISTINCT, set operations that drop duplicates, PARTITION BY
    ORDER = "order"  # ORDER BY
    COPY = "copy"  # stored elsewhere: INSERT..SELECT, UPDATE SET x = col, CREATE TABLE AS, SELECT INTO
    ASSIGN = "assign"  # target of INSERT, UPDATE SET or COPY FROM: written, not read
    ROW = "row"  # part of a whole-row value (select t from t; t::text; row_to_json(t))


HIDDEN = "hidden: "


class ColumnName(msgspec.Struct, frozen=True, order=True):
    schema: str
    relation: str
    column: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.relation}.{self.column}"


class ColumnUse(msgspec.Struct, frozen=True):
    """One use of one column. `via` names the view (or inheritance relative) through which it is reached.

    A use of a view's column gives one ColumnUse for the view's column (via "") and one for each base column behind it
    (via "schema.view"); what the view's own definition does with base columns (its WHERE, its joins, its expressions)
    is added with the same `via` whenever the view is touched.
    """

    column: ColumnName
    use: Use
    via: str = ""


class RelationAccess(msgspec.Struct, frozen=True):
    """One relation that a statement touches.

    command: select, insert, update, delete, merge, truncate, copy_from, create_table, alter_table, drop ... (the
    command that touches this relation, so a SELECT inside an INSERT gives its own `select` access).
    schema: "" when the name could not be resolved to one schema. via: the view it is reached through ("" if direct).
    bounded: False when an UPDATE or DELETE of it has no WHERE.
    columns: columns read or written by name, sorted; None when that is not known (then any column may be meant).
    """

    command: str
    schema: str
    name: str
    via: str = ""
    bounded: bool = True
    columns: tuple[str, ...] | None = ()


class Output(msgspec.Struct, frozen=True):
    """One output column of a statement.

    source: the single column whose value leaves unchanged here (through subqueries and CTEs), else None. When it is a
    column of a view, `also` names the base columns behind it; for a partition or inheritance child or parent, the
    same column of its relatives. A mask declared on any of these names applies.
    derived: columns that go into its value when it is computed. All empty: proved to carry no column at all.
    known: False when lineage could not be proved.
    """

    name: str
    source: ColumnName | None = None
    also: tuple[ColumnName, ...] = ()
    derived: tuple[ColumnName, ...] = ()
    known: bool = True


class SqlFacts(msgspec.Struct, frozen=True):
    """One SQL statement.

    command: the top-level command tag in lower snake case ("select", "insert", "create_table_as", "set", "begin").
    commands: every command inside, the top one included (a CTE that writes, EXPLAIN ANALYZE, PREPARE, COPY (query)).
    accesses: relations touched. functions: calls ("schema.name") that are not on the list of harmless functions.
    settings: names that SET/RESET/set_config would change. uses: columns used. outputs: output columns, None when the
    statement returns no rows. unresolved: reasons why something in it could not be seen (fail closed on these); those
    that begin with HIDDEN are about something that could read any relation, whichever the statement names.
    hidden_functions: like functions, but called inside the views that it touches.
    """

    command: str
    commands: tuple[str, ...] = ()
    accesses: tuple[RelationAccess, ...] = ()
    functions: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    uses: tuple[ColumnUse, ...] = ()
    outputs: tuple[Output, ...] | None = None
    unresolved: tuple[str, ...] = ()
    hidden_functions: tuple[str, ...] = ()


# --- SSH ------------------------------------------------------------------------------------------------------


class SshOperation(Enum):
    """What a client asks of an SSH target. Each is judged by itself."""

    SHELL = "shell"  # an interactive shell
    EXEC = "exec"  # one command text, run by the login's shell
    SUBSYSTEM = "subsystem"  # a named subsystem, sftp among them
    FILE = "file"  # one operation inside an sftp subsystem
    FORWARD = "forward"  # a connection that the client asks to open from the target (direct-tcpip, direct-streamlocal)
    LISTEN = "listen"  # an address on which the target is to take connections for the client
    AGENT = "agent"  # the client's key agent reachable from the target
    X11 = "x11"  # the client's display reachable from the target


class Word(msgspec.Struct, frozen=True):
    """One word of a shell command after quote removal; where is_known is false, its source text.

    A word that the shell makes at run time (a variable, a substitution, a glob, a brace) is not known: it may become
    any text, none, or several words.
    """

    text: str
    is_known: bool = True


class Redirect(msgspec.Struct, frozen=True):
    """A redirection to or from a file. `operator` as written (">", ">>", "<", "<>", ">|", "&>"); /dev/null, standard
    streams ("2>&1") and here-documents are not listed."""

    operator: str
    word: Word


class SimpleCommand(msgspec.Struct, frozen=True):
    """One command of a list, pipe, group, loop or substitution. `words` begins with the command's name.

    assignments: names of variables set for it alone (or, without words, for what follows). inner: what it runs itself
    (`sh -c TEXT`, `sudo CMD`, `xargs CMD`, `find -exec CMD`), as far as that can be seen. is_explained: `inner` is all
    that it does, so that who may run that may run this (`sh -c TEXT`, `env CMD`, `nice CMD`; never `sudo CMD`).
    reads_code: it is a shell or interpreter that takes its commands from its input, so they cannot be seen.
    """

    words: tuple[Word, ...]
    assignments: tuple[str, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    inner: tuple[SimpleCommand, ...] = ()
    is_explained: bool = False
    reads_code: bool = False


class SshFacts(msgspec.Struct, frozen=True):
    """One operation of an SSH session.

    command: the text of an exec as sent, or the name of a subsystem. commands: its simple commands, substitutions
    included, in the order in which they stand. unresolved: why the text could not be taken apart (fail closed where a
    rule depends on it). has_pty: a terminal was asked for on this channel.
    verb, path, other_path: of a file operation; verbs are read, write, list, stat, setstat, mkdir, rmdir, remove,
    rename (other_path is the new name), link (other_path is what it points to). Paths are absolute and normalised,
    with symbolic links resolved as far as the target reports them.
    host, port: of FORWARD and LISTEN over TCP; a unix socket has its path in `path`, and port 0.
    """

    operation: SshOperation
    command: str = ""
    commands: tuple[SimpleCommand, ...] = ()
    unresolved: tuple[str, ...] = ()
    has_pty: bool = False
    verb: str = ""
    path: str = ""
    other_path: str = ""
    host: str = ""
    port: int = 0


# --- HTTP -----------------------------------------------------------------------------------------------------


class BodyState(Enum):
    """What is known of the body of a request when it is judged."""

    NONE = "none"  # there is none
    UNREAD = "unread"  # there is one, and no rule needed to look into it
    JSON = "json"  # read whole; `body` holds it
    FORM = "form"  # read whole; `body` holds names, each with the list of its values
    UNKNOWN = "unknown"  # of a type that is not looked into, or compressed
    BROKEN = "broken"  # not what its type says: it does not parse, or says one name twice
    TOO_LARGE = "too_large"  # longer than the gateway reads before it decides


class LlmFacts(msgspec.Struct, frozen=True):
    """One call of a language model, as its request shows it.

    api: "openai" or "anthropic" (the shape). operation: chat, responses, completions, embeddings, count_tokens,
    models, or "other" for one that the gateway does not know. max_tokens: the most that may be answered (all answers
    together), None when the request leaves it open. input_tokens: estimated from the text. estimated_cost_usd: input
    and the most of output by the price table; None when model or length is not known. tools: names of the tools
    offered. unresolved: why something in it could not be seen (fail closed on these where a rule depends on it).
    """

    api: str
    operation: str
    model: str = ""
    max_tokens: int | None = None
    input_tokens: int = 0
    estimated_cost_usd: float | None = None
    tools: tuple[str, ...] = ()
    is_stream: bool = False
    unresolved: tuple[str, ...] = ()


class HttpFacts(msgspec.Struct, frozen=True):
    """One HTTP request, as it will be sent to the target.

    host: the target's, without a port where it is the scheme's own. path: absolute, in its one normal form (RFC 3986,
    6.2.2; no dot segments). other_paths: what a target could also read it as (an encoded slash as a slash): a deny or
    hold rule means any of them, an allow rule has to mean all. query and headers: in their order, header names in
    lower case, credentials left out. body_bytes: None when it is not known before it has passed. upgrade: "websocket"
    or "". body: see BodyState.
    """

    method: str
    scheme: str
    host: str
    path: str
    other_paths: tuple[str, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    body_bytes: int | None = 0
    body_state: BodyState = BodyState.NONE
    body: Any = None
    upgrade: str = ""
    llm: LlmFacts | None = None

"""The vocabulary of SQL commands: what a rule may name, and how each command is treated when no rule does.

A command is PostgreSQL's command tag in lower snake case ("select", "create_table_as"), with a few tags
split where a policy must tell the halves apart (`copy_to`, `copy_from`, `copy_program`, `copy_file`,
`set_role`). Plain data; read by `policy.document` (is this a command?) and `policy.evaluate` (who covers
it?).
"""

from __future__ import annotations

from policy.patterns import Glob


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CREATED_AND_DROPPED = _words("""
    access_method aggregate cast collation conversion database domain event_trigger extension
    foreign_data_wrapper foreign_table function group index language materialized_view operator
    operator_class operator_family policy procedure publication role rule schema sequence server
    statistics subscription table tablespace text_search_configuration text_search_dictionary
    text_search_parser text_search_template transform trigger type user user_mapping view
""")
_ALTERED = (
    *_CREATED_AND_DROPPED,
    "default_privileges",
    "large_object",
    "routine",
    "system",
    "constraint",
    "column",
)

# Reading or moving inside a session: nothing reaches data that another access does not show.
SESSION_COMMANDS = _words("""
    abort begin close close_cursor close_cursor_all commit deallocate deallocate_all declare
    declare_cursor discard discard_all discard_plans discard_sequences discard_temp empty end
    execute explain fetch move prepare release release_savepoint reset reset_all rollback
    rollback_to rollback_to_savepoint savepoint set set_constraints set_local set_transaction show
    start start_transaction
""")

# Commands around another one: what is inside is judged by its own accesses, and a `deny` that names the
# wrapper together with relations means the relations inside it.
WRAPPING_COMMANDS = _words("""
    copy copy_to copy_from copy_program copy_file create_materialized_view create_table_as
    create_view declare declare_cursor execute explain explain_analyze prepare
    refresh_materialized_view select_into alter_view create_rule create_trigger
""")

# Covered by the accesses of what is inside them, like SESSION_COMMANDS, but able to carry data.
COVERED_BY_CONTENT = frozenset({"copy_to", "explain_analyze"})

_PLAIN = _words("""
    alter analyze call checkpoint cluster comment commit_prepared copy copy_file copy_from
    copy_program copy_to create_table_as delete do drop_owned explain_analyze grant grant_role
    import_foreign_schema insert listen load lock lock_table merge notify other prepare_transaction
    reassign_owned refresh_materialized_view reindex rename revoke revoke_role rollback_prepared
    security_label select select_into set_role set_session_authorization truncate truncate_table
    unknown unlisten update vacuum values
""")

COMMANDS = frozenset(
    (
        *SESSION_COMMANDS,
        *WRAPPING_COMMANDS,
        *_PLAIN,
        *(f"create_{kind}" for kind in _CREATED_AND_DROPPED),
        *(f"drop_{kind}" for kind in (*_CREATED_AND_DROPPED, "routine", "constraint", "column")),
        *(f"alter_{kind}" for kind in _ALTERED),
        "create_constraint",
        "drop",
        "create",
    )
)

_CODE_OR_POWER = _words("""
    access_method aggregate cast event_trigger extension foreign_data_wrapper function group
    language operator operator_class operator_family policy procedure publication role rule server
    subscription transform trigger user user_mapping database tablespace conversion
""")

# Code that runs out of sight, powers handed out, and doors out of the database. `*` never means these: a
# rule that allows one of them has to name it.
MUST_BE_NAMED = frozenset(
    (
        *_words("""
    alter_default_privileges alter_routine alter_system call copy_file copy_program do drop_owned
    grant grant_role import_foreign_schema load reassign_owned revoke revoke_role security_label
    set_role set_session_authorization other unknown
"""),
        *(f"create_{kind}" for kind in _CODE_OR_POWER),
        *(f"alter_{kind}" for kind in _CODE_OR_POWER),
    )
)

# Under masks: code or files that the gateway cannot look into.
OUT_OF_SIGHT = frozenset({"copy_program", "copy_file", "do", "call", "other", "unknown"})

# Under masks: gives a masked column another name or place, or hangs code on its table.
RESHAPING = frozenset(
    {
        *(
            f"alter_{kind}"
            for kind in ("table", "view", "materialized_view", "foreign_table", "type", "domain")
        ),
        "alter_column",
        "create_policy",
        "create_rule",
        "create_trigger",
        "rename",
    }
)

# Under masks: looks at the values of a masked column (in an expression, a condition, to sort, to tell duplicates), or
# lets what it defines do so later.
LOOKING = frozenset(
    {
        "alter_policy",
        "alter_publication",
        "cluster",
        "create_index",
        "create_publication",
        "create_statistics",
    }
)

# Under masks: renames a schema, and with it every column in it.
RENAMES_SCHEMAS = frozenset({"alter_schema"})

READING = frozenset({"select", "copy_to", "copy", "values"})


def commands_matching(glob: str) -> frozenset[str]:
    """The commands that `glob` ("select", "create_*", "*") names; empty when there are none."""
    if glob in COMMANDS:
        return frozenset((glob,))
    compiled = Glob(glob)
    return frozenset(command for command in COMMANDS if compiled.matches(command))

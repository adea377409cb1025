"""Which run-time settings anyone may change, which are pinned, and what a search path is made of.

A free setting changes how values look or how long the server works, not what may be read; it is not told in the facts.
A pinned one keeps the gateway's and the server's reading of a text alike and accepts one value only. Every
other setting is told, and a rule must name it.
"""

from __future__ import annotations

import re

from policy.sql.refusal import SqlRefused
from policy.sql.words import words

FREE_SETTINGS = words("""
    application_name array_nulls backend_flush_after bytea_output check_function_bodies
    client_connection_check_interval client_min_messages commit_delay commit_siblings
    constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction
    datestyle deadlock_timeout debug_parallel_query default_statistics_target
    default_table_access_method default_tablespace default_text_search_config default_toast_compression
    default_transaction_deferrable default_transaction_isolation default_transaction_read_only
    default_with_oids effective_cache_size effective_io_concurrency enable_async_append
    enable_bitmapscan enable_distinct_reordering enable_gathermerge enable_group_by_reordering
    enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan enable_indexscan
    enable_material enable_memoize enable_mergejoin enable_nestloop enable_parallel_append
    enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate
    enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination enable_seqscan
    enable_sort enable_tidscan exit_on_error extra_float_digits force_parallel_mode from_collapse_limit
    geqo geqo_effort geqo_generations geqo_pool_size geqo_seed geqo_selection_bias geqo_threshold
    gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier icu_validation_level
    idle_in_transaction_session_timeout idle_session_timeout intervalstyle jit jit_above_cost
    jit_inline_above_cost jit_optimize_above_cost join_collapse_limit lc_messages lc_monetary lc_numeric
    lc_time lock_timeout logical_decoding_work_mem maintenance_io_concurrency maintenance_work_mem
    max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather
    min_parallel_index_scan_size min_parallel_table_scan_size parallel_leader_participation
    parallel_setup_cost parallel_tuple_cost plan_cache_mode quote_all_identifiers random_page_cost
    recursive_worktable_factor restrict_nonsystem_relation_kind row_security search_path seed
    seq_page_cost statement_timeout synchronize_seqscans synchronous_commit temp_buffers timezone
    timezone_abbreviations transaction_deferrable transaction_isolation transaction_read_only
    transaction_timeout transform_null_equals work_mem xmlbinary xmloption
""")

# Value as the server spells it, and other spellings that mean the same.
PINNED_SETTINGS = {
    "client_encoding": frozenset({"utf8", "utf-8", "unicode", "utf_8"}),
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1", "t", "y", "tr", "tru", "ye"}),
    "backslash_quote": frozenset({"safe_encoding", "safe-encoding", "off", "false", "no", "0"}),
    "escape_string_warning": frozenset({"on", "true", "yes", "1", "off", "false", "no", "0"}),
}

SPECIAL_COMMANDS = {"role": "set_role", "session_authorization": "set_session_authorization"}

_PLAIN_SCHEMA = re.compile(r"[a-z_\u0080-\U0010ffff][a-z0-9_$\u0080-\U0010ffff]*")
_QUOTED_SCHEMA = re.compile(r'"((?:[^"]|"")*)"')
_LONGEST_NAME_BYTES = 63


def check_pinned(name: str, value: str | None) -> None:
    """Raises SqlRefused when `name` is pinned and `value` (None: the server's default) is not what it must be."""
    allowed = PINNED_SETTINGS.get(name)
    if allowed is None or value is None:
        return
    if value.strip().lower() not in allowed:
        raise SqlRefused(
            f'the gateway does not pass on {name} = "{value}"',
            "22023",
            detail="The gateway and the server must read the text of a statement alike.",
            hint=f"Leave {name} as it is.",
        )


def is_told(name: str) -> bool:
    """Must a change of this setting be told in the facts?"""
    return name not in FREE_SETTINGS and name not in PINNED_SETTINGS and name not in SPECIAL_COMMANDS


def parse_search_path(value: str) -> tuple[str, ...] | None:
    """A search path written as one string, None when it is not certain how the server reads it."""
    schemas = []
    for part in value.split(","):
        name = part.strip(" \t\n\r\f\v")
        quoted = _QUOTED_SCHEMA.fullmatch(name)
        if quoted is not None:
            schemas.append(quoted.group(1).replace('""', '"'))
        elif name == "$user" or _PLAIN_SCHEMA.fullmatch(name):
            schemas.append(name)
        elif name == "" and value.strip() == "":
            return ()
        else:
            return None
    if any(len(schema.encode()) > _LONGEST_NAME_BYTES for schema in schemas):
        return None
    return tuple(schemas)

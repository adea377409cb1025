"""Every statement of the grammar and the name of its command; what is not in these tables is refused.

Names are those of `policy.commands`. Statements whose name depends on what they say, or that hold others, have a
handler in `policy.sql.statements`; the rest is here.
"""

from __future__ import annotations

from typing import Final

# Definitions of objects: judged by their name and by the relations they mention.
DEFINITIONS: Final = {
    "AlterCollationStmt": "alter_collation",
    "AlterDatabaseRefreshCollStmt": "alter_database",
    "AlterDatabaseSetStmt": "alter_database",
    "AlterDatabaseStmt": "alter_database",
    "AlterDefaultPrivilegesStmt": "alter_default_privileges",
    "AlterDomainStmt": "alter_domain",
    "AlterEnumStmt": "alter_type",
    "AlterEventTrigStmt": "alter_event_trigger",
    "AlterExtensionContentsStmt": "alter_extension",
    "AlterExtensionStmt": "alter_extension",
    "AlterFdwStmt": "alter_foreign_data_wrapper",
    "AlterForeignServerStmt": "alter_server",
    "AlterFunctionStmt": "alter_function",
    "AlterOpFamilyStmt": "alter_operator_family",
    "AlterOperatorStmt": "alter_operator",
    "AlterPolicyStmt": "alter_policy",
    "AlterPublicationStmt": "alter_publication",
    "AlterRoleSetStmt": "alter_role",
    "AlterRoleStmt": "alter_role",
    "AlterSeqStmt": "alter_sequence",
    "AlterStatsStmt": "alter_statistics",
    "AlterSubscriptionStmt": "alter_subscription",
    "AlterSystemStmt": "alter_system",
    "AlterTSConfigurationStmt": "alter_text_search_configuration",
    "AlterTSDictionaryStmt": "alter_text_search_dictionary",
    "AlterTableMoveAllStmt": "alter_table",
    "AlterTableSpaceOptionsStmt": "alter_tablespace",
    "AlterTypeStmt": "alter_type",
    "AlterUserMappingStmt": "alter_user_mapping",
    "CheckPointStmt": "checkpoint",
    "ClusterStmt": "cluster",
    "CompositeTypeStmt": "create_type",
    "CreateAmStmt": "create_access_method",
    "CreateCastStmt": "create_cast",
    "CreateConversionStmt": "create_conversion",
    "CreateDomainStmt": "create_domain",
    "CreateEnumStmt": "create_type",
    "CreateEventTrigStmt": "create_event_trigger",
    "CreateExtensionStmt": "create_extension",
    "CreateFdwStmt": "create_foreign_data_wrapper",
    "CreateForeignServerStmt": "create_server",
    "CreateOpClassStmt": "create_operator_class",
    "CreateOpFamilyStmt": "create_operator_family",
    "CreatePLangStmt": "create_language",
    "CreatePolicyStmt": "create_policy",
    "CreatePublicationStmt": "create_publication",
    "CreateRangeStmt": "create_type",
    "CreateStatsStmt": "create_statistics",
    "CreateSubscriptionStmt": "create_subscription",
    "CreateTableSpaceStmt": "create_tablespace",
    "CreateTransformStmt": "create_transform",
    "CreateTrigStmt": "create_trigger",
    "CreateUserMappingStmt": "create_user_mapping",
    "CreatedbStmt": "create_database",
    "DropOwnedStmt": "drop_owned",
    "DropRoleStmt": "drop_role",
    "DropSubscriptionStmt": "drop_subscription",
    "DropTableSpaceStmt": "drop_tablespace",
    "DropUserMappingStmt": "drop_user_mapping",
    "DropdbStmt": "drop_database",
    "ImportForeignSchemaStmt": "import_foreign_schema",
    "IndexStmt": "create_index",
    "LoadStmt": "load",
    "ReassignOwnedStmt": "reassign_owned",
    "RefreshMatViewStmt": "refresh_materialized_view",
    "ReindexStmt": "reindex",
    "RuleStmt": "create_rule",
}

# Those that change nothing a catalog snapshot holds.
WITHOUT_CATALOG_CHANGE: Final = frozenset({"CheckPointStmt", "ClusterStmt", "LoadStmt", "ReindexStmt"})

KINDS_OF_OBJECT: Final = {
    "OBJECT_ACCESS_METHOD": "access_method",
    "OBJECT_AGGREGATE": "aggregate",
    "OBJECT_AMOP": "operator_family",
    "OBJECT_AMPROC": "operator_family",
    "OBJECT_ATTRIBUTE": "type",
    "OBJECT_CAST": "cast",
    "OBJECT_COLUMN": "table",
    "OBJECT_COLLATION": "collation",
    "OBJECT_CONVERSION": "conversion",
    "OBJECT_DATABASE": "database",
    "OBJECT_DEFAULT": "table",
    "OBJECT_DEFACL": "default_privileges",
    "OBJECT_DOMAIN": "domain",
    "OBJECT_DOMCONSTRAINT": "domain",
    "OBJECT_EVENT_TRIGGER": "event_trigger",
    "OBJECT_EXTENSION": "extension",
    "OBJECT_FDW": "foreign_data_wrapper",
    "OBJECT_FOREIGN_SERVER": "server",
    "OBJECT_FOREIGN_TABLE": "foreign_table",
    "OBJECT_FUNCTION": "function",
    "OBJECT_INDEX": "index",
    "OBJECT_LANGUAGE": "language",
    "OBJECT_LARGEOBJECT": "large_object",
    "OBJECT_MATVIEW": "materialized_view",
    "OBJECT_OPCLASS": "operator_class",
    "OBJECT_OPERATOR": "operator",
    "OBJECT_OPFAMILY": "operator_family",
    "OBJECT_POLICY": "policy",
    "OBJECT_PROCEDURE": "procedure",
    "OBJECT_PUBLICATION": "publication",
    "OBJECT_PUBLICATION_NAMESPACE": "publication",
    "OBJECT_PUBLICATION_REL": "publication",
    "OBJECT_ROLE": "role",
    "OBJECT_ROUTINE": "routine",
    "OBJECT_RULE": "rule",
    "OBJECT_SCHEMA": "schema",
    "OBJECT_SEQUENCE": "sequence",
    "OBJECT_SUBSCRIPTION": "subscription",
    "OBJECT_STATISTIC_EXT": "statistics",
    "OBJECT_TABCONSTRAINT": "table",
    "OBJECT_TABLE": "table",
    "OBJECT_TABLESPACE": "tablespace",
    "OBJECT_TRANSFORM": "transform",
    "OBJECT_TRIGGER": "trigger",
    "OBJECT_TSCONFIGURATION": "text_search_configuration",
    "OBJECT_TSDICTIONARY": "text_search_dictionary",
    "OBJECT_TSPARSER": "text_search_parser",
    "OBJECT_TSTEMPLATE": "text_search_template",
    "OBJECT_TYPE": "type",
    "OBJECT_USER_MAPPING": "user_mapping",
    "OBJECT_VIEW": "view",
}

RELATION_OBJECTS: Final = frozenset(
    {
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_INDEX",
        "OBJECT_MATVIEW",
        "OBJECT_SEQUENCE",
        "OBJECT_TABLE",
        "OBJECT_VIEW",
    }
)
# Objects named by their relation and a name of their own.
PARTS_OF_RELATIONS: Final = frozenset(
    {"OBJECT_COLUMN", "OBJECT_POLICY", "OBJECT_RULE", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER"}
)

TRANSACTIONS: Final = {
    "TRANS_STMT_BEGIN": ("begin", "begin"),
    "TRANS_STMT_START": ("start_transaction", "begin"),
    "TRANS_STMT_COMMIT": ("commit", "commit"),
    "TRANS_STMT_ROLLBACK": ("rollback", "rollback"),
    "TRANS_STMT_SAVEPOINT": ("savepoint", "savepoint"),
    "TRANS_STMT_RELEASE": ("release", "release"),
    "TRANS_STMT_ROLLBACK_TO": ("rollback_to", "rollback_to"),
    "TRANS_STMT_PREPARE": ("prepare_transaction", "prepare"),
    "TRANS_STMT_COMMIT_PREPARED": ("commit_prepared", "second_phase"),
    "TRANS_STMT_ROLLBACK_PREPARED": ("rollback_prepared", "second_phase"),
}

DISCARDS: Final = {
    "DISCARD_ALL": "all",
    "DISCARD_PLANS": "plans",
    "DISCARD_SEQUENCES": "sequences",
    "DISCARD_TEMP": "temp",
}

# Statements that EXPLAIN, PREPARE, DECLARE CURSOR, COPY and CREATE TABLE AS may hold.
QUERIES: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})

# Only inside other statements or in PL/pgSQL; never a statement of its own.
NEVER_ALONE: Final = frozenset(
    {"PLAssignStmt", "RawStmt", "ReplicaIdentityStmt", "ReturnStmt", "SetOperationStmt"}
)

"""Functions and system relations that anyone may use, by name: deliberate lists, chosen by group.

A harmless function neither runs SQL given as text, reads files, large objects, pages, slots or other sessions, waits,
locks, signals, writes, changes settings, nor reaches the network; its result depends on its arguments, on the
catalog (definitions, not statistics of values), on the clock or on chance alone. All overloads of a name are meant.
A harmless relation holds definitions; a revealing one holds values, query texts or secrets. A relation of the system
that is in neither list is judged like any other relation.

Left out on purpose: *_to_xml and cursor_to_xml (run queries), ts_stat and ts_rewrite (query texts), pg_sleep*,
lo_* and loread/lowrite, pg_read_*, pg_ls_*, pg_stat_file, pg_logical_*, pg_*slot*, pg_advisory_* and
pg_try_advisory_* (locks), pg_cancel_backend, pg_terminate_backend, pg_notify, set_config (told as a setting when its
arguments are literals), nextval, setval, currval, lastval (sequences), pg_export_snapshot, currtid2,
pg_stat_get_activity and other statistics of sessions, pg_prepared_statement, pg_cursor, pg_mcv_list_items,
pg_relation_filepath and file nodes, dblink*.
"""

from __future__ import annotations

from policy.sql.words import words

_MATHEMATICS = words("""
    abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd
    degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log log10 min_scale mod pi pow power radians
    round scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket random random_normal setseed
    numeric_inc
""")
_STRINGS = words("""
    ascii bit_count bit_length btrim casefold char_length character_length chr concat concat_ws convert
    convert_from convert_to crc32 crc32c decode encode format get_bit get_byte initcap is_normalized left length
    like like_escape lower lpad ltrim md5 normalize notlike octet_length overlay parse_ident position quote_ident
    quote_literal quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim set_bit
    set_byte sha224 sha256 sha384 sha512 similar_escape similar_to_escape split_part starts_with string_to_array
    string_to_table strpos substr substring text_larger text_smaller textcat textlen to_ascii to_bin to_char
    to_date to_hex to_number to_oct translate unicode_assigned unicode_version icu_unicode_version unistr upper
    bitcat pg_client_encoding pg_encoding_to_char pg_char_to_encoding pg_encoding_max_length getdatabaseencoding
    textlike textnlike texticlike texticnlike textregexeq textregexne
""")
_TIME = words("""
    age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract isfinite justify_days
    justify_hours justify_interval make_date make_interval make_time make_timestamp make_timestamptz now overlaps
    statement_timestamp timeofday timezone to_timestamp transaction_timestamp
""")
# A type's name called like a function is a cast.
_CASTS = words("""
    bit bool bpchar box char cidr circle date float4 float8 inet int2 int4 int8 interval line lseg macaddr
    macaddr8 money name numeric oid path point polygon regclass text time timestamp timestamptz timetz tid uuid
    varbit varchar xid xid8 xml bytea json jsonb
""")
_ARRAYS = words("""
    array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position
    array_positions array_prepend array_remove array_replace array_reverse array_sample array_shuffle array_sort
    array_to_json array_to_string array_upper arraycontained arraycontains arrayoverlap cardinality trim_array
    unnest generate_subscripts generate_series num_nonnulls num_nulls
""")
_JSON = words("""
    json_array_element json_array_element_text json_array_elements json_array_elements_text json_array_length
    json_build_array json_build_object json_each json_each_text json_extract_path json_extract_path_text
    json_object json_object_field json_object_field_text json_object_keys json_populate_record
    json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_element
    jsonb_array_element_text jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_concat jsonb_contained jsonb_contains jsonb_delete jsonb_delete_path jsonb_each
    jsonb_each_text jsonb_exists jsonb_exists_all jsonb_exists_any jsonb_extract_path jsonb_extract_path_text
    jsonb_insert jsonb_object jsonb_object_field jsonb_object_field_text jsonb_object_keys jsonb_path_exists
    jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array
    jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz
    jsonb_populate_record jsonb_populate_record_valid jsonb_populate_recordset jsonb_pretty jsonb_set
    jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json to_jsonb
""")
_AGGREGATES = words("""
    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every
    json_agg json_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique
    json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg jsonb_object_agg_strict
    jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc range_agg
    range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy
    regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
""")
_RANGES = words("""
    daterange datemultirange int4range int4multirange int8range int8multirange isempty lower_inc lower_inf
    multirange numrange nummultirange range_merge tsrange tsmultirange tstzrange tstzmultirange upper_inc
    upper_inf
""")
_GEOMETRY_AND_NETWORK = words("""
    abbrev area bound_box broadcast center diagonal diameter family height host hostmask inet_merge
    inet_same_family isclosed ishorizontal isopen isparallel isperp isvertical macaddr8_set7bit masklen netmask
    network npoints pclose popen radius set_masklen slope width
""")
_TEXT_SEARCH = words("""
    array_to_tsvector get_current_ts_config json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery
    plainto_tsquery querytree setweight strip to_tsquery to_tsvector ts_delete ts_filter ts_headline ts_match_qv
    ts_match_vq ts_rank ts_rank_cd tsquery_phrase tsvector_to_array websearch_to_tsquery ts_parse ts_token_type
    ts_lexize ts_debug
""")
_OTHER_VALUES = words("""
    enum_first enum_last enum_range gen_random_uuid uuidv4 uuidv7 uuid_extract_timestamp uuid_extract_version
    xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xmlcomment xmlconcat2 xmlexists
    xmltext xpath xpath_exists pg_input_is_valid pg_input_error_info pg_column_size pg_column_compression
    pg_typeof pg_collation_for pg_size_bytes pg_size_pretty pg_lsn pg_wal_lsn_diff hashtext hashtextextended
    hash_record hash_record_extended hash_array hashint4 hashint8
""")
_SESSION = words("""
    current_catalog current_database current_query current_role current_schema current_schemas current_setting
    current_user getpgusername inet_client_addr inet_client_port inet_server_addr inet_server_port
    pg_backend_pid pg_conf_load_time pg_current_snapshot pg_current_xact_id pg_current_xact_id_if_assigned
    pg_is_in_recovery pg_is_other_temp_schema pg_jit_available pg_my_temp_schema pg_postmaster_start_time
    pg_snapshot_xip pg_snapshot_xmax pg_snapshot_xmin pg_trigger_depth pg_visible_in_snapshot pg_xact_status
    session_user system_user txid_current txid_current_if_assigned txid_current_snapshot txid_snapshot_xip
    txid_snapshot_xmax txid_snapshot_xmin txid_status txid_visible_in_snapshot user version
""")
_CATALOG = words("""
    acldefault aclexplode aclcontains makeaclitem array_larger col_description format_type
    has_any_column_privilege has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege
    has_function_privilege has_language_privilege has_largeobject_privilege has_parameter_privilege
    has_schema_privilege has_sequence_privilege has_server_privilege has_table_privilege
    has_tablespace_privilege has_type_privilege mxid_age obj_description oidvectortypes pg_basetype
    pg_available_extension_versions pg_available_extensions pg_collation_actual_version pg_collation_is_visible
    pg_column_is_updatable pg_conversion_is_visible pg_database_collation_actual_version pg_database_size
    pg_describe_object pg_extension_update_paths pg_function_is_visible pg_get_acl pg_get_catalog_foreign_keys
    pg_get_constraintdef pg_get_expr pg_get_function_arg_default pg_get_function_arguments
    pg_get_function_identity_arguments pg_get_function_result pg_get_function_sqlbody pg_get_functiondef
    pg_get_indexdef pg_get_keywords pg_get_object_address pg_get_partition_constraintdef pg_get_partkeydef
    pg_get_publication_tables pg_get_replica_identity_index pg_get_ruledef pg_get_serial_sequence
    pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions
    pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_identify_object
    pg_identify_object_as_address pg_index_column_has_property pg_index_has_property
    pg_indexam_has_property pg_indexes_size pg_opclass_is_visible pg_operator_is_visible
    pg_opfamily_is_visible pg_options_to_table pg_partition_ancestors pg_partition_root pg_partition_tree
    pg_relation_is_publishable pg_relation_is_updatable pg_relation_size pg_sequence_parameters
    pg_settings_get_flags pg_show_all_settings pg_statistics_obj_is_visible pg_table_is_visible pg_table_size
    pg_tablespace_databases pg_tablespace_location pg_tablespace_size pg_timezone_abbrevs
    pg_timezone_abbrevs_abbrevs pg_timezone_abbrevs_zone pg_timezone_names pg_total_relation_size
    pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible
    pg_type_is_visible row_security_active shobj_description to_regclass to_regcollation to_regnamespace
    to_regoper to_regoperator to_regproc to_regprocedure to_regrole to_regtype to_regtypemod
""")

HARMLESS_FUNCTIONS = (
    _MATHEMATICS
    | _STRINGS
    | _TIME
    | _CASTS
    | _ARRAYS
    | _JSON
    | _AGGREGATES
    | _RANGES
    | _GEOMETRY_AND_NETWORK
    | _TEXT_SEARCH
    | _OTHER_VALUES
    | _SESSION
    | _CATALOG
)
"""Names in pg_catalog."""

HARMLESS_ELSEWHERE = frozenset(
    f"information_schema.{name}"
    for name in words("""
        _pg_char_max_length _pg_char_octet_length _pg_datetime_precision _pg_expandarray _pg_index_position
        _pg_interval_type _pg_numeric_precision _pg_numeric_precision_radix _pg_numeric_scale _pg_truetypid
        _pg_truetypmod
    """)
)
"""Harmless functions outside pg_catalog, as "schema.name"."""

_DEFINITIONS = words("""
    pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_auth_members pg_available_extension_versions
    pg_available_extensions pg_cast pg_class pg_collation pg_constraint pg_conversion pg_database
    pg_db_role_setting pg_default_acl pg_depend pg_description pg_enum pg_event_trigger pg_extension
    pg_foreign_data_wrapper pg_foreign_server pg_foreign_table pg_group pg_index pg_indexes pg_inherits
    pg_init_privs pg_language pg_largeobject_metadata pg_matviews pg_namespace pg_opclass pg_operator
    pg_opfamily pg_parameter_acl pg_partitioned_table pg_policies pg_policy pg_proc pg_publication
    pg_publication_namespace pg_publication_rel pg_publication_tables pg_range pg_rewrite pg_roles pg_rules
    pg_seclabel pg_seclabels pg_sequence pg_settings pg_shdepend pg_shdescription pg_shseclabel pg_statistic_ext
    pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names pg_transform pg_trigger pg_ts_config
    pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template pg_type pg_user pg_views
""")
_STANDARD_VIEWS = words("""
    administrable_role_authorizations applicable_roles attributes character_sets
    check_constraint_routine_usage check_constraints collation_character_set_applicability collations
    column_column_usage column_domain_usage column_options column_privileges column_udt_usage columns
    constraint_column_usage constraint_table_usage data_type_privileges domain_constraints domain_udt_usage
    domains element_types enabled_roles foreign_data_wrappers foreign_servers foreign_table_options
    foreign_tables information_schema_catalog_name key_column_usage parameters referential_constraints
    role_column_grants role_routine_grants role_table_grants role_udt_grants role_usage_grants
    routine_column_usage routine_privileges routine_routine_usage routine_sequence_usage routine_table_usage
    routines schemata sequences sql_features sql_implementation_info sql_parts sql_sizing table_constraints
    table_privileges tables transforms triggered_update_columns triggers udt_privileges usage_privileges
    user_defined_types view_column_usage view_routine_usage view_table_usage views
""")
_VALUES_AND_SECRETS = words("""
    pg_authid pg_aios pg_cursors pg_file_settings pg_hba_file_rules pg_ident_file_mappings pg_largeobject
    pg_prepared_statements pg_prepared_xacts pg_replication_origin_status pg_replication_slots pg_shadow
    pg_stat_activity pg_stat_gssapi pg_stat_progress_analyze pg_stat_progress_basebackup
    pg_stat_progress_cluster pg_stat_progress_copy pg_stat_progress_create_index pg_stat_progress_vacuum
    pg_stat_replication pg_stat_ssl pg_stat_statements pg_stat_statements_info pg_stat_subscription
    pg_stat_wal_receiver pg_statistic pg_statistic_ext_data pg_stats pg_stats_ext pg_stats_ext_exprs
    pg_subscription pg_user_mapping pg_user_mappings
""")

# Columns of harmless relations that hold values: what ADD COLUMN ... DEFAULT gave to the rows that there were.
REVEALING_CATALOG_COLUMNS = {"pg_catalog.pg_attribute": frozenset({"attmissingval"})}

HARMLESS_CATALOG_RELATIONS = frozenset(f"pg_catalog.{name}" for name in _DEFINITIONS) | frozenset(
    f"information_schema.{name}" for name in _STANDARD_VIEWS
)
REVEALING_CATALOG_RELATIONS = (
    frozenset(f"pg_catalog.{name}" for name in _VALUES_AND_SECRETS)
    | frozenset(
        f"information_schema.{name}"
        for name in words("_pg_user_mappings user_mapping_options user_mappings foreign_server_options")
    )
    | frozenset({"public.pg_stat_statements", "public.pg_stat_statements_info"})
)

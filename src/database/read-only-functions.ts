// Written by scripts/read-only-functions.js from the catalog of PostgreSQL 15.
const list = (names: string): ReadonlySet<string> => new Set(names.trim().split(/\s+/))

/** Functions in `pg_catalog` that have no effect in any variant, and need neither the primary nor its session. */
export const builtIn: ReadonlySet<string> = list(`
  abbrev abs aclcontains acldefault aclexplode aclinsert aclremove acos acosd acosh age any_value area array_agg
  array_append array_dims array_fill array_length array_lower array_ndims array_position array_positions array_prepend
  array_remove array_replace array_reverse array_sample array_shuffle array_sort array_to_json array_to_string
  array_to_tsvector array_upper ascii asin asind asinh atan atan2 atan2d atand atanh avg bit bit_and bit_count
  bit_length bit_or bit_xor bool bool_and bool_or bound_box box bpchar broadcast btequalimage btrim btvarstrequalimage
  cardinality casefold cash_words cbrt ceil ceiling center char char_length character_length chr cidr circle
  clock_timestamp col_description concat concat_ws convert convert_from convert_to corr cos cosd cosh cot cotd count
  covar_pop covar_samp crc32 crc32c cume_dist current_database current_schema current_schemas current_setting
  current_user database_to_xml database_to_xml_and_xmlschema database_to_xmlschema date date_add date_bin date_part
  date_subtract date_trunc datemultirange daterange daterange_canonical daterange_subdiff decode degrees dense_rank
  dexp diagonal diameter div dlog1 dlog10 dround dtrunc encode enum_first enum_last enum_range erf erfc every exp
  extract factorial family first_value float4 float8 floor format format_type gamma gcd gen_random_uuid
  generate_series generate_subscripts get_bit get_byte get_current_ts_config getdatabaseencoding getpgusername
  gin_cmp_tslexeme gin_compare_jsonb has_any_column_privilege has_column_privilege has_database_privilege
  has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege has_parameter_privilege
  has_schema_privilege has_sequence_privilege has_server_privilege has_table_privilege has_tablespace_privilege
  has_type_privilege hash_aclitem hash_aclitem_extended hash_array hash_array_extended hash_multirange
  hash_multirange_extended hash_numeric hash_numeric_extended hash_range hash_range_extended hash_record
  hash_record_extended hashbpchar hashbpcharextended hashchar hashcharextended hashenum hashenumextended hashfloat4
  hashfloat4extended hashfloat8 hashfloat8extended hashinet hashinetextended hashint2 hashint2extended hashint4
  hashint4extended hashint8 hashint8extended hashmacaddr hashmacaddr8 hashmacaddr8extended hashmacaddrextended
  hashname hashnameextended hashoid hashoidextended hashoidvector hashoidvectorextended hashtext hashtextextended
  hashtid hashtidextended height host hostmask icu_unicode_version in_range inet_client_addr inet_client_port
  inet_merge inet_same_family inet_server_addr inet_server_port initcap int2 int4 int4inc int4multirange int4range
  int4range_canonical int4range_subdiff int8 int8_sum int8multirange int8range int8range_canonical int8range_subdiff
  interval interval_hash interval_hash_extended is_normalized isclosed isempty isfinite ishorizontal isopen isparallel
  isperp isvertical json_agg json_agg_strict json_array_elements json_array_elements_text json_array_length
  json_build_array json_build_object json_each json_each_text json_extract_path json_extract_path_text json_object
  json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict json_object_keys
  json_populate_record json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_to_tsvector
  json_typeof jsonb_agg jsonb_agg_strict jsonb_array_elements jsonb_array_elements_text jsonb_array_length
  jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text
  jsonb_hash jsonb_hash_extended jsonb_insert jsonb_object jsonb_object_agg jsonb_object_agg_strict
  jsonb_object_agg_unique jsonb_object_agg_unique_strict jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz
  jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz
  jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset
  jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_to_tsvector
  jsonb_typeof justify_days justify_hours justify_interval lag last_value lcm lead left length lgamma like like_escape
  line ln log log10 lower lower_inc lower_inf lpad lseg ltrim macaddr macaddr8 macaddr8_set7bit make_date
  make_interval make_time make_timestamp make_timestamptz makeaclitem masklen max md5 min min_scale mod mode money
  multirange mxid_age name nameconcatoid netmask network normalize notlike now npoints nth_value ntile num_nonnulls
  num_nulls numeric numeric_div_trunc numeric_exp numeric_inc numeric_ln numeric_log numeric_sqrt nummultirange
  numnode numrange numrange_subdiff obj_description octet_length oid oidvectortypes overlaps overlay parse_ident path
  pclose percent_rank percentile_cont percentile_disc pg_available_extension_versions pg_available_extensions
  pg_basetype pg_char_to_encoding pg_client_encoding pg_collation_for pg_collation_is_visible pg_column_compression
  pg_column_is_updatable pg_column_size pg_config pg_conversion_is_visible pg_database_size pg_describe_object
  pg_encoding_max_length pg_encoding_to_char pg_extension_update_paths pg_function_is_visible
  pg_get_catalog_foreign_keys pg_get_constraintdef pg_get_expr pg_get_function_arg_default pg_get_function_arguments
  pg_get_function_identity_arguments pg_get_function_result pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef
  pg_get_keywords pg_get_object_address pg_get_partition_constraintdef pg_get_partkeydef pg_get_replica_identity_index
  pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef pg_get_statisticsobjdef_columns
  pg_get_statisticsobjdef_expressions pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_get_wal_replay_pause_state
  pg_has_role pg_identify_object pg_identify_object_as_address pg_index_column_has_property pg_index_has_property
  pg_indexam_has_property pg_indexam_progress_phasename pg_indexes_size pg_input_error_info pg_input_is_valid
  pg_is_in_recovery pg_is_wal_replay_paused pg_last_wal_receive_lsn pg_last_wal_replay_lsn
  pg_last_xact_replay_timestamp pg_lsn pg_lsn_hash pg_lsn_hash_extended pg_opclass_is_visible pg_operator_is_visible
  pg_opfamily_is_visible pg_partition_ancestors pg_partition_root pg_partition_tree pg_postmaster_start_time
  pg_relation_is_publishable pg_relation_is_updatable pg_relation_size pg_sequence_parameters pg_settings_get_flags
  pg_size_bytes pg_size_pretty pg_sleep pg_sleep_for pg_sleep_until pg_statistics_obj_is_visible pg_table_is_visible
  pg_table_size pg_tablespace_databases pg_tablespace_location pg_tablespace_size pg_timezone_abbrevs
  pg_timezone_names pg_total_relation_size pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible
  pg_ts_template_is_visible pg_type_is_visible pg_typeof pg_wal_lsn_diff phraseto_tsquery pi plainto_tsquery point
  polygon popen position pow power querytree quote_ident quote_literal quote_nullable radians radius random
  random_normal range_agg range_intersect_agg range_merge rank regclass regexp_count regexp_instr regexp_like
  regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr regr_avgx
  regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat replace reverse right round
  row_number row_security_active row_to_json rpad rtrim satisfies_hash_partition scale schema_to_xml
  schema_to_xml_and_xmlschema schema_to_xmlschema session_user set_bit set_byte set_masklen setweight sha224 sha256
  sha384 sha512 shobj_description sign similar_escape similar_to_escape sin sind sinh slope spg_poly_quad_compress
  split_part sqrt statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strip
  strpos substr substring sum table_to_xml table_to_xml_and_xmlschema table_to_xmlschema tan tand tanh text textlen
  time time_hash time_hash_extended timeofday timestamp timestamp_hash timestamp_hash_extended timestamptz timetz
  timetz_hash timetz_hash_extended timezone to_ascii to_bin to_char to_date to_hex to_json to_jsonb to_number to_oct
  to_regclass to_regcollation to_regnamespace to_regoper to_regoperator to_regproc to_regprocedure to_regrole
  to_regtype to_timestamp to_tsquery to_tsvector transaction_timestamp translate trim_array trim_scale trunc ts_debug
  ts_delete ts_filter ts_headline ts_lexize ts_parse ts_rank ts_rank_cd ts_token_type tsmultirange tsquery_phrase
  tsrange tsrange_subdiff tstzmultirange tstzrange tstzrange_subdiff tsvector_to_array unicode_assigned
  unicode_version unistr unnest upper upper_inc upper_inf uuid_extract_timestamp uuid_extract_version uuid_hash
  uuid_hash_extended uuidv4 uuidv7 var_pop var_samp varbit varchar variance version websearch_to_tsquery width
  width_bucket xid xml xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xmlagg xmlcomment
  xmlexists xmltext xmlvalidate xpath xpath_exists
`)

/** Keywords that are not the name of a function when they are not quoted. */
export const keywords: ReadonlySet<string> = list(`
  all analyse analyze and any array as asc asymmetric between bigint bit boolean both case cast char character check
  coalesce collate column constraint create current_catalog current_date current_role current_time current_timestamp
  current_user dec decimal default deferrable desc distinct do else end except exists extract false fetch float for
  foreign from grant greatest group grouping having in initially inout int integer intersect interval into json
  json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize json_table
  json_value lateral leading least limit localtime localtimestamp merge_action national nchar none normalize not null
  nullif numeric offset on only or order out overlay placing position precision primary real references returning row
  select session_user setof smallint some substring symmetric system_user table then time timestamp to trailing treat
  trim true union unique user using values varchar variadic when where window with xmlattributes xmlconcat xmlelement
  xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
`)

"""Writes gateway/sql/functions.tsv: the reviewed builtins, with every signature they have.

The names below are the review: each was read in PostgreSQL's documentation and
pg_proc.dat and only computes from its arguments, the clock, random numbers, its own
session's identity or the size of an object. Not listed, on purpose: what reads
settings (current_setting), files (pg_read_file, pg_ls_dir), large objects (lo_*),
texts of views, functions or other sessions (pg_get_*, current_query), sequences
(nextval, currval), snapshots and transaction ids (txid_*), what runs a query given
as text (query_to_xml, table_to_xml, ts_stat, ts_rewrite), what changes a session or
the server (set_config, setseed, pg_notify, pg_advisory_*, pg_terminate_backend), and
the functions behind operators, casts and index methods, which nobody calls by name.

Run it on real servers of all three versions, after any change of the names:

    python -m tests.sql.generate_functions
"""

from __future__ import annotations

from pathlib import Path

from tests.servers import MAJORS, server

TABLE = Path(__file__).parents[2] / "gateway" / "sql" / "functions.tsv"

_NAMES = """
    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop
    covar_samp every json_agg json_agg_strict json_object_agg json_object_agg_strict
    json_object_agg_unique json_object_agg_unique_strict jsonb_agg jsonb_agg_strict
    jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique
    jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc range_agg
    range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
    regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp
    variance xmlagg

    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank
    row_number

    abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos
    cosd cosh cot cotd degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log
    log10 min_scale mod pi pow power radians random random_normal round scale sign sin sind
    sinh sqrt tan tand tanh trim_scale trunc width_bucket

    ascii bit_count bit_length btrim casefold char_length character_length chr concat
    concat_ws convert convert_from convert_to crc32 crc32c decode encode format get_bit
    get_byte initcap is_normalized left length like_escape lower lpad ltrim md5 normalize
    octet_length overlay parse_ident position quote_ident quote_literal quote_nullable
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right
    rpad rtrim set_bit set_byte sha224 sha256 sha384 sha512 similar_escape
    similar_to_escape split_part starts_with string_to_array string_to_table strpos substr
    substring to_ascii to_bin to_hex to_oct translate unistr upper

    age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract
    isfinite justify_days justify_hours justify_interval make_date make_interval make_time
    make_timestamp make_timestamptz now overlaps statement_timestamp timeofday timezone
    to_char to_date to_number to_timestamp transaction_timestamp pg_sleep pg_sleep_for
    pg_sleep_until

    array_append array_cat array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_reverse
    array_sample array_shuffle array_sort array_to_json array_to_string array_upper
    cardinality generate_series generate_subscripts trim_array unnest

    json_array_elements json_array_elements_text json_array_length json_build_array
    json_build_object json_each json_each_text json_extract_path json_extract_path_text
    json_object json_object_keys json_populate_record json_populate_recordset
    json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object
    jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert
    jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz jsonb_path_match
    jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz
    jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz
    jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json
    to_jsonb

    xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xmlcomment
    xmlexists xmltext xpath xpath_exists

    daterange datemultirange int4multirange int4range int8multirange int8range isempty
    lower_inc lower_inf multirange nummultirange numrange range_merge tsmultirange tsrange
    tstzmultirange tstzrange upper_inc upper_inf

    abbrev broadcast family host hostmask inet_merge inet_same_family masklen netmask
    network set_masklen

    array_to_tsvector numnode phraseto_tsquery plainto_tsquery querytree setweight strip
    to_tsquery to_tsvector ts_delete ts_filter ts_headline ts_rank ts_rank_cd tsquery_phrase
    tsvector_to_array websearch_to_tsquery

    area box center circle diagonal diameter height line lseg npoints path point polygon
    radius slope width

    bool bpchar bytea date float4 float8 int2 int4 int8 interval name numeric text time
    timestamp timestamptz timetz varchar

    enum_first enum_last enum_range gen_random_uuid num_nonnulls num_nulls pg_collation_for
    pg_typeof uuid_extract_timestamp uuid_extract_version uuidv4 uuidv7

    current_database current_schema current_schemas current_user has_any_column_privilege
    has_column_privilege has_database_privilege has_schema_privilege has_table_privilege
    pg_backend_pid pg_column_size pg_database_size pg_indexes_size
    pg_relation_size pg_size_bytes pg_size_pretty pg_table_size pg_total_relation_size
    session_user system_user version
"""
REVIEWED = frozenset(_NAMES.split())

# Volatile, and all the same harmless: clocks, random numbers, waits and sizes.
_VOLATILE_NAMES = """
    array_sample array_shuffle clock_timestamp gen_random_uuid pg_database_size
    pg_indexes_size pg_relation_size pg_sleep pg_sleep_for pg_sleep_until pg_table_size
    pg_total_relation_size random random_normal timeofday uuidv4 uuidv7
"""
VOLATILE = frozenset(_VOLATILE_NAMES.split())

_SIGNATURES = """
    SELECT p.proname, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid),
           p.prokind, p.provolatile
    FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ({names})
"""

HEADER = "name\targuments\tresult\tkind\tvolatility\tversions"


def rows(majors: tuple[int, ...] = MAJORS) -> list[str]:
    """The lines of the table, from the catalogs of running servers.

    Raises:
        AssertionError: a name is volatile and not reviewed as such, or no server has it.
    """
    found: dict[tuple[str, ...], list[int]] = {}
    names = ", ".join(f"'{name}'" for name in sorted(REVIEWED))
    for major in majors:
        out = server(major).sql("\\pset fieldsep '\\t'\n" + _SIGNATURES.format(names=names) + ";")
        for line in out.splitlines():
            found.setdefault(tuple(line.split("\t")), []).append(major)
    surprises = {key[0] for key in found if key[4] == "v"} - VOLATILE
    assert not surprises, f"volatile and not reviewed: {sorted(surprises)}"
    absent = REVIEWED - {key[0] for key in found}
    assert not absent, f"no server has: {sorted(absent)}"
    return ["\t".join([*key, ",".join(map(str, found[key]))]) for key in sorted(found)]


def main() -> None:
    """Write the table."""
    assert MAJORS == (15, 16, 18), "all three servers are needed"
    TABLE.write_text("\n".join([HEADER, *rows()]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Denied
from gateway.sql.catalog import Function
from gateway.sql.functions import REVIEWED, call_actions
from tests.servers import MAJORS
from tests.sql import generate_functions
from tests.sql.gate import CATALOG

# Each would read files, settings or other sessions, run a text, or write.
DANGEROUS = """
    binary_upgrade_set_next_pg_type_oid brin_summarize_new_values currtid2 currval current_query
    current_setting cursor_to_xml database_to_xml dblink has_parameter_privilege lastval
    lo_close lo_create lo_export lo_from_bytea lo_get lo_import lo_open lo_put lo_unlink
    loread lowrite nextval
    pg_advisory_lock pg_advisory_xact_lock pg_cancel_backend pg_create_restore_point
    pg_current_wal_lsn pg_export_snapshot pg_get_expr pg_get_functiondef pg_get_viewdef
    pg_hba_file_rules pg_ls_dir pg_ls_logdir pg_mcv_list_items pg_logical_emit_message pg_notify
    pg_prepared_statement pg_cursor pg_promote pg_read_binary_file pg_read_file pg_reload_conf
    pg_replication_origin_create pg_rotate_logfile pg_show_all_settings pg_stat_file
    pg_stat_get_activity pg_stat_get_backend_activity pg_stat_reset pg_switch_wal
    pg_terminate_backend pg_try_advisory_lock query_to_xml query_to_xmlschema schema_to_xml
    set_config setseed setval table_to_xml ts_rewrite ts_stat txid_current
    pg_restore_attribute_stats pg_clear_attribute_stats array_in record_in
"""


@pytest.mark.parametrize("name", DANGEROUS.split())
@pytest.mark.parametrize("schema", [(), ("pg_catalog",)])
def test_dangerous_builtins_are_refused(schema: tuple[str, ...], name: str) -> None:
    with pytest.raises(Denied) as caught:
        call_actions((*schema, name), CATALOG)
    assert caught.value.rule == "sql.function"


def test_the_table_is_what_the_servers_say() -> None:
    """Every signature of every reviewed name, of the versions that this machine has."""
    lines = generate_functions.TABLE.read_text(encoding="utf-8").splitlines()
    assert lines[0] == generate_functions.HEADER
    expected = set()
    for line in lines[1:]:
        *signature, versions = line.split("\t")
        here = [major for major in versions.split(",") if int(major) in MAJORS]
        if here:
            expected.add("\t".join([*signature, ",".join(here)]))
    assert set(generate_functions.rows()) == expected


def test_the_table_holds_the_reviewed_names_and_no_others() -> None:
    assert REVIEWED == generate_functions.REVIEWED


def test_a_builtin_only_computes_unless_a_function_could_capture_it() -> None:
    assert call_actions(("lower",), CATALOG) == ()
    own = (Function("public", "lower", "character varying"),)
    captured = replace(CATALOG, functions=own)
    with pytest.raises(Denied, match="could capture"):
        call_actions(("lower",), captured)
    assert call_actions(("pg_catalog", "lower"), captured) == ()
    # A schema outside the search path captures nothing, nor does a temporary one.
    for schema in ("other", "pg_temp_3"):
        away = replace(CATALOG, functions=(Function(schema, "lower", "text"),))
        assert call_actions(("lower",), away) == ()


def test_a_users_function_is_a_call_for_each_overload() -> None:
    overloads = tuple(Function("public", "f", args) for args in ("integer", "text"))
    catalog = replace(CATALOG, functions=overloads)
    names = [action.name for action in call_actions(("f",), catalog)]
    assert names == ["public.f(integer)", "public.f(text)"]
    with pytest.raises(Denied):
        call_actions(("other", "f"), catalog)
    with pytest.raises(Denied):
        call_actions(("claims", "public", "f"), catalog)
    with pytest.raises(Denied):
        call_actions(("information_schema", "_pg_expandarray"), catalog)


def test_a_name_in_a_message_is_no_value() -> None:
    with pytest.raises(Denied) as caught:
        call_actions(("Tom Smith",), CATALOG)
    assert "Smith" not in str(caught.value)

"""Which of PostgreSQL's own relations hold definitions only.

Everything in ``pg_catalog`` and ``information_schema`` that is not listed here
counts as PHI, because it may carry values or what other sessions do:
``pg_stats``, ``pg_statistic`` and their extended kin hold samples of columns
(SSNs leaked from there), ``pg_stat_activity``, ``pg_cursors`` and
``pg_prepared_statements`` hold query texts, ``pg_largeobject`` data,
``pg_authid``, ``pg_shadow``, ``pg_subscription`` and ``pg_user_mapping(s)`` secrets,
``pg_hba_file_rules``, ``pg_file_settings``, ``pg_settings`` and ``pg_config`` how the server
is guarded; ``pg_class`` holds partition bounds (an SSN was printed from one),
``pg_attribute`` the value of an ADD COLUMN ... DEFAULT; ``pg_attrdef``,
``pg_constraint``, ``pg_index``, ``pg_rewrite``, ``pg_views``, ``pg_proc``, ``pg_trigger``,
``pg_policy``, ``pg_type``, ``pg_enum``, ``pg_description`` and ``pg_seclabel`` expressions and
texts in which somebody may have written a value. ``information_schema.columns``
is listed all the same: a column's default is written for everybody's rows.
"""

from __future__ import annotations

from typing import Final

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema", "pg_toast"})
"""Schemas that a Catalog leaves out."""

_PG_CATALOG: Final = """
    pg_aggregate pg_am pg_amop pg_amproc pg_auth_members pg_available_extension_versions
    pg_available_extensions pg_cast pg_collation pg_conversion pg_database pg_depend pg_group
    pg_inherits pg_language pg_namespace pg_opclass pg_operator pg_opfamily pg_range pg_roles
    pg_sequence pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names pg_ts_config
    pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template
"""
_INFORMATION_SCHEMA: Final = """
    administrable_role_authorizations applicable_roles character_sets collations columns
    column_privileges constraint_column_usage constraint_table_usage enabled_roles
    information_schema_catalog_name key_column_usage referential_constraints
    role_table_grants schemata sequences sql_features sql_implementation_info sql_parts
    sql_sizing table_constraints table_privileges tables view_column_usage view_table_usage
"""
SYSTEM_RELATIONS: Final = frozenset(
    {("pg_catalog", name) for name in _PG_CATALOG.split()}
    | {("information_schema", name) for name in _INFORMATION_SCHEMA.split()}
)
"""(schema, name) of the relations that hold names, types and numbers of objects only."""


def system_schema(schema: str | None, name: str) -> str | None:
    """The system schema in which the server finds this name, or None.

    ``pg_catalog`` is first in the search path that the guard pins, and all its
    relations begin with ``pg_``; so an unqualified name that does is never taken
    for a user's, even if a user has a relation of that name.
    """
    if schema is None:
        return "pg_catalog" if name.startswith("pg_") else None
    if schema in SYSTEM_SCHEMAS or schema.startswith("pg_toast"):
        return schema
    return None


def is_harmless(schema: str, name: str) -> bool:
    """Whether a system relation holds no values, texts or secrets of anybody."""
    return (schema, name) in SYSTEM_RELATIONS

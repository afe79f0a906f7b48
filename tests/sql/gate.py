"""A small catalog for the gate's tests, and the judge at its defaults."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.action import Form
from gateway.core.plan import Parsed
from gateway.sql.catalog import Catalog, Column, Function, Phi, Relation
from gateway.sql.judge import judge
from gateway.sql.limits import SqlLimits

_TABLES = {
    "patients": "id! mrn first_name last_name ssn birth_date email phone address zip",
    "visits": "id! patient_id! visited_at reason_code!",
    "claims": "id! patient_id! amount! status!",
    "notes": "id! visit_id! note_text",
}


def _column(number: int, word: str) -> Column:
    phi: Phi = "no" if word.endswith("!") else "yes"
    name = word.rstrip("!")
    type_name = "integer" if name.endswith("id") or name == "amount" else "text"
    return Column(name, type_name, number, phi, None if phi == "no" else "other")


def _table(oid: int, name: str) -> Relation:
    columns = tuple(_column(n, word) for n, word in enumerate(_TABLES[name].split(), 1))
    return Relation("public", name, "table", oid, columns)


def _view(oid: int, name: str, definition: str, column: Column) -> Relation:
    return Relation("public", name, "view", oid, (column,), definition)


_TEXT = Column("x", "text", 1, "yes", "other")

CATALOG = Catalog(
    target="claims-db",
    database="claims",
    server_version=160014,
    relations=(
        *(_table(oid, name) for oid, name in enumerate(_TABLES, 1000)),
        _view(1010, "names", "SELECT first_name AS x FROM patients", _TEXT),
        _view(1011, "secrets", "SELECT current_setting('a.b') AS x", _TEXT),
        _view(1012, "busy", "SELECT query AS x FROM pg_stat_activity", _TEXT),
        _view(1013, "odd", "SELECT public.risk(id) AS x FROM patients", _TEXT),
        replace(_table(1020, "visits"), name="guarded", side_effects=True),
        replace(_table(1021, "claims"), schema="other"),
    ),
    functions=(
        Function("public", "risk", "integer"),
        Function("public", "fullname", "patients"),
        Function("other", "hidden", "text"),
    ),
    fingerprint="ab" * 32,
)


def judged(text: str | bytes, form: Form = "single", catalog: Catalog = CATALOG) -> Parsed:
    """The judge's answer with the default limits."""
    raw = text.encode() if isinstance(text, str) else text
    return judge(raw, form=form, catalog=catalog, limits=SqlLimits())


def verbs(text: str, catalog: Catalog = CATALOG) -> str:
    """The actions as one readable line: ``select claims.public.patients, …``."""
    return ", ".join(f"{a.verb} {a.name}" for a in judged(text, catalog=catalog).actions)

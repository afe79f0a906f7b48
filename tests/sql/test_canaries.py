"""Every construct against a real server: no canary in a column that lineage shows."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.core.action import Influence
from gateway.sql.catalog import Catalog
from gateway.sql.grammar import parse
from gateway.sql.lineage import Trace, trace
from gateway.sql.lineage.second import suspected
from tests.servers import Server
from tests.sql.demo_schema import leaks, make_database, read_catalog
from tests.sql.gate import judged

_LINE = re.compile(r"([.MK]+) (?:([fjoge]+) )?(\S.*)")
_LETTERS: dict[str, Influence] = {
    "f": "filter",
    "j": "join",
    "o": "order",
    "g": "group",
    "e": "expression",
}


@dataclass(frozen=True)
class Case:
    """One line of ``canary_queries.txt``, in which the letters are explained."""

    section: str
    columns: str
    influences: frozenset[Influence]
    sql: str


def _cases() -> list[Case]:
    cases = []
    section = ""
    for line in (Path(__file__).parent / "canary_queries.txt").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]").split(":")[0]
        elif line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match is not None, line
            influences = frozenset(_LETTERS[letter] for letter in match[2] or "")
            cases.append(Case(section, match[1], influences, match[3]))
    return cases


CASES = _cases()
USEFUL_CASES = [case for case in CASES if case.section == "useful"]


@pytest.fixture(scope="module")
def database(pg_server: Server) -> str:
    return make_database(pg_server, "canaries")


@pytest.fixture(scope="module")
def catalog(pg_server: Server, database: str) -> Catalog:
    return read_catalog(pg_server, database)


def _trace(sql: str, catalog: Catalog) -> Trace:
    (statement,) = parse(sql.encode())
    return trace(statement.tree, sql, catalog)


def _letters(found: Trace) -> str:
    if found.columns is None:
        return "?"
    return "".join("." if not c.masked else "K" if c.kind else "M" for c in found.columns)


def test_there_are_enough_queries() -> None:
    assert len(CASES) >= 150
    assert len(USEFUL_CASES) >= 70
    assert len({case.sql for case in CASES}) == len(CASES)


def test_each_column_is_judged_as_written(catalog: Catalog) -> None:
    wrong = []
    for case in CASES:
        found = _trace(case.sql, catalog)
        if found.untraced or (_letters(found), found.influences) != (case.columns, case.influences):
            steered = " ".join(sorted(found.influences))
            wrong.append(f"{_letters(found)} {steered} {found.untraced}: {case}")
    assert not wrong, "\n".join(wrong)


def test_useful_queries_show_everything(catalog: Catalog) -> None:
    for case in USEFUL_CASES:
        found = _trace(case.sql, catalog)
        assert set(_letters(found)) == {"."}, case.sql
        assert not found.influences, case.sql


def test_the_gate_sees_no_call_in_useful_queries(catalog: Catalog) -> None:
    for case in USEFUL_CASES:
        assert "call" not in [a.verb for a in judged(case.sql, catalog=catalog).actions], case.sql


def test_the_second_opinion_suspects_nothing_more(catalog: Catalog) -> None:
    asked = 0
    for case in CASES:
        found = _trace(case.sql, catalog)
        assert found.columns is not None
        opinion = suspected(case.sql, catalog, found.columns_read, len(found.columns))
        if opinion is not None:
            asked += 1
            for tainted, column in zip(opinion, found.columns, strict=True):
                assert column.masked or not tainted, case
                assert "second opinion" not in column.why, case
    assert asked > 250


def _queries(server: Server) -> list[str]:
    """The queries that this server can run; Debian's alone is built with libxml."""
    cases = [c for c in CASES if server.major >= 18 or c.section != "modern"]
    found = [case.sql for case in cases if not case.sql.startswith("copy")]
    return found if server.major == 15 else [sql for sql in found if "xml" not in sql]


def _run(server: Server, database: str, statements: list[str]) -> list[list[list[str]]]:
    """The rows of each statement, its header first, from one real psql."""
    script = "SET search_path = pg_catalog, public, pg_temp;\n\\pset format csv\n"
    for sql in statements:
        script += f"BEGIN;\n\\echo @@@\n{sql};\n\\echo @@@\nROLLBACK;\n"
    command = [str(server.psql), "-XAq", "-v", "ON_ERROR_STOP=1", "-h", str(server.socket_dir)]
    run = subprocess.run(
        [*command, "-p", str(server.port), "-U", "postgres", "-d", database, "-f", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={"LANG": "C.UTF-8", "PGTZ": "UTC"},
    )
    assert run.returncode == 0, run.stderr
    parts = re.split(r"^@@@\n", run.stdout, flags=re.MULTILINE)[1::2]
    # A row of one NULL is an empty line.
    return [[row or [""] for row in csv.reader(io.StringIO(part))] for part in parts]


def test_no_canary_in_a_column_that_is_shown(
    pg_server: Server, database: str, catalog: Catalog
) -> None:
    queries = _queries(pg_server)
    results = _run(pg_server, database, queries)
    assert len(results) == len(queries)
    canaries_seen = 0
    for sql, rows in zip(queries, results, strict=True):
        columns = _trace(sql, catalog).columns
        assert columns is not None
        for row in rows:
            assert len(row) == len(columns), sql
        for row in rows[1:]:
            for cell, column in zip(row, columns, strict=True):
                leaked = leaks(cell)
                canaries_seen += leaked
                assert column.masked or not leaked, f"{sql}: {column.name} shows {cell}"
    # The net would also pass if the queries showed nothing at all.
    assert canaries_seen > 250


def test_labels_are_the_servers(pg_server: Server, database: str, catalog: Catalog) -> None:
    queries = _queries(pg_server)
    wrong = []
    for sql, rows in zip(queries, _run(pg_server, database, queries), strict=True):
        columns = _trace(sql, catalog).columns
        assert columns is not None
        named = [c.name for c in columns]
        # The names of JSON's own functions differ between versions, so they are not claimed.
        if named != rows[0] and "json_" not in sql:
            wrong.append(f"{sql}: {named} {rows[0]}")
    assert not wrong, "\n".join(wrong)

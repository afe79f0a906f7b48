"""What an adversary read from the order and the place of rows whose cells were all masked."""

from __future__ import annotations

import pytest

from gateway.sql.grammar import parse
from gateway.sql.lineage import Trace, trace
from gateway.sql.settings import is_safe_to_set
from tests.sql.test_lineage import CATALOG


def follow(sql: str) -> Trace:
    (statement,) = parse(sql.encode())
    return trace(statement.tree, sql, CATALOG)


def test_distinct_on_orders_by_its_keys() -> None:
    assert "order" in follow("SELECT DISTINCT ON (birth_date) id FROM patients").influences
    assert "order" not in follow("SELECT DISTINCT ON (id) ssn FROM patients").influences


@pytest.mark.parametrize("name", ["enable_hashagg", "enable_hashjoin", "work_mem"])
def test_no_session_chooses_the_plan_and_with_it_the_order(name: str) -> None:
    assert not is_safe_to_set(name)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT tableoid FROM patients",
        "SELECT p.tableoid FROM patients p",
        "SELECT public.patients.tableoid FROM public.patients",
        "SELECT v.id, p.tableoid FROM visits v JOIN patients p ON p.id = v.patient_id",
    ],
)
def test_the_partition_of_a_row_with_phi_is_masked(sql: str) -> None:
    columns = follow(sql).columns
    assert columns is not None
    assert columns[-1].masked
    assert columns[-1].kind is None


def test_the_table_of_a_row_without_phi_is_shown() -> None:
    columns = follow("SELECT tableoid, c.tableoid FROM claims c").columns
    assert columns is not None
    assert [c.masked for c in columns] == [False, False]

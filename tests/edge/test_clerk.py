"""A rule that limits rows takes no line whose rows the guard could not count."""

from __future__ import annotations

import pytest

from gateway.core.approval import BoundFields
from gateway.core.events import Judgement, Line
from gateway.core.verdict import Approval, Verdict
from gateway.edge.clerk import check_countable
from gateway.errors import Denied
from tests.sql.gate import CATALOG, judged


def held(sql: str, *limits: int | None) -> Judgement:
    parsed = judged(sql)
    approvals = tuple(
        Approval(f"rule-{n}", ("phi-approvers",), max_rows=limit) for n, limit in enumerate(limits)
    )
    fields = BoundFields(
        text=sql.encode(),
        target="claims-db",
        database="claims",
        upstream_role="writer",
        identity_id="etl",
        policy_version="1",
        masking="m",
        catalog=CATALOG.fingerprint,
    )
    line = Line(sql.encode(), "single")
    return Judgement(line, parsed, Verdict("ask", "rule-0", "why", "", approvals), fields, "writer")


@pytest.mark.parametrize(
    "sql",
    [
        "with gone as (delete from claims) update visits set id = 1 where id = 1",
        "delete from claims where id = 1; truncate visits",
        "delete from guarded where id = 1",
        "begin; delete from claims where id = 1; commit",
        "delete from claims where id = 1; rollback",
        "savepoint s; delete from claims where id = 1",
        "prepare transaction 'x'",
    ],
)
def test_what_cannot_be_counted_is_refused(sql: str) -> None:
    with pytest.raises(Denied) as caught:
        check_countable(held(sql, None, 1000))
    assert caught.value.rule == "grant.uncountable"
    assert caught.value.advice
    check_countable(held(sql, None))  # no limit, nothing to count


@pytest.mark.parametrize(
    "sql",
    [
        "delete from claims where id = 1",
        "delete from claims where id = 1; update visits set id = 1 where id = 2; select 1",
        "with old as (select 1 as id) insert into claims (id) select id from old",
    ],
)
def test_what_can_be_counted_may_wait_for_its_grant(sql: str) -> None:
    check_countable(held(sql, 1000))

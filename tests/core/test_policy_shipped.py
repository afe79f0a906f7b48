from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.core.action import Action, Facts
from gateway.core.identity import Identity
from gateway.core.policy import Policies
from gateway.policies import shipped

POLICIES = Policies.load(shipped())
ROOT = Path(__file__).resolve().parents[2]

TABLE = "shop.public.orders"
STEERED = Facts(phi=True, phi_influences=frozenset({"filter"}))
READ = Action("select", "table", TABLE, Facts(phi=True, phi_columns=("ssn",)))
STEER = Action("select", "table", TABLE, STEERED)
PLAIN = Action("select", "table", TABLE, Facts(has_where=True))
CATALOG = Action("select", "table", "shop.pg_catalog.pg_namespace")
STATISTICS = Action("select", "table", "shop.pg_catalog.pg_stats", Facts(phi=True))
COPY_OUT = Action("copy-out", "table", TABLE, Facts(phi=True))
INSERT = Action("insert", "table", TABLE, Facts(phi=True))
INSERT_PLAIN = Action("insert", "table", TABLE, Facts())
SPILL = Action("insert", "table", TABLE, Facts(phi=True, phi_to_plain=True))
DELETE = Action("delete", "table", TABLE, Facts(has_where=True))
DELETE_PHI = Action("delete", "table", TABLE, Facts(has_where=True, phi=True))
DELETE_ALL = Action("delete", "table", TABLE)
DROP = Action("drop", "table", TABLE, Facts(ddl=True))
TRUNCATE = Action("truncate", "table", TABLE)
VACUUM = Action("maintain", "table", TABLE)
BEGIN = Action("begin", "transaction", "transaction", Facts(setting_safe=True))
BEGIN_WRITE = Action("begin", "transaction", "transaction")
COMMIT = Action("commit", "transaction", "transaction", Facts(setting_safe=True))
SET = Action("set", "setting", "timezone", Facts(setting_safe=True))
SET_PATH = Action("set", "setting", "search_path")
SHOW = Action("show", "setting", "timezone", Facts(setting_safe=True))
SHOW_ALL = Action("show", "setting", "all", Facts(phi=True, wildcard=True))
CALL = Action("call", "function", "public.f(text)")

D, N = "deny", "default-deny"

EXPECTED: dict[str, list[tuple[Action, str, str]]] = {
    "reader": [
        (READ, "allow", "reader-reads"), (STEER, "ask", "reader-steers"),
        (PLAIN, "allow", "reader-reads"), (CATALOG, "allow", "reader-reads"),
        (STATISTICS, D, "no-leaky-catalogs"),
        (COPY_OUT, "allow", "reader-reads"), (INSERT, D, N), (DELETE, D, N), (DROP, D, "no-ddl"),
        (TRUNCATE, D, N), (VACUUM, D, N), (BEGIN, "allow", "reader-session"),
        (BEGIN_WRITE, D, "no-unsafe-settings"), (COMMIT, "allow", "reader-session"),
        (SET, "allow", "reader-session"), (SET_PATH, D, "no-unsafe-settings"),
        (SHOW, "allow", "reader-session"), (SHOW_ALL, D, N), (CALL, D, N),
    ],
    "etl": [
        (READ, "allow", "etl-reads"), (STEER, "ask", "etl-steers"), (INSERT, "ask", "etl-adds-phi"),
        (INSERT_PLAIN, "allow", "etl-adds"),
        (SPILL, D, "no-phi-to-plain"), (DELETE, "ask", "etl-changes"), (DELETE_ALL, D, N),
        (DROP, D, "no-ddl"), (TRUNCATE, D, N), (BEGIN, "allow", "etl-session"),
        (SET_PATH, D, "no-unsafe-settings"), (CALL, D, N),
    ],
    "operator": [
        (READ, D, N), (STEER, D, N), (PLAIN, "allow", "operator-looks"),
        (CATALOG, "allow", "operator-looks"), (COPY_OUT, D, N),
        (VACUUM, "allow", "operator-maintains"),
        (DELETE, "ask", "operator-mends"), (DELETE_PHI, D, N),
        (TRUNCATE, "ask", "operator-empties"),
        (DROP, D, "no-ddl"), (SET, "allow", "operator-session"),
    ],
    "break-glass": [
        (READ, "ask", "glass-reads"), (STEER, "ask", "glass-reads"),
        (DELETE, "ask", "glass-changes"),
        (INSERT, "ask", "glass-changes"), (DELETE_ALL, D, N), (DROP, D, "no-ddl"),
        (SPILL, D, "no-phi-to-plain"), (TRUNCATE, D, N), (BEGIN, "allow", "glass-session"),
    ],
    "nobody": [(READ, D, N), (BEGIN, D, N), (SET, D, N), (DROP, D, "no-ddl")],
}  # fmt: skip


def who(role: str) -> Identity:
    return Identity("x", "https://i.example", "s", "person", (role,), ("shop-db",))


@pytest.mark.parametrize(
    ("role", "action", "verdict", "rule"),
    [(role, *row) for role, rows in EXPECTED.items() for row in rows],
)
def test_what_the_shipped_policies_say(role: str, action: Action, verdict: str, rule: str) -> None:
    found = POLICIES.decide(who(role), "shop-db", (), (action,), database="shop")
    assert (found.verdict, found.rule) == (verdict, rule)


def test_every_shipped_rule_decides_something_above() -> None:
    decided = {rule for rows in EXPECTED.values() for _, _, rule in rows} - {N}
    assert decided == POLICIES.ids


def test_break_glass_is_for_persons() -> None:
    machine = Identity("m", "https://i.example", "s", "machine", ("break-glass",), ("shop-db",))
    assert POLICIES.decide(machine, "shop-db", (), (READ,), database="shop").verdict == "deny"


def test_a_break_glass_change_needs_two() -> None:
    found = POLICIES.decide(who("break-glass"), "shop-db", (), (DELETE,), database="shop")
    (approval,) = found.approvals
    assert (approval.groups, approval.quorum, approval.ttl_s, approval.max_rows) == (
        ("security",), 2, 900, 100,
    )  # fmt: skip


def _documented() -> list[str]:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    return re.findall(r"^```cedar\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_documented_policies_load_together() -> None:
    blocks = _documented()
    assert len(blocks) >= 5
    policies = Policies.load({f"example-{i}.cedar": block for i, block in enumerate(blocks)})
    assert {"claims-reads", "claims-steers", "claims-deletes", "no-notes"} <= policies.ids


def test_the_documented_answers_hold() -> None:
    blocks = _documented()
    policies = Policies.load({f"example-{i}.cedar": block for i, block in enumerate(blocks)})
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([a-z-]+)` \| `([^`]+)` \| ([^|]*) \| (\w+) \| `([a-z-]+)` \|$", text, re.MULTILINE
    )
    assert len(rows) >= 8
    facts = {
        "": Facts(),
        "has_where": Facts(has_where=True),
        "phi_influences filter": STEERED,
        "phi_influences join": Facts(phi=True, phi_influences=frozenset({"join"})),
    }
    for verb, name, fact, verdict, rule in rows:
        kind, _, full = name.partition(" ")
        assert kind in ("table", "database")
        action = Action(verb, "table" if kind == "table" else "database", full, facts[fact.strip()])
        found = policies.decide(
            Identity("etl", "https://i.example", "s", "machine", ("claims-etl",), ("claims-db",)),
            "claims-db",
            ("production",),
            (action,),
            database="claims",
        )
        assert (found.verdict, found.rule) == (verdict, rule), (verb, name, fact)

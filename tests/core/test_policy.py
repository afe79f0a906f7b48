from __future__ import annotations

import hashlib
import json
import statistics
import time
from dataclasses import replace

import pytest

from gateway.core.action import Action, Facts, ObjectKind
from gateway.core.identity import Identity
from gateway.core.policy import Policies, verdict_json
from gateway.core.policy_source import VERBS
from gateway.core.verdict import Approval, Verdict
from gateway.errors import ConfigError
from gateway.policies import shipped

# The example policies of the design (docs/policies.md shows them too).
CLAIMS = """
@id("etl-reads")
permit (
  principal in Role::"claims-etl",
  action in [Action::"select", Action::"explain"],
  resource in Target::"claims-db"
)
unless { context.phi_influences.containsAny(["filter", "order", "expression"]) };

@id("etl-steers") @approval("phi-approvers") @ttl("30m")
@reason("PHI filters, orders or enters an expression")
permit (
  principal in Role::"claims-etl", action == Action::"select", resource in Target::"claims-db"
);

@id("etl-deletes") @approval("phi-approvers") @quorum("1") @ttl("30m") @max_rows("1000")
@reason("deletes PHI rows")
permit (
  principal in Role::"claims-etl", action == Action::"delete", resource in Target::"claims-db"
)
when { context.has_where };

@id("drop-database") @approval("dba") @quorum("2") @reason("drops a database")
permit (principal in Role::"dba", action == Action::"drop", resource is Database);
"""

STEERS = Approval(
    "etl-steers", ("phi-approvers",), 1, 1800, None, "PHI filters, orders or enters an expression"
)
DELETES = Approval("etl-deletes", ("phi-approvers",), 1, 1800, 1000, "deletes PHI rows")

PATIENTS = "claims.public.patients"
READ = Action("select", "table", PATIENTS)
STEERED = replace(READ, facts=Facts(phi=True, phi_influences=frozenset({"filter", "join"})))
JOINED = replace(READ, facts=Facts(phi=True, phi_influences=frozenset({"join", "group"})))
DELETE = Action("delete", "table", PATIENTS, Facts(has_where=True))
DELETE_ALL = Action("delete", "table", PATIENTS)


def identity(*roles: str, kind: str = "machine") -> Identity:
    assert kind in ("machine", "person")
    return Identity(
        name="etl",
        issuer="https://issuer.example",
        subject="repo:acme/etl",
        kind="person" if kind == "person" else "machine",
        roles=roles,
        targets=("claims-db",),
    )


def decide(
    text: str, roles: tuple[str, ...], *actions: Action, target: str = "claims-db"
) -> Verdict:
    policies = Policies.load({"test.cedar": text})
    return policies.decide(identity(*roles), target, ("phi",), actions, database="claims")


TABLE = [
    ("claims-etl", "claims-db", (READ,), "allow", "etl-reads"),
    ("claims-etl", "claims-db", (JOINED,), "allow", "etl-reads"),
    ("claims-etl", "claims-db", (STEERED,), "ask", "etl-steers"),
    ("claims-etl", "claims-db", (READ, STEERED), "ask", "etl-steers"),
    ("claims-etl", "claims-db", (replace(STEERED, verb="explain"),), "deny", "default-deny"),
    ("claims-etl", "claims-db", (DELETE,), "ask", "etl-deletes"),
    ("claims-etl", "claims-db", (DELETE_ALL,), "deny", "default-deny"),
    ("claims-etl", "claims-db", (READ, DELETE_ALL, STEERED), "deny", "default-deny"),
    ("claims-etl", "other-db", (READ,), "deny", "default-deny"),
    ("stranger", "claims-db", (READ,), "deny", "default-deny"),
    ("claims-etl", "claims-db", (Action("drop", "table", PATIENTS),), "deny", "default-deny"),
    ("dba", "claims-db", (Action("drop", "database", "claims"),), "ask", "drop-database"),
    ("dba", "claims-db", (Action("drop", "schema", "public"),), "deny", "default-deny"),
    ("claims-etl", "claims-db", (), "deny", "policy.nothing"),
    ("claims-etl", "claims-db", (replace(READ, verb="conjure"),), "deny", "policy.verb"),
    ("claims-etl", "claims-db", (replace(READ, name="patients"),), "deny", "policy.object"),
    ("claims-etl", "claims-db", (replace(READ, name="claims.pub.lic.t"),), "deny", "policy.object"),
]


@pytest.mark.parametrize(("role", "target", "actions", "verdict", "rule"), TABLE)
def test_the_designs_examples(
    role: str, target: str, actions: tuple[Action, ...], verdict: str, rule: str
) -> None:
    found = decide(CLAIMS, (role,), *actions, target=target)
    assert (found.verdict, found.rule) == (verdict, rule)
    assert found.reason
    assert bool(found.approvals) is (verdict == "ask")
    assert found.advice or verdict != "deny"


def test_what_several_rules_ask_must_all_be_met() -> None:
    found = decide(CLAIMS, ("claims-etl",), STEERED, DELETE, STEERED)
    assert found.approvals == (replace(STEERS, max_rows=1000), DELETES)
    assert found.reason == "PHI filters, orders or enters an expression; deletes PHI rows"


def test_two_rules_that_ask_about_one_action_are_both_met() -> None:
    text = """
    @id("b") @approval("one, two") @quorum("2") @ttl("90s") @max_rows("5")
    permit (principal, action, resource);
    @id("a") @approval("three") @ttl("1h") @max_rows("7")
    permit (principal, action, resource);
    """
    found = decide(text, ("any",), READ)
    assert found.rule == "a"
    assert found.approvals == (
        Approval("a", ("three",), 1, 90, 5),
        Approval("b", ("one", "two"), 2, 90, 5),
    )


def test_a_forbid_beats_every_permit_and_says_why() -> None:
    text = """
    @id("all") permit (principal, action, resource);
    @id("never") @reason("not on Sundays") @advice("come on Monday")
    forbid (principal, action == Action::"delete", resource);
    @id("asks") @approval("x") permit (principal, action, resource);
    """
    found = decide(text, ("any",), READ, DELETE)
    assert found == Verdict(
        "deny", "never", f"not on Sundays: delete on table {PATIENTS}", "come on Monday"
    )
    assert decide(text, ("any",), READ).rule == "all"


def test_a_rule_that_fails_at_run_time_denies() -> None:
    overflow = "context.statements + 9223372036854775807 > 0"
    for broken in (
        f'@id("f") forbid (principal, action, resource) when {{ {overflow} }};',
        f'@id("p") permit (principal, action, resource) when {{ {overflow} }};',
        f'@id("a") @approval("x") permit (principal, action, resource) when {{ {overflow} }};',
    ):
        text = f'@id("all") permit (principal, action, resource);\n{broken}'
        found = decide(text, ("any",), READ)
        assert (found.verdict, found.rule) == ("deny", "policy.error")


def test_what_cedar_does_not_take_is_denied() -> None:
    text = '@id("all") permit (principal, action, resource);'
    too_many = replace(READ, facts=Facts(statements=2**70))
    surrogate = replace(READ, name="claims.public.\ud800")
    assert decide(text, ("any",), too_many).rule == "policy.error"
    assert decide(text, ("any",), surrogate).verdict == "deny"


OBJECTS: list[tuple[ObjectKind, str, str]] = [
    ("table", PATIENTS, 'resource == Table::"claims-db/public.patients"'),
    ("table", PATIENTS, 'resource in Schema::"claims-db/public"'),
    ("table", PATIENTS, 'resource in Database::"claims-db/claims"'),
    ("table", PATIENTS, 'resource.name == "patients" && resource.schema == "public"'),
    ("table", PATIENTS, 'resource.database == "claims" && resource.labels.contains("phi")'),
    ("view", "claims.public.v", 'resource == View::"claims-db/public.v"'),
    ("sequence", "claims.public.s", 'resource in Schema::"claims-db/public"'),
    ("function", "public.f(text, numeric)", 'resource == Function::"claims-db/public.f"'),
    ("function", "public.f(text)", 'resource in Database::"claims-db/claims"'),
    ("schema", "public", 'resource == Schema::"claims-db/public"'),
    ("schema", "public", 'resource in Database::"claims-db/claims"'),
    ("database", "claims", 'resource == Database::"claims-db/claims"'),
    ("database", "other", 'resource.database == "other"'),
    ("setting", "search_path", 'resource == Setting::"claims-db/search_path"'),
    ("role", "postgres", 'resource == RoleObject::"claims-db/postgres"'),
    ("type", "public.mood", 'resource in Schema::"claims-db/public"'),
    ("type", "mood", 'resource == Type::"claims-db/mood"'),
    ("transaction", "transaction", "resource is Transaction"),
    ("other", "publication p", "resource is Other"),
]


@pytest.mark.parametrize(("kind", "name", "condition"), OBJECTS)
def test_objects_and_their_parents(kind: ObjectKind, name: str, condition: str) -> None:
    action = Action("drop", kind, name)
    rest = '@id("all") permit (principal, action, resource);'
    text = f'{rest}\n@id("hit") forbid (principal, action, resource) when {{ {condition} }};'
    assert decide(text, ("any",), action).rule == "hit"
    inside = '@id("in") permit (principal, action, resource in Target::"claims-db");'
    assert decide(inside, ("any",), action).rule == "in"
    assert decide(inside, ("any",), action, target="elsewhere").verdict == "deny"


@pytest.mark.parametrize("name", ["f", "a.b.f(text)", "public.f(g(x))", ".f()"])
def test_a_function_that_cannot_be_placed_is_never_allowed(name: str) -> None:
    text = '@id("all") permit (principal, action, resource);'
    assert decide(text, ("any",), Action("call", "function", name)).rule == "policy.object"


def test_every_fact_can_be_asked_about() -> None:
    facts = Facts(
        has_where=True, phi=True, phi_influences=frozenset({"join"}), phi_to_plain=True, ddl=True,
        recursive=True, wildcard=True, setting_safe=True, columns=("ssn", "id"),
        phi_columns=("ssn",), statements=3, form="script",
    )  # fmt: skip
    text = """@id("all") permit (principal, action, resource) when {
      context.has_where && context.phi && context.phi_influences == ["join"] && context.phi_to_plain
      && context.ddl && context.recursive && context.wildcard && context.setting_safe
      && context.columns == ["id", "ssn"] && context.phi_columns == ["ssn"]
      && context.statements == 3 && context.form == "script"
      && principal.kind == "machine" && principal.name == "etl"
      && principal.issuer == "https://issuer.example" && principal.groups.isEmpty() };"""
    assert decide(text, ("any",), replace(READ, facts=facts)).verdict == "allow"
    assert decide(text, ("any",), READ).verdict == "deny"


FAULTS = [
    ("permit (principal, action, resource);", ["t.cedar:1: the policy has no @id"]),
    ('\n\n@id("a") @id("b") permit (principal, action, resource);', ["t.cedar:3: Cedar cannot"]),
    ('// ;"\n@id("a") permit (principal, action, resource)', ["t.cedar:2: Cedar cannot"]),
    (
        '@id("a") permit (principal, action, resource);\n' * 2,
        ['t.cedar:2: @id("a") is taken by t.cedar:1'],
    ),
    ('@id("") permit (principal, action, resource);', ["t.cedar:1: this @id cannot"]),
    ('@id("sql.parse") permit (principal, action, resource);', ["this @id cannot"]),
    ('@id("default-deny") permit (principal, action, resource);', ["this @id cannot"]),
    ('@id("a") @aproval("x") permit (principal, action, resource);', ["@aproval means nothing"]),
    ('@id("a") @approval("x") forbid (principal, action, resource);', ["a forbid cannot ask"]),
    ('@id("a") @approval("") permit (principal, action, resource);', ["names no group"]),
    ('@id("a") @approval("x,,y") permit (principal, action, resource);', ["names no group"]),
    ('@id("a") @ttl("30m") permit (principal, action, resource);', ["@ttl without @approval"]),
    ('@id("a") @quorum("2") permit (principal, action, resource);', ["@quorum without @approval"]),
    *(
        (
            f'@id("a") @approval("x") @ttl("{ttl}") permit (principal, action, resource);',
            ["@ttl is no"],
        )
        for ttl in ("", "30", "m", "0m", "-1m", "1.5h", "25h", "1d", "30 m")
    ),
    *(
        (
            f'@id("a") @approval("x") @quorum("{n}") permit (principal, action, resource);',
            ["@quorum is"],
        )
        for n in ("", "0", "-1", "two", "21", "1.0")
    ),
    (
        '@id("a") @approval("x") @max_rows("0") permit (principal, action, resource);',
        ["@max_rows is"],
    ),
    ('@id("a") permit (principal == ?principal, action, resource);', ["this is a template"]),
    ('@id("a") permit (principal, action == Action::"selct", resource);', ["unrecognized action"]),
    ('@id("a") permit (principal, action, resource) when { context.has_were };', ["has_were"]),
    ('@id("a") permit (principal, action, resource is Tabel);', ["Tabel"]),
    ('@id("a") permit (principal in Rol::"x", action, resource);', ["Rol"]),
    ("", ["policies: there is no policy"]),
    ("// only a comment; nothing", ["policies: there is no policy"]),
    ('@id("a") permit (principal, action, resource); tail', ["t.cedar:1: Cedar cannot"]),
]


@pytest.mark.parametrize(("text", "messages"), FAULTS)
def test_a_fault_is_named_with_its_place(text: str, messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Policies.load({"t.cedar": text})
    for message in messages:
        assert message in str(caught.value)
    assert all(fault.place and fault.remedy for fault in caught.value.faults)


def test_all_faults_of_all_files_are_told_at_once() -> None:
    texts = {name: "".join(text for text, _ in FAULTS[:3]) for name in ("a.cedar", "b.cedar")}
    with pytest.raises(ConfigError) as caught:
        Policies.load(texts | {"c.cedar": "permit (principal, action, resource);"})
    assert {fault.place.split(":")[0] for fault in caught.value.faults} == {
        "a.cedar",
        "b.cedar",
        "c.cedar",
    }


def test_a_semicolon_in_a_string_or_a_comment_ends_nothing() -> None:
    text = """// one; "two
    @id("a") @reason("so; \\" it; // goes") permit (principal, action, resource); // ; end"""
    found = decide(text, ("any",), READ)
    assert (found.rule, found.reason) == ("a", 'so; " it; // goes')


def test_the_version_is_over_names_and_texts() -> None:
    one = {"a.cedar": '@id("a") permit (principal, action, resource);'}
    text = json.dumps(one, separators=(",", ":"), ensure_ascii=False)
    version = Policies.load(one).version
    assert version == hashlib.sha256(text.encode()).hexdigest()
    assert Policies.load({"b.cedar": one["a.cedar"]}).version != version
    assert Policies.load({"a.cedar": one["a.cedar"] + " "}).version != version


def test_names_in_reasons_are_shown_and_masked() -> None:
    hostile = 'claims.public.x\x1b[2J\u202e 123-45-6789 "'
    found = decide(CLAIMS, ("claims-etl",), Action("drop", "table", hostile))
    assert "123-45" not in found.reason
    assert found.reason.isprintable()
    role = decide(CLAIMS, ("evil\x1b[2J\u202e",), READ)
    assert role.advice.isprintable()


def test_a_verdict_as_json() -> None:
    action = replace(STEERED, facts=replace(STEERED.facts, columns=("ssn",), phi_columns=("ssn",)))
    found = decide(CLAIMS, ("claims-etl",), action, DELETE)
    column = {"index": 0, "name": "ssn", "why": "ssn ← patients.ssn"}
    shown = verdict_json(found, "ab" * 32, (action,), [column])
    assert json.loads(json.dumps(shown)) == {
        "verdict": "ask",
        "rule": "etl-steers",
        "reason": "PHI filters, orders or enters an expression; deletes PHI rows",
        "digest": "ab" * 32,
        "actions": [
            {
                "verb": "select",
                "object": "claims.public.patients(ssn)",
                "facts": {
                    "has_where": False, "phi": True, "phi_influences": ["filter", "join"],
                    "phi_to_plain": False, "ddl": False, "recursive": False, "wildcard": False,
                    "setting_safe": False, "columns": ["ssn"], "phi_columns": ["ssn"],
                    "statements": 1, "form": "single",
                },
            }
        ],
        "masked_columns": [column],
        "approval": {"groups": ["phi-approvers"], "quorum": 1, "ttl_s": 1800},
    }  # fmt: skip
    assert verdict_json(Verdict("deny", "r", "why"), None, (), [])["approval"] is None


def test_the_schema_has_the_verbs_that_connectors_use() -> None:
    for verb in VERBS:
        text = f'@id("a") permit (principal, action == Action::"{verb}", resource);'
        assert decide(text, ("any",), replace(READ, verb=verb)).verdict == "allow"


def test_a_decision_is_quick() -> None:
    texts = shipped() | {"claims.cedar": CLAIMS.replace("etl-", "claims-")}
    policies = Policies.load(texts)
    who = identity("claims-etl", "reader")
    times_ms = []
    for _ in range(200):
        start = time.perf_counter()
        policies.decide(who, "claims-db", ("phi",), (STEERED, DELETE), database="claims")
        times_ms.append((time.perf_counter() - start) * 1000)
    # Typically 0.4 ms; the bound leaves room for a busy machine (docs/policies.md).
    assert statistics.median(times_ms) < 3

"""Roles: which claims make whom, and who answers for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.roles import RoleRule, map_identity
from gateway.core.token import Claims
from gateway.errors import TokenRefused

URL = "https://issuer.test"
ETL = RoleRule(
    name="etl", issuer=URL, match={"repository_id": "42"}, identity="etl", kind="machine",
    owner=f"{URL}|boss", targets=("claims-db",),
)  # fmt: skip
PERSON = RoleRule(
    name="approver", issuer=URL, match={"groups": "phi"}, identity="{sub}", kind="person",
    groups=("phi-approvers",),
)  # fmt: skip


def claims(**values: Any) -> Claims:
    return Claims(URL, values.get("sub", "job"), 0, values)


def refused(found: Claims, *roles: RoleRule) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        map_identity(found, roles)
    return caught.value


def test_a_machine_answers_by_its_owner_and_actor() -> None:
    found = map_identity(claims(repository_id="42"), [ETL])
    assert (found.name, found.kind, found.roles) == ("etl", "machine", ("etl",))
    assert found.accountable == (f"{URL}|boss",)
    acting = replace(ETL, actor_claim="actor_id")
    both = map_identity(claims(repository_id="42", actor_id=7), [acting])
    assert both.accountable == (f"{URL}|boss", f"{URL}|7")
    assert refused(claims(repository_id="42"), acting).rule == "token.actor"
    assert refused(claims(repository_id="42", actor_id=["7", "8"]), acting).rule == "token.actor"
    assert refused(claims(repository_id="42"), replace(ETL, owner=None)).rule == "token.actor"


def test_a_person_answers_for_itself() -> None:
    found = map_identity(claims(sub="alice", groups=["x", "phi"]), [PERSON])
    assert (found.name, found.accountable) == ("alice", (f"{URL}|alice",))
    assert found.groups == ("phi-approvers",)


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("42", "42", True),
        ("42", 42, True),
        ("42", "420", False),
        ("42", 42.0, False),
        ("42", None, False),
        ("42", {"42": 1}, False),
        ("42", ["41", "42"], True),
        ("42", [["42"]], False),
        ("true", True, True),
        ("true", 1, False),
        ("1", True, False),
        ("repo:acme/*", "repo:acme/x", True),
        ("repo:acme/*", "repo:acme-evil/x", False),
        ("repo:acme/*", "x repo:acme/x", False),
        ("repo:acme/*", "REPO:ACME/x", False),
        ("a.c", "abc", False),
        ("", "", True),
    ],
)
def test_patterns_are_exact_or_anchored(pattern: str, value: Any, fits: bool) -> None:
    role = replace(ETL, match={"claim": pattern})
    if fits:
        assert map_identity(claims(claim=value), [role])
    else:
        assert refused(claims(claim=value), role).rule == "token.no-role"


def test_all_claims_must_fit() -> None:
    role = replace(ETL, match={"a": "1", "b": "2"})
    assert map_identity(claims(a="1", b="2"), [role])
    assert refused(claims(a="1", b="3"), role).rule == "token.no-role"
    assert refused(claims(a="1"), role).rule == "token.no-role"


def test_no_role_names_claims_and_never_values() -> None:
    error = refused(claims(repository_id="secret-value"), ETL, PERSON)
    assert "groups" in error.reason
    assert "groups, repository_id" in error.advice
    assert "secret-value" not in str(error)
    assert "42" not in str(error)
    cut = refused(claims(_claim_names={"groups": "src1"}), PERSON)
    assert "_claim_names" in cut.advice
    assert "No role" in refused(claims(a="1")).advice


def test_an_email_counts_only_when_verified() -> None:
    role = replace(PERSON, match={"email": "a@x.org"}, identity="{email}")
    assert map_identity(claims(email="a@x.org", email_verified=True), [role]).name == "a@x.org"
    for verified in (False, None, "yes", 1):
        error = refused(claims(email="a@x.org", email_verified=verified), role)
        assert "email_verified" in error.advice
    named = replace(PERSON, identity="{email}")
    assert refused(claims(groups="phi", email="a@x.org"), named).rule == "token.identity"


def test_another_issuers_role_never_matches() -> None:
    other = replace(ETL, issuer="https://other.test")
    assert refused(claims(repository_id="42"), other).rule == "token.no-role"


def test_roles_are_joined() -> None:
    second = replace(
        ETL, name="second", owner=f"{URL}|chief", targets=("claims-db", "other"),
        annotations={"run": "run_id", "gone": "missing"},
    )  # fmt: skip
    found = map_identity(claims(repository_id="42", run_id="9" * 1000), [ETL, second])
    assert found.roles == ("etl", "second")
    assert found.targets == ("claims-db", "other")
    assert found.accountable == (f"{URL}|boss", f"{URL}|chief")
    assert found.annotations == {"run": "9" * 512}


def test_roles_of_two_kinds_contradict() -> None:
    both = claims(repository_id="42", groups="phi")
    assert refused(both, ETL, PERSON).rule == "token.roles"


@pytest.mark.parametrize("subject", ["", "a b", "a\nb", "\u202eab", "a|b", "é", "x" * 129, "{sub}"])
def test_a_name_must_be_plain(subject: str) -> None:
    found = claims(groups="phi", sub=subject)
    assert refused(found, PERSON).rule == "token.identity"


def test_a_name_needs_its_claim() -> None:
    role = replace(PERSON, identity="p-{login}")
    assert map_identity(claims(groups="phi", login="bob"), [role]).name == "p-bob"
    assert refused(claims(groups="phi"), role).rule == "token.identity"
    assert refused(claims(groups="phi", login=["a", "b"]), role).rule == "token.identity"

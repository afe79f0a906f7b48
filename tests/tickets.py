"""People, machines and held lines that tests of approval and of the store share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.core.approval import BoundFields, Request, Vote
from gateway.core.identity import Identity, IdentityKind
from gateway.core.verdict import Approval, Verdict

NOW: Final = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
ISSUER: Final = "https://issuer.test"


def after(seconds: float) -> datetime:
    """A moment that many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def who(
    name: str,
    kind: IdentityKind = "person",
    *,
    groups: tuple[str, ...] = (),
    accountable: tuple[str, ...] | None = None,
) -> Identity:
    """An identity; a person answers for itself."""
    if accountable is None:
        accountable = (f"{ISSUER}|{name}",) if kind == "person" else ()
    return Identity(
        name, ISSUER, name, kind, ("role",), ("claims-db",), groups, accountable, {"run": "§ 1"}
    )


OWNER: Final = who("owner", groups=("phi-approvers",))
APPROVER: Final = who("approver", groups=("phi-approvers",))
APPROVER2: Final = who("approver2", groups=("phi-approvers", "dba"))
STRANGER: Final = who("stranger", groups=("knitting",))
ETL: Final = who("etl", "machine", accountable=(OWNER.id,))

APPROVAL: Final = Approval("etl-deletes", ("phi-approvers",), 1, 1800, 1000, "deletes PHI rows")
FIELDS: Final = BoundFields(
    text=b"delete from patients where ssn = '078-05-1120'",
    target="claims-db",
    database="claims",
    upstream_role="tollhouse_writer",
    identity_id=ETL.id,
    policy_version="aa" * 32,
    masking="bb" * 32,
    catalog="cc" * 32,
)


def ask(*approvals: Approval) -> Verdict:
    """A verdict that holds a line."""
    return Verdict("ask", "etl-deletes", "deletes PHI rows", approvals=approvals or (APPROVAL,))


def request(text: bytes = FIELDS.text, *approvals: Approval, identity: Identity = ETL) -> Request:
    """A held line."""
    fields = replace(FIELDS, text=text, identity_id=identity.id)
    shown = "delete from patients where ssn = '[SSN]'"
    return Request(identity, "s-1", fields, shown, ask(*approvals), "clean-up")


def vote(voter: Identity, *, approve: bool = True, at: datetime = NOW) -> Vote:
    """A vote."""
    return Vote(voter, approve, "looked at it", at)

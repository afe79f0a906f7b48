"""Verdicts: the answer to "may this line run?"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval that a rule demands.

    Attributes:
        rule: the ``@id`` of the permit.
        groups: any of these groups may vote.
        quorum: how many different persons must approve.
        ttl_s: seconds from the grant until it can no longer be spent.
        max_rows: the guard rolls back above it; None for no limit.
        reason: why the rule asks, from ``@reason``.
    """

    rule: str
    groups: tuple[str, ...]
    quorum: int = 1
    ttl_s: int = 1800
    max_rows: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on a whole line.

    Attributes:
        verdict: ``allow``, ``deny`` or ``ask``.
        rule: the ``@id`` that decided, or ``default-deny``, or a gate's own rule
            such as ``sql.parse``.
        reason: for people, without PHI.
        advice: what to do next; may be empty.
        approvals: all of them must be met; empty unless ``ask``.
    """

    verdict: Literal["allow", "deny", "ask"]
    rule: str
    reason: str
    advice: str = ""
    approvals: tuple[Approval, ...] = ()

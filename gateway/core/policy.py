"""Policy: Cedar decides each action, and this module makes one verdict of it.

Default deny; a forbid beats every permit. A permit with ``@approval`` allows only
with a grant: each action is asked of two sets, one without those permits. What
the first allows is allowed, what only the second allows is asked for, the rest is
denied. An error from Cedar denies, because a forbid that fails at run time would
otherwise be skipped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import cedarpy
import rfc8785

from gateway.core.action import Action
from gateway.core.display import show
from gateway.core.identity import Identity
from gateway.core.mask import mask_text
from gateway.core.policy_request import requests
from gateway.core.policy_source import SCHEMA, VERBS, Rule, read
from gateway.core.verdict import Approval, Verdict
from gateway.errors import ConfigError

DEFAULT_DENY = "default-deny"
"""The rule of a verdict that no policy speaks for."""

_NAME_LIMIT_CHARS = 120


class Policies:
    """All policies in force; immutable, safe to share between threads.

    Attributes:
        version: hex SHA-256 over the canonical JSON (RFC 8785) of file names and
            texts; grants are bound to it.
        ids: every rule's ``@id``.
    """

    def __init__(self, rules: Mapping[str, Rule], version: str) -> None:
        self.version = version
        self.ids = frozenset(rules)
        self._rules = dict(rules)
        self._all = _policy_set(rules.values())
        self._plain = _policy_set(rule for rule in rules.values() if rule.approval is None)

    @classmethod
    def load(cls, files: Mapping[str, str]) -> Policies:
        """Read and check policy files.

        Args:
            files: file name to Cedar text, as ``{"reading.cedar": "…"}``.

        Raises:
            ConfigError: with every fault of every file, each with ``file:line``.
        """
        rules, faults = read(files)
        if faults:
            raise ConfigError(tuple(faults))
        version = hashlib.sha256(rfc8785.dumps(dict(files))).hexdigest()
        return cls(rules, version)

    def decide(
        self,
        identity: Identity,
        target: str,
        labels: Collection[str],
        actions: Sequence[Action],
        *,
        database: str = "",
    ) -> Verdict:
        """Decide a whole line; one action denied denies it.

        Where several permits with ``@approval`` allow actions, all of them must be
        met, also if they allow the same action: a rule that asks is never weakened
        by another that asks for less. Each approval then has the smallest ttl and
        max_rows of all.

        Args:
            identity: who asks.
            target: the target's name.
            labels: the target's labels.
            actions: all that the line would do; none is a denial.
            database: the target's database; without it functions and schemas are in
                the target and in no Database.

        Returns:
            The verdict. It never raises: what cannot be decided is denied.
        """
        asked = list(dict.fromkeys(actions))
        if not asked:
            return _deny("policy.nothing", "the line holds nothing that a rule could allow")
        unknown = [action for action in asked if action.verb not in VERBS]
        if unknown:
            return _deny("policy.verb", f"no rule can speak of this action: {_shown(unknown[0])}")
        try:
            return _combined(self._asked(identity, target, labels, asked, database))
        except Exception:  # whatever failed, the line is denied
            return _deny("policy.error", "the policies could not be asked about this line")

    def _asked(
        self,
        identity: Identity,
        target: str,
        labels: Collection[str],
        actions: Sequence[Action],
        database: str,
    ) -> list[Verdict]:
        """One verdict for each action."""
        asking = requests(identity, target, labels, database, actions)
        plain = cedarpy.is_authorized_batch(asking.each, self._plain, asking.entities, SCHEMA)
        full = cedarpy.is_authorized_batch(asking.each, self._all, asking.entities, SCHEMA)
        verdicts = []
        for action, placed, without, with_all in zip(
            actions, asking.placed, plain, full, strict=True
        ):
            verdict = self._one(action, without, with_all, identity)
            allowed = verdict.verdict != "deny"
            verdicts.append(_unplaced(action) if allowed and not placed else verdict)
        return verdicts

    def _one(
        self,
        action: Action,
        without: cedarpy.AuthzResult,
        with_all: cedarpy.AuthzResult,
        identity: Identity,
    ) -> Verdict:
        """The verdict on one action from Cedar's two answers."""
        answers = (without, with_all)
        decided = (cedarpy.Decision.Allow, cedarpy.Decision.Deny)
        if any(each.diagnostics.errors or each.decision not in decided for each in answers):
            return _deny("policy.error", f"a rule failed while it was asked about {_shown(action)}")
        if without.allowed:
            rule = self._rules[min(without.diagnostics.reasons)]
            return Verdict("allow", rule.id, rule.reason or f"permitted by {rule.id}")
        rules = [self._rules[each] for each in sorted(with_all.diagnostics.reasons)]
        if with_all.allowed:
            approvals = tuple(rule.approval for rule in rules if rule.approval is not None)
            return Verdict("ask", rules[0].id, _reasons(approvals), approvals=approvals)
        if rules:
            forbid = rules[0]
            reason = forbid.reason or f"{forbid.id} forbids it"
            return _deny(forbid.id, f"{reason}: {_shown(action)}", forbid.advice)
        return _nothing_permits(action, identity)


def _policy_set(rules: Iterable[Rule]) -> cedarpy.PolicySet:
    static = {rule.id: rule.cedar for rule in rules}
    return cedarpy.PolicySet.from_json_str(
        json.dumps({"templates": {}, "staticPolicies": static, "templateLinks": []})
    )


def _deny(rule: str, reason: str, advice: str = "") -> Verdict:
    return Verdict(
        "deny",
        rule,
        reason,
        advice or "Change the line, or show this rule's name to whoever keeps the policies",
    )


def _nothing_permits(action: Action, identity: Identity) -> Verdict:
    roles = ", ".join(show(role, limit=_NAME_LIMIT_CHARS) for role in identity.roles) or "none"
    return _deny(
        DEFAULT_DENY,
        f"nothing permits it: {_shown(action)}",
        f"Your roles ({roles}) do not allow this; ask whoever keeps the policies for a rule",
    )


def _unplaced(action: Action) -> Verdict:
    return _deny(
        "policy.object",
        f"it cannot be told which schema this lies in: {_shown(action)}",
        "Name the schema; an object with a dot in its name needs a view with a plain one",
    )


def _shown(action: Action) -> str:
    name = show(mask_text(action.name), limit=_NAME_LIMIT_CHARS)
    return f"{show(action.verb, limit=_NAME_LIMIT_CHARS)} on {action.kind} {name}"


def _reasons(approvals: Iterable[Approval]) -> str:
    return "; ".join(dict.fromkeys(each.reason or f"{each.rule} asks" for each in approvals))


def _combined(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of one for each action: the first denial, else all that is asked."""
    denied = next((each for each in verdicts if each.verdict == "deny"), None)
    if denied is not None:
        return denied
    asks = [each for each in verdicts if each.verdict == "ask"]
    if not asks:
        return verdicts[0]
    approvals = list({each.rule: each for ask in asks for each in ask.approvals}.values())
    ttl_s = min(each.ttl_s for each in approvals)
    rows = [each.max_rows for each in approvals if each.max_rows is not None]
    met = tuple(replace(each, ttl_s=ttl_s, max_rows=min(rows, default=None)) for each in approvals)
    return Verdict("ask", asks[0].rule, _reasons(met), approvals=met)


def verdict_json(
    verdict: Verdict,
    digest: str | None,
    actions: Sequence[Action],
    masked_columns: Sequence[Mapping[str, object]],
) -> dict[str, Any]:
    """A verdict as programs read it (docs/formats.md, "Verdict").

    Args:
        verdict: the decision.
        digest: hex, of the ticket's bound fields; None without a ticket.
        actions: what the line would do.
        masked_columns: ``{"index", "name", "why"}`` each.

    Returns:
        JSON values only. ``approval`` is null unless asked: ``groups`` of all rules,
        the largest ``quorum`` and the smallest ``ttl_s``; where several rules ask,
        each one's own groups and quorum must be met.
    """
    approval = None
    if verdict.approvals:
        approval = {
            "groups": sorted({group for each in verdict.approvals for group in each.groups}),
            "quorum": max(each.quorum for each in verdict.approvals),
            "ttl_s": min(each.ttl_s for each in verdict.approvals),
        }
    return {
        "verdict": verdict.verdict,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "digest": digest,
        "actions": [
            {"verb": each.verb, "object": show(each.object), "facts": _facts_json(each)}
            for each in actions
        ],
        "masked_columns": [dict(column) for column in masked_columns],
        "approval": approval,
    }


def _facts_json(action: Action) -> dict[str, Any]:
    facts = asdict(action.facts)
    facts["phi_influences"] = sorted(action.facts.phi_influences)
    facts["columns"] = [show(each) for each in action.facts.columns]
    facts["phi_columns"] = [show(each) for each in action.facts.phi_columns]
    return facts

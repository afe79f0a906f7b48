"""Policy files read into rules, with every fault named by file and line.

Cedar reads the policies; this module adds what Cedar leaves open: an ``@id`` on
each, known annotations only, and a place for each message. A policy decides
nothing before all files are without fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files as _resource_files
from typing import Any, Final

import cedarpy

from gateway.core.verdict import Approval
from gateway.errors import Fault

# Part of the program as the modules are, so it is read with them, once.
SCHEMA_TEXT: Final = (
    _resource_files("gateway.core").joinpath("policy.cedarschema").read_text(encoding="utf-8")
)
SCHEMA: Final = cedarpy.Schema.from_str(SCHEMA_TEXT)
VERBS: Final = frozenset(
    name
    for line in re.findall(r'^  (".*),?$', SCHEMA_TEXT, re.MULTILINE)
    for name in json.loads(f"[{line.rstrip(',')}]")
)
"""The actions of the schema."""

DEFAULT_TTL_S: Final = 1800
TTL_LIMIT_S: Final = 86_400
QUORUM_LIMIT: Final = 20

_TTL_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600}
_ANNOTATIONS: Final = ("advice", "approval", "id", "max_rows", "quorum", "reason", "ttl")
_NEED_APPROVAL: Final = ("max_rows", "quorum", "ttl")
# A dot marks the gateway's own rules ("sql.parse"), so an @id has none.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED_IDS: Final = frozenset({"default-deny", "gateway", "config"})
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}")
_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|\s+|;|.', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy.

    Attributes:
        id: its ``@id``, unique over all files.
        place: ``file:line`` of its first word.
        cedar: Cedar's JSON form of it.
        reason: its ``@reason``; may be empty.
        advice: its ``@advice``; may be empty.
        approval: what a grant needs, for a permit with ``@approval``.
    """

    id: str
    place: str
    cedar: Mapping[str, Any]
    reason: str
    advice: str
    approval: Approval | None


def read(texts: Mapping[str, str]) -> tuple[dict[str, Rule], list[Fault]]:
    """Read all policy files.

    Args:
        texts: file name to Cedar text.

    Returns:
        The rules by ``@id``, and all faults; with a fault the rules are not to be
        used.
    """
    rules: dict[str, Rule] = {}
    faults: list[Fault] = []
    for name, text in sorted(texts.items()):
        for line, policy in _split(text):
            rule = _rule(f"{name}:{line}", policy, faults)
            if rule is None:
                continue
            if rule.id in rules:
                first = rules[rule.id].place
                faults.append(
                    Fault(rule.place, f'@id("{rule.id}") is taken by {first}', "Choose another @id")
                )
            rules.setdefault(rule.id, rule)
    if not rules and not faults:
        faults.append(
            Fault(
                "policies", "there is no policy", "Without one everything is denied: add a permit"
            )
        )
    return rules, faults


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Each policy with the line it starts on; the rest after the last ``;`` too."""
    start, line, first_line = 0, 1, 0
    for token in _TOKEN.finditer(text):
        word = token.group()
        if not first_line and not word.isspace() and not word.startswith("//"):
            start, first_line = token.start(), line
        line += word.count("\n")
        if word == ";":
            yield first_line, text[start : token.end()]
            first_line = 0
    if first_line:
        yield first_line, text[start:]


def _rule(place: str, text: str, faults: list[Fault]) -> Rule | None:
    """One policy as a rule; None where a fault keeps it from being one."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        faults.append(Fault(place, f"Cedar cannot read this: {error}", "Correct the policy"))
        return None
    if parsed["templates"] or len(parsed["staticPolicies"]) != 1:
        faults.append(
            Fault(place, "this is a template", "Name the principal and resource instead of a ?slot")
        )
        return None
    cedar = next(iter(parsed["staticPolicies"].values()))
    notes: dict[str, str] = {
        key: value or "" for key, value in cedar.get("annotations", {}).items()
    }
    faults.extend(_validation(place, text))
    faults.extend(_annotation_faults(place, notes, cedar["effect"]))
    approval = _approval(place, notes, faults) if "approval" in notes else None
    if _ID.fullmatch(notes.get("id", "")) is None:
        return None
    return Rule(
        notes["id"], place, cedar, notes.get("reason", ""), notes.get("advice", ""), approval
    )


def _validation(place: str, text: str) -> Iterator[Fault]:
    """What the schema says against it; a repeated message once."""
    messages = [
        re.sub(r"^for policy `policy\d+`, ", "", error.error)
        for error in cedarpy.validate_policies(text, SCHEMA).errors
    ]
    for message in dict.fromkeys(re.sub(r" for Action::\"[^\"]*\"", "", each) for each in messages):
        yield Fault(place, message, "docs/policies.md lists the actions, objects and facts")


def _annotation_faults(place: str, notes: Mapping[str, str], effect: str) -> Iterator[Fault]:
    known = ", ".join(f"@{name}" for name in _ANNOTATIONS)
    for name in sorted(set(notes) - set(_ANNOTATIONS)):
        # A misspelt @approval would turn a permit that asks into one that allows.
        yield Fault(place, f"@{name} means nothing here", f"Known are {known}")
    if "id" not in notes:
        yield Fault(place, "the policy has no @id", 'Add @id("…"), unique over all files')
    elif _ID.fullmatch(notes["id"]) is None or notes["id"] in _RESERVED_IDS:
        yield Fault(
            place,
            "this @id cannot be used",
            "Use up to 64 letters, digits, - and _, and none of "
            + ", ".join(sorted(_RESERVED_IDS)),
        )
    if effect == "forbid" and "approval" in notes:
        yield Fault(
            place,
            "a forbid cannot ask for approval",
            "Put @approval on a permit; what no permit allows is denied anyway",
        )
    if "approval" not in notes:
        for name in _NEED_APPROVAL:
            if name in notes:
                yield Fault(
                    place, f"@{name} without @approval", 'Add @approval("group"), or drop it'
                )


def _approval(place: str, notes: Mapping[str, str], faults: list[Fault]) -> Approval:
    groups = tuple(dict.fromkeys(part.strip() for part in notes["approval"].split(",")))
    if not all(_GROUP.fullmatch(group) for group in groups):
        faults.append(
            Fault(place, "@approval names no group", 'Write @approval("group") or ("one, other")')
        )
    return Approval(
        rule=notes.get("id", ""),
        groups=groups,
        quorum=_number(place, notes, "quorum", QUORUM_LIMIT, faults) or 1,
        ttl_s=_ttl_s(place, notes, faults),
        max_rows=_number(place, notes, "max_rows", 10**12, faults),
        reason=notes.get("reason", ""),
    )


def _number(
    place: str, notes: Mapping[str, str], name: str, limit: int, faults: list[Fault]
) -> int | None:
    if name not in notes:
        return None
    text = notes[name]
    if re.fullmatch(r"[1-9][0-9]{0,12}", text) and int(text) <= limit:
        return int(text)
    faults.append(
        Fault(place, f"@{name} is no whole number from 1 to {limit}", f'Write it as @{name}("2")')
    )
    return None


def _ttl_s(place: str, notes: Mapping[str, str], faults: list[Fault]) -> int:
    if "ttl" not in notes:
        return DEFAULT_TTL_S
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", notes["ttl"])
    ttl_s = int(match[1]) * _TTL_UNITS_S[match[2]] if match else 0
    if not 0 < ttl_s <= TTL_LIMIT_S:
        faults.append(
            Fault(
                place,
                "@ttl is no time up to 24 hours",
                'Write it as @ttl("30m"); units are s, m, h',
            )
        )
    return ttl_s

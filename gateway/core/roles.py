"""Roles: which verified claims make whom, with which targets and whose answer.

The claims are an issuer's words; what they open is the configuration's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.identity import Identity, IdentityKind
from gateway.core.token import Claims
from gateway.errors import TokenRefused

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+=-]{0,127}")
_MAX_ANNOTATION_CHARS = 512


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Which claims make a subject a member of a role, and what that gives.

    Attributes:
        name: of the role.
        issuer: URL of the only issuer whose tokens it takes.
        match: claim to pattern, all must fit: exact text, or ``prefix*``.
        identity: name for the records; ``{claim}`` is replaced by that claim.
        kind: only a ``person`` votes.
        owner: ``issuer URL|subject`` of the accountable human; None for a person.
        actor_claim: claim that names the human who set it off, if the issuer tells.
        groups: approval groups.
        targets: names of the targets it opens.
        annotations: name to claim, recorded as claimed, never decisive.
    """

    name: str
    issuer: str
    match: Mapping[str, str]
    identity: str
    kind: IdentityKind
    owner: str | None = None
    actor_claim: str | None = None
    groups: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def map_identity(claims: Claims, roles: Sequence[RoleRule]) -> Identity:
    """Map verified claims to the identity that they make here.

    Roles that match are joined: targets and groups by union, the name from the
    first. A claim that is missing never matches, and an ``email`` counts only
    with ``email_verified``.

    Raises:
        TokenRefused: no role matches (the claims that would matter are named,
            never their values), roles disagree on the kind, or a claim that an
            identity needs is missing.
    """
    offered = [role for role in roles if role.issuer == claims.issuer]
    matched = [role for role in offered if all(_fits(claims, c, p) for c, p in role.match.items())]
    if not matched:
        raise _no_role(claims, offered)
    if len({role.kind for role in matched}) > 1:
        raise _refused(
            "token.roles",
            "the token matches roles of different kinds: " + ", ".join(r.name for r in matched),
            "Make the match of these roles exclude one another",
        )
    accountable: dict[str, None] = {}
    annotations: dict[str, str] = {}
    for role in matched:
        accountable.update(dict.fromkeys(_accountable(claims, role)))
        for name, claim in role.annotations.items():
            values = _texts(claims.values.get(claim))
            if values:
                annotations.setdefault(name, values[0][:_MAX_ANNOTATION_CHARS])
    return Identity(
        name=_identity_name(claims, matched[0].identity),
        issuer=claims.issuer,
        subject=claims.subject,
        kind=matched[0].kind,
        roles=tuple(role.name for role in matched),
        targets=tuple(dict.fromkeys(t for role in matched for t in role.targets)),
        groups=tuple(dict.fromkeys(g for role in matched for g in role.groups)),
        accountable=tuple(accountable),
        annotations=annotations,
    )


def _refused(rule: str, reason: str, advice: str) -> TokenRefused:
    return TokenRefused(reason, advice, rule)


def _texts(value: object) -> list[str]:
    """A claim's values as text: one, each of a list, or none."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (str, int)):
        return [str(value)]
    if isinstance(value, list):
        return [text for item in value if not isinstance(item, list) for text in _texts(item)]
    return []


def _fits(claims: Claims, claim: str, pattern: str) -> bool:
    if claim == "email" and _texts(claims.values.get("email_verified")) != ["true"]:
        return False
    found = _texts(claims.values.get(claim))
    if pattern.endswith("*"):
        return any(text.startswith(pattern[:-1]) for text in found)
    return pattern in found


def _no_role(claims: Claims, offered: Sequence[RoleRule]) -> TokenRefused:
    wanted = sorted({claim for role in offered for claim in role.match})
    missing = [claim for claim in wanted if not _texts(claims.values.get(claim))]
    reason = "the token maps to no role of this gateway"
    if missing:
        reason += f"; it lacks the claims {', '.join(missing)}"
    advice = (
        f"Roles of this issuer look at: {', '.join(wanted)}"
        if wanted
        else "No role uses this issuer"
    )
    if any(claim in claims.values.get("_claim_names", ()) for claim in missing):
        advice += ". The issuer left out a claim that was too long (_claim_names)"
    if "email" in wanted and "email" not in missing:
        advice += ". An email counts only with email_verified"
    return _refused("token.no-role", reason, advice)


def _accountable(claims: Claims, role: RoleRule) -> list[str]:
    if role.kind == "person":
        return [f"{claims.issuer}|{claims.subject}"]
    people = [role.owner] if role.owner else []
    if role.actor_claim is not None:
        actors = _texts(claims.values.get(role.actor_claim))
        if len(actors) != 1:
            raise _refused(
                "token.actor",
                f"the token does not say who set it off ({role.actor_claim})",
                f"Role {role.name} demands that claim (actor_claim in gateway.toml)",
            )
        people.append(f"{claims.issuer}|{actors[0]}")
    if not people:
        raise _refused(
            "token.actor", f"role {role.name} names no accountable human", "Give it an owner"
        )
    return people


def _identity_name(claims: Claims, template: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = _texts(claims.values.get(match[1]))
        if len(found) != 1 or (match[1] == "email" and not _fits(claims, "email", found[0])):
            raise _refused(
                "token.identity",
                f"the identity's name needs the claim {match[1]}, which the token lacks",
                "See the role's identity in gateway.toml",
            )
        return found[0]

    name = re.sub(r"\{([A-Za-z0-9_.:/-]+)\}", value, template)
    if not _NAME.fullmatch(name):
        raise _refused(
            "token.identity",
            "the identity's name would hold characters that are not allowed",
            "Take another claim for identity in gateway.toml",
        )
    return name

"""Who is knocking: the verified claims of a token, reduced to what decisions need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

IdentityKind = Literal["machine", "agent", "person"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A subject of an issuer, mapped to roles for a few minutes.

    Attributes:
        name: short and unique in this gateway, as ``etl``; from the role's mapping.
        issuer: the issuer's URL, exactly as in ``iss``.
        subject: ``sub`` as the issuer wrote it.
        kind: only a ``person`` votes.
        roles: names of ``[[role]]`` entries that matched; never empty.
        targets: names of the targets that those roles open.
        groups: approval groups (a person's), for instance ``phi-approvers``.
        accountable: the humans behind it, ``issuer|subject`` each: the person
            itself, or a machine's configured owner and the issuer's actor.
        annotations: claimed context (run URL, agent task): shown as claimed,
            never used to decide.
    """

    name: str
    issuer: str
    subject: str
    kind: IdentityKind
    roles: tuple[str, ...]
    targets: tuple[str, ...]
    groups: tuple[str, ...] = ()
    accountable: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The identity that grants and records bind to: issuer and subject."""
        return f"{self.issuer}|{self.subject}"

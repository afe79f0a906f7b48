"""The port ``Tickets``: what the queue may ask, and what it gets back.

A view is made from the JSON of ``ssh gateway@… tickets --json`` and from nothing
else; its strings are untrusted and go through ``gateway.core.display`` before
anybody sees them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn, Protocol, TypeVar

from gateway.errors import ExitCode, TollhouseError

OPEN: Final = frozenset({"pending", "granted"})
"""States that something can still follow; any other, known or not, has ended."""

_ID: Final = re.compile(r"T-[0-9]{1,18}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


class Unreachable(TollhouseError):
    """No answer, or none that can be read: what is on the screen grows old."""

    exit_code = ExitCode.TARGET_UNAVAILABLE

    def __init__(self, reason: str, advice: str = "", rule: str = "queue.unreachable") -> None:
        super().__init__(reason, advice, rule)


class Refused(TollhouseError):
    """The gateway understood and said no; ``reason`` is its own."""

    exit_code = ExitCode.DENIED

    def __init__(self, reason: str, advice: str = "", rule: str = "queue.refused") -> None:
        super().__init__(reason, advice, rule)


@dataclass(frozen=True, slots=True)
class Need:
    """So many votes are missing, from members of any of these groups."""

    groups: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class VoteView:
    """One person's answer; ``at`` is aware."""

    voter: str
    approve: bool
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TicketView:
    """One ticket as the gateway tells it.

    Attributes:
        id: ``T-<n>``.
        state: pending, granted, refused, expired, cancelled or spent.
        identity: who asks.
        target: name of the target.
        command: the whole text, PHI literals masked.
        rule: the rule that held it.
        reason: why that rule asks.
        why: the requester's own words.
        digest: 64 hex digits; what a grant is bound to.
        needs: what is still missing.
        requested_at: aware, as all times here.
        answer_by: when a pending ticket expires.
        expires_at: when a grant does; None until granted.
        ended_at: when it was refused, spent, cancelled or found expired.
        votes: in the order in which they came.
    """

    id: str
    state: str
    identity: str
    target: str
    command: str
    rule: str
    reason: str
    why: str
    digest: str
    needs: tuple[Need, ...]
    requested_at: datetime
    answer_by: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    votes: tuple[VoteView, ...]

    @property
    def number(self) -> int:
        """The id's number, to sort by."""
        return int(self.id.removeprefix("T-"))

    @property
    def open(self) -> bool:
        """Whether something can still happen to it."""
        return self.state in OPEN


class Tickets(Protocol):
    """What the queue asks. Calls may come at the same time; each is answered whole.

    Every method raises Unreachable when there is no answer that can be read, and
    Refused when the gateway said no. After Unreachable a vote may have counted
    or not: the next listing tells.
    """

    async def listed(self, *, ended: bool) -> list[TicketView]:
        """The open tickets that concern the approver; with ``ended`` all of them."""
        ...

    async def approve(self, ticket: str, reason: str) -> TicketView:
        """Vote yes; returns the ticket as it then stands."""
        ...

    async def deny(self, ticket: str, reason: str) -> TicketView:
        """Vote no; returns the ticket as it then stands."""
        ...


def read_tickets(fields: object) -> list[TicketView]:
    """The answer to ``tickets --json``: ``{"tickets": [ticket, …]}``.

    Raises:
        Unreachable: it has another shape; the message names the place.
    """
    if not isinstance(fields, Mapping):
        _wrong("answer", "an object")
    found = _value(fields, "tickets", list, "answer")
    return [read_ticket(each, f"tickets[{index}]") for index, each in enumerate(found)]


def read_ticket(fields: object, place: str = "ticket") -> TicketView:
    """One ticket, as ``gateway.edge.desk.ticket_fields`` writes it.

    Args:
        fields: decoded JSON; members that are not known here are ignored.
        place: where it stands in the answer, for the message.

    Raises:
        Unreachable: a member is missing or of another type; the message names
            the place and never the value.
    """
    if not isinstance(fields, Mapping):
        _wrong(place, "an object")
    needs = _value(fields, "needs", list, place)
    votes = _value(fields, "votes", list, place)
    return TicketView(
        id=_matching(fields, "ticket", _ID, place),
        state=_value(fields, "state", str, place),
        identity=_value(fields, "identity", str, place),
        target=_value(fields, "target", str, place),
        command=_value(fields, "command", str, place),
        rule=_value(fields, "rule", str, place),
        reason=_value(fields, "reason", str, place),
        why=_value(fields, "why", str, place),
        digest=_matching(fields, "digest", _DIGEST, place),
        needs=tuple(_need(each, f"{place}.needs[{n}]") for n, each in enumerate(needs)),
        requested_at=_time(fields, "requested_at", place),
        answer_by=_time(fields, "answer_by", place),
        expires_at=_maybe_time(fields, "expires_at", place),
        ended_at=_maybe_time(fields, "ended_at", place),
        votes=tuple(_vote(each, f"{place}.votes[{n}]") for n, each in enumerate(votes)),
    )


def _need(fields: object, place: str) -> Need:
    if not isinstance(fields, Mapping):
        _wrong(place, "an object")
    groups = _value(fields, "groups", list, place)
    if not all(isinstance(group, str) for group in groups):
        _wrong(f"{place}.groups", "a list of strings")
    count = _value(fields, "count", int, place)
    if isinstance(count, bool) or count < 0:
        _wrong(f"{place}.count", "a number")
    return Need(tuple(groups), count)


def _vote(fields: object, place: str) -> VoteView:
    if not isinstance(fields, Mapping):
        _wrong(place, "an object")
    return VoteView(
        voter=_value(fields, "voter", str, place),
        approve=_value(fields, "approve", bool, place),
        reason=_value(fields, "reason", str, place),
        at=_time(fields, "at", place),
    )


def _value(fields: Mapping[Any, Any], name: str, kind: type[_T], place: str) -> _T:
    value = fields.get(name)
    if not isinstance(value, kind):
        _wrong(f"{place}.{name}", _KINDS[kind])
    return value


def _matching(fields: Mapping[Any, Any], name: str, form: re.Pattern[str], place: str) -> str:
    value = _value(fields, name, str, place)
    if form.fullmatch(value) is None:
        _wrong(f"{place}.{name}", f"of the form {form.pattern}")
    return value


def _time(fields: Mapping[Any, Any], name: str, place: str) -> datetime:
    text = _value(fields, name, str, place)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _wrong(f"{place}.{name}", "a time")
    if moment.utcoffset() is None:
        _wrong(f"{place}.{name}", "a time with its zone")
    return moment


def _maybe_time(fields: Mapping[Any, Any], name: str, place: str) -> datetime | None:
    return None if fields.get(name) is None else _time(fields, name, place)


def _wrong(place: str, wanted: str) -> NoReturn:
    raise Unreachable(
        f"the gateway's answer cannot be read: {place} is not {wanted}",
        "Gateway and client may be of different versions",
        "queue.answer",
    )


_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "a number",
    bool: "true or false",
    list: "a list",
}

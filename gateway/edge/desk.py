"""The desk: ``ssh gateway@…``, where one asks about oneself and approvers answer.

A closed grammar of a few verbs; nothing here reaches a target, so there is no
cast. What changes a ticket is in the ledger.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from gateway.config import GatewayConfig
from gateway.core import notice
from gateway.core.approval import Ticket, Vote, expire, missing, owns
from gateway.core.display import show
from gateway.core.identity import Identity
from gateway.core.mask import mask_text, masked_message
from gateway.edge.channel import Channel
from gateway.edge.door import Admission
from gateway.edge.ledger import Ledger
from gateway.edge.ticketing import TicketLeaves
from gateway.errors import BadCommand, Denied, ExitCode

USAGE = """\
ssh gateway@HOST whoami                          who you are here, and until when
ssh gateway@HOST targets                         what your certificate opens
ssh gateway@HOST tickets [--all]                 your held commands, and those you may vote on
ssh gateway@HOST show T-7                        one ticket with its command
ssh gateway@HOST wait T-7                        wait until it is decided (0 granted, 77 not)
ssh gateway@HOST approve T-7 --reason "…"        let it run once
ssh gateway@HOST deny T-7 --reason "…"           refuse it
ssh gateway@HOST cancel T-7                      take back your own
Every verb takes --json.
"""

Answer = tuple[Mapping[str, Any], str, int]
"""As JSON, as words, and the exit code."""


class Desk:
    """Answers the verbs of ``gateway@``.

    Args:
        config: targets.
        ledger: tickets and their leaves.
    """

    def __init__(self, config: GatewayConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._leaves = TicketLeaves(ledger)
        self._verbs: dict[str, Callable[[Admission, Sequence[str]], Awaitable[Answer]]] = {
            "whoami": self._whoami,
            "targets": self._targets,
            "tickets": self._tickets,
            "show": self._show,
            "wait": self._wait,
            "approve": self._approve,
            "deny": self._deny,
            "cancel": self._cancel,
        }

    async def serve(self, channel: Channel, as_json: bool, why: str) -> None:
        """Answer one request on a channel.

        Raises:
            BadCommand: no verb, an unknown one, or arguments that it does not take.
            Denied: the verb is not for this identity, or the ticket stands otherwise.
            RecorderFault: the store cannot be read or written.
        """
        words = _split(channel.command)
        if words[:1] in (["help"], ["--help"], ["-h"]):
            await channel.send(masked_message(USAGE))
            channel.exit(ExitCode.OK)
            return
        if "--json" in words:
            as_json = True
            words = [word for word in words if word != "--json"]
        verb, *arguments = words
        handler = self._verbs.get(verb)
        if handler is None:
            _bad("There is no such verb at the desk")
        if why and verb in ("approve", "deny") and len(arguments) == 1:
            arguments += ["--reason", why]
        fields, text, code = await handler(channel.admission, arguments)
        if as_json:
            await channel.send(notice.json_line(fields))
        else:
            await channel.send(masked_message(text + "\n"))
        channel.exit(code)

    async def answer(
        self, who: Admission, verb: str, arguments: Sequence[str]
    ) -> Mapping[str, Any]:
        """Answer the approver's queue; its verbs are the desk's own.

        Raises:
            BadCommand: arguments that the verb does not take.
            Denied: as at the desk.
            RecorderFault: the store cannot be read or written.
        """
        fields, _, _ = await self._verbs[verb](who, arguments)
        return fields

    async def _whoami(self, who: Admission, arguments: Sequence[str]) -> Answer:
        _none(arguments)
        identity = who.identity
        fields = {
            "identity": identity.name,
            "kind": identity.kind,
            "issuer": identity.issuer,
            "subject": identity.subject,
            "roles": list(identity.roles),
            "groups": list(identity.groups),
            "targets": list(identity.targets),
            "accountable": list(identity.accountable),
            "certificate": f"{who.serial:016x}",
            "expires_at": who.valid_before.isoformat(),
        }
        width = max(len(name) for name in fields)
        rows = [f"{name:<{width}}  {_cell(value)}" for name, value in fields.items()]
        return fields, "\n".join(rows), ExitCode.OK

    async def _targets(self, who: Admission, arguments: Sequence[str]) -> Answer:
        _none(arguments)
        found = [
            {
                "target": t.name,
                "type": t.type,
                "database": t.database,
                "writes": t.writer is not None,
            }
            for t in self._config.target
            if t.name in who.identity.targets
        ]
        rows = [
            f"{t['target']:<24} {t['type']:<8} {t['database']:<20} "
            f"{'read and write' if t['writes'] else 'read only'}"
            for t in found
        ]
        text = "\n".join(show(row) for row in rows) or "Your certificate opens no target."
        return {"targets": found}, text, ExitCode.OK

    async def _tickets(self, who: Admission, arguments: Sequence[str]) -> Answer:
        everything = list(arguments) == ["--all"]
        if arguments and not everything:
            _bad("tickets takes no argument but --all")
        now = self._ledger.now()
        found = [
            expire(ticket, now)
            for ticket in await self._ledger.store.tickets()
            if _concerns(ticket, who.identity)
        ]
        if not everything:
            found = [ticket for ticket in found if ticket.state in ("pending", "granted")]
        rows = [
            f"{t.id:<6} {t.state:<9} {t.requester.name:<12} {t.target:<12} "
            f"{show(t.shown, limit=60)}"
            for t in found
        ]
        text = "\n".join(rows) or "No open tickets concern you. `tickets --all` shows ended ones."
        return {"tickets": [ticket_fields(t) for t in found]}, text, ExitCode.OK

    async def _show(self, who: Admission, arguments: Sequence[str]) -> Answer:
        ticket = expire(await self._ticket(who.identity, arguments), self._ledger.now())
        return ticket_fields(ticket), ticket_text(ticket), ExitCode.OK

    async def _wait(self, who: Admission, arguments: Sequence[str]) -> Answer:
        ticket = await self._ticket(who.identity, arguments)
        while (ticket := expire(ticket, self._ledger.now())).state == "pending":
            ticket = await self._ledger.store.wait_ticket(ticket.id, 30.0)
        good = ticket.state in ("granted", "spent")
        code = ExitCode.OK if good else ExitCode.DENIED
        return ticket_fields(ticket), f"Ticket {ticket.id} is {ticket.state}.", code

    async def _approve(self, who: Admission, arguments: Sequence[str]) -> Answer:
        return await self._vote(who.identity, arguments, approve=True)

    async def _deny(self, who: Admission, arguments: Sequence[str]) -> Answer:
        return await self._vote(who.identity, arguments, approve=False)

    async def _vote(self, voter: Identity, arguments: Sequence[str], *, approve: bool) -> Answer:
        ticket_id, reason = _vote_arguments(arguments)
        vote = Vote(voter, approve=approve, reason=mask_text(reason), at=self._ledger.now())
        ticket = await self._ledger.store.vote(ticket_id, vote, self._leaves.voted)
        left = "; ".join(f"{n} more of {' or '.join(groups)}" for groups, n in _needs(ticket))
        text = f"Ticket {ticket.id} is {ticket.state}" + (f", needs {left}." if left else ".")
        if ticket.state == "granted":
            text += f" {ticket.requester.name} can run it once by sending the same command again."
        return ticket_fields(ticket), text, ExitCode.OK

    async def _cancel(self, who: Admission, arguments: Sequence[str]) -> Answer:
        if len(arguments) != 1:
            _bad("cancel takes one ticket")
        ticket = await self._ledger.store.cancel(
            arguments[0], who.identity, self._ledger.now(), self._leaves.cancelled
        )
        return ticket_fields(ticket), f"Ticket {ticket.id} is {ticket.state}.", ExitCode.OK

    async def _ticket(self, identity: Identity, arguments: Sequence[str]) -> Ticket:
        if len(arguments) != 1:
            _bad("This verb takes one ticket, such as T-7")
        ticket = await self._ledger.store.ticket(arguments[0])
        if not _concerns(ticket, identity):
            raise Denied(
                "There is no such ticket", "See `ssh gateway@… tickets`", rule="ticket.unknown"
            )
        return ticket


def ticket_fields(ticket: Ticket) -> dict[str, Any]:
    """A ticket for programs; the command is the masked form.

    Texts are escaped as people see them: the masker drops controls, so a hidden
    character must be spelt out before, or what is read is not what runs.
    """
    return {
        "ticket": ticket.id,
        "state": ticket.state,
        "identity": show(ticket.requester.name),
        "target": ticket.target,
        "command": show(ticket.shown, newlines=True),
        "rule": ticket.rule,
        "reason": show(ticket.reason),
        "why": show(ticket.why),
        "digest": ticket.digest,
        "needs": [{"groups": list(groups), "count": count} for groups, count in _needs(ticket)],
        "requested_at": ticket.requested.isoformat(),
        "answer_by": ticket.answer_by.isoformat(),
        "expires_at": _time(ticket.expires),
        "ended_at": _time(ticket.ended),
        "votes": [
            {
                "voter": show(vote.voter.name),
                "approve": vote.approve,
                "reason": show(vote.reason),
                "at": _time(vote.at),
            }
            for vote in ticket.votes
        ],
    }


def ticket_text(ticket: Ticket) -> str:
    """A ticket for people, its command shown whole."""
    needs = "; ".join(f"{n} of {' or '.join(groups)}" for groups, n in _needs(ticket)) or "nothing"
    rows = [
        f"Ticket {ticket.id}: {ticket.state}",
        f"Who     {show(ticket.requester.name)} ({ticket.requester.kind}) on {ticket.target}",
        f"Rule    {ticket.rule}: {show(ticket.reason)}",
        f"Why     {show(ticket.why) or '(no reason given)'}  (as claimed)",
        f"Needs   {needs}, until {ticket.answer_by:%Y-%m-%d %H:%M} UTC",
        "Command",
        *(f"  {line}" for line in show(ticket.shown, newlines=True).split("\n")),
    ]
    rows += [
        f"{'Yes' if vote.approve else 'No':<8}{show(vote.voter.name)}: {show(vote.reason)}"
        for vote in ticket.votes
    ]
    return "\n".join(rows)


def _needs(ticket: Ticket) -> tuple[tuple[tuple[str, ...], int], ...]:
    """What is still missing; of a ticket that ended, nothing is."""
    return missing(ticket) if ticket.state == "pending" else ()


def _concerns(ticket: Ticket, identity: Identity) -> bool:
    """Whether it is one's own, one's machine's, or one's to vote on."""
    return owns(ticket, identity) or bool(set(identity.groups) & set(ticket.groups))


def _split(command: str | None) -> list[str]:
    if command is None or not command.strip():
        _bad("The desk needs a verb")
    try:
        command.encode()
        return shlex.split(command)
    except UnicodeEncodeError:
        _bad("The command is not UTF-8")
    except ValueError:
        _bad("The quotes of this command do not close")


def _vote_arguments(arguments: Sequence[str]) -> tuple[str, str]:
    # ssh joins its arguments with spaces, so the reason's quotes may be gone.
    ticket, option, *words = [*arguments, "", ""][: max(2, len(arguments))]
    if option.startswith("--reason="):
        words = [option.removeprefix("--reason="), *words]
    elif option != "--reason":
        words = []
    reason = " ".join(words).strip()
    if not reason:
        _bad('A vote needs a ticket and a reason: approve T-7 --reason "…"')
    return ticket, reason


def _none(arguments: Sequence[str]) -> None:
    if arguments:
        _bad("This verb takes no arguments")


def _bad(reason: str) -> NoReturn:
    raise BadCommand(reason, "`ssh gateway@… help` lists the verbs", rule="desk.usage")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return show(", ".join(value)) or "-"
    return show(str(value))


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None

"""The desk: each verb by a real ticket in a real store, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import GatewayConfig
from gateway.core.approval import Ticket
from gateway.core.identity import Identity
from gateway.core.mask import Masked
from gateway.edge.channel import Channel
from gateway.edge.desk import USAGE, Desk
from gateway.edge.door import Admission
from gateway.edge.ledger import Ledger
from gateway.edge.ticketing import TicketLeaves
from gateway.errors import BadCommand, Denied
from gateway.store.reading import leaves
from tests.deployment import deploy
from tests.edge.house import PLANTED, admission, open_ledger
from tests.tickets import APPROVER, APPROVER2, ETL, OWNER, STRANGER, request, who

TIMEOUT_S = 20.0
TARGETS = replace(ETL, targets=("claims-db", "elsewhere"))


class Heard(Channel):
    """A session channel whose far end is kept instead of a socket."""

    def __init__(self, admitted: Admission, command: str | None) -> None:
        super().__init__(admitted, _nobody, lambda: None)
        self.command = command
        self.output = b""
        self.code: int | None = None

    async def send(self, data: Masked, *, stderr: bool = False) -> None:
        assert not stderr
        self.output += data.data

    def exit(self, code: int) -> None:
        assert self.code is None
        self.code = int(code)


async def _nobody(channel: Channel) -> None:
    raise AssertionError("the desk serves, not the channel")


@dataclass
class Counter:
    """The desk over a ledger of its own."""

    desk: Desk
    ledger: Ledger
    folder: Path

    async def ask(
        self, identity: Identity, command: str | None, *, as_json: bool = False, why: str = ""
    ) -> tuple[int, str]:
        """Exit code and output of one request."""
        channel = Heard(admission(identity, "gateway"), command)
        await asyncio.wait_for(self.desk.serve(channel, as_json, why), TIMEOUT_S)
        assert channel.code is not None
        return channel.code, channel.output.decode()

    async def fields(self, identity: Identity, command: str) -> dict[str, Any]:
        code, output = await self.ask(identity, command + " --json")
        assert code in (0, 77)
        found: dict[str, Any] = json.loads(output)
        return found

    async def open(self, text: bytes = b"delete from claims where id = 1") -> Ticket:
        asked = replace(request(text), shown=text.decode())
        leaves_of = TicketLeaves(self.ledger).requested
        return await self.ledger.store.request_ticket(asked, self.ledger.now(), leaves_of)

    def types(self) -> list[str]:
        return [leaf["type"] for leaf in leaves(self.folder, "s-1")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GatewayConfig:
    return deploy(tmp_path_factory.mktemp("desk"), "http://127.0.0.1:9")


@pytest.fixture
async def counter(tmp_path: Path, config: GatewayConfig) -> AsyncIterator[Counter]:
    async with open_ledger(tmp_path / "state") as ledger:
        yield Counter(Desk(config, ledger), ledger, tmp_path / "state")


async def test_whoami(counter: Counter) -> None:
    code, text = await counter.ask(TARGETS, "whoami")
    assert code == 0
    assert "identity     etl" in text
    assert "claims-db, elsewhere" in text
    found = await counter.fields(TARGETS, "whoami")
    assert found["accountable"] == [OWNER.id]
    assert found["certificate"] == f"{7:016x}"


async def test_targets_are_those_of_the_certificate(counter: Counter) -> None:
    found = await counter.fields(TARGETS, "targets")
    assert found == {
        "targets": [{"target": "claims-db", "type": "psql", "database": "claims", "writes": False}]
    }
    assert "read only" in (await counter.ask(TARGETS, "targets"))[1]
    assert "opens no target" in (await counter.ask(replace(ETL, targets=()), "targets"))[1]


async def test_help_lists_every_verb(counter: Counter) -> None:
    for word in ("help", "--help", "-h"):
        assert await counter.ask(ETL, word) == (0, USAGE)
    assert all(f" {verb}" in USAGE for verb in counter.desk._verbs)


@pytest.mark.parametrize(
    "command",
    [
        None, "", "  ", "frobnicate", "whoami now", "targets --all", "tickets T-1", "show",
        "show T-1 T-2", "wait", "cancel", "cancel T-1 T-2", "approve", "approve T-1",
        "approve T-1 --reason", 'approve T-1 --reason ""', "approve T-1 because", "deny T-1",
        "deny T-1 --reason= ", "approve 'T-1",
    ],
)  # fmt: skip
async def test_what_is_no_verb_is_refused_with_64(counter: Counter, command: str | None) -> None:
    await counter.open()
    with pytest.raises(BadCommand) as caught:
        await counter.ask(APPROVER, command)
    assert caught.value.rule == "desk.usage"
    assert "help" in caught.value.advice
    assert (await counter.ledger.store.ticket("T-1")).state == "pending"


async def test_an_approval(counter: Counter) -> None:
    await counter.open()
    code, text = await counter.ask(APPROVER, 'approve T-1 --reason "checked with billing"')
    assert code == 0
    assert text == (
        "Ticket T-1 is granted. etl can run it once by sending the same command again.\n"
    )
    assert counter.types() == ["approval.requested", "approval.voted", "approval.granted"]
    found = await counter.fields(APPROVER, "show T-1")
    assert (found["state"], found["needs"]) == ("granted", [])
    assert found["votes"][0]["reason"] == "checked with billing"


async def test_a_reason_without_its_quotes_is_still_one_reason(counter: Counter) -> None:
    # ssh joins its arguments with spaces: the quotes are gone when they arrive here.
    await counter.open()
    await counter.ask(APPROVER, "approve T-1 --reason checked with billing")
    assert (await counter.ledger.store.ticket("T-1")).votes[0].reason == "checked with billing"


async def test_a_reason_from_the_environment_and_one_word_form(counter: Counter) -> None:
    await counter.open()
    await counter.ask(APPROVER, "deny T-1", why="not today")
    assert (await counter.ledger.store.ticket("T-1")).votes[0].reason == "not today"
    await counter.open(b"delete from claims where id = 2")
    await counter.ask(APPROVER, "deny T-2 --reason=never mind", why="unused")
    assert (await counter.ledger.store.ticket("T-2")).votes[0].reason == "never mind"


async def test_a_refusal_and_that_it_is_final(counter: Counter) -> None:
    await counter.open()
    assert await counter.ask(APPROVER, "deny T-1 --reason no") == (0, "Ticket T-1 is refused.\n")
    assert counter.types()[-1] == "approval.refused"
    assert (await counter.fields(APPROVER, "show T-1"))["needs"] == []
    with pytest.raises(Denied):
        await counter.ask(APPROVER2, "approve T-1 --reason yes")


@pytest.mark.parametrize(
    ("voter", "said"),
    [
        (OWNER, "own request"),
        (ETL, "Only persons vote"),
        (who("bot", "agent", groups=("phi-approvers",), accountable=("x|y",)), "Only persons vote"),
        (STRANGER, "none of these groups"),
    ],
    ids=["owner", "requester", "agent", "stranger"],
)
async def test_who_may_not_vote(counter: Counter, voter: Identity, said: str) -> None:
    await counter.open()
    for verb in ("approve", "deny"):
        with pytest.raises(Denied) as caught:
            await counter.ask(voter, f"{verb} T-1 --reason mine")
        assert caught.value.rule == "ticket.vote"
        assert said in caught.value.reason
    assert counter.types() == ["approval.requested"]
    assert (await counter.ledger.store.ticket("T-1")).votes == ()


async def test_phi_in_a_reason_is_masked_everywhere(counter: Counter) -> None:
    await counter.open()
    await counter.ask(APPROVER, f"approve T-1 --reason 'it is {PLANTED}'")
    shown = (await counter.ask(APPROVER, "show T-1"))[1]
    assert "it is [SSN]" in shown
    kept = b"".join(path.read_bytes() for path in counter.folder.rglob("*") if path.is_file())
    assert PLANTED.encode() not in kept


async def test_cancelling_is_for_those_who_asked(counter: Counter) -> None:
    await counter.open()
    for other in (APPROVER, STRANGER):
        with pytest.raises(Denied) as caught:
            await counter.ask(other, "cancel T-1")
        assert caught.value.rule == "ticket.owner"
    assert await counter.ask(OWNER, "cancel T-1") == (0, "Ticket T-1 is cancelled.\n")
    await counter.open()
    assert (await counter.ask(ETL, "cancel T-2"))[0] == 0
    with pytest.raises(Denied):
        await counter.ask(ETL, "cancel T-2")


async def test_a_ticket_of_others_does_not_exist(counter: Counter) -> None:
    await counter.open()
    for verb in ("show", "wait"):
        with pytest.raises(Denied) as caught:
            await counter.ask(STRANGER, f"{verb} T-1")
        assert caught.value.rule == "ticket.unknown"
        with pytest.raises(Denied) as unknown:
            await counter.ask(ETL, f"{verb} T-99")
        assert unknown.value.rule == "ticket.unknown"


async def test_the_list_of_tickets(counter: Counter) -> None:
    assert "No open tickets" in (await counter.ask(ETL, "tickets"))[1]
    await counter.open()
    await counter.open(b"delete from claims where id = 2")
    await counter.ask(APPROVER, "deny T-2 --reason no")
    for identity in (ETL, OWNER, APPROVER):
        found = await counter.fields(identity, "tickets")
        assert [ticket["ticket"] for ticket in found["tickets"]] == ["T-1"]
        everything = await counter.fields(identity, "tickets --all")
        assert {ticket["ticket"] for ticket in everything["tickets"]} == {"T-1", "T-2"}
    assert (await counter.fields(STRANGER, "tickets --all"))["tickets"] == []
    assert "delete from claims where id = 1" in (await counter.ask(ETL, "tickets"))[1]


@pytest.mark.parametrize(
    ("verb", "code", "state"), [("approve", 0, "granted"), ("deny", 77, "refused")]
)
async def test_waiting_ends_with_the_decision(
    counter: Counter, verb: str, code: int, state: str
) -> None:
    await counter.open()
    waiting = asyncio.create_task(counter.ask(ETL, "wait T-1"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await counter.ask(APPROVER, f"{verb} T-1 --reason decided")
    assert await waiting == (code, f"Ticket T-1 is {state}.\n")
    assert (await counter.ask(ETL, "wait T-1"))[0] == code


async def test_json_by_the_environment(counter: Counter) -> None:
    code, output = await counter.ask(ETL, "whoami", as_json=True)
    assert (code, json.loads(output)["identity"]) == (0, "etl")


async def test_a_hostile_command_is_shown_inert(counter: Counter) -> None:
    await counter.open(b"delete from claims -- \x1b]0;x\x07 \xe2\x80\xae evil\nwhere id = 1")
    shown = (await counter.ask(APPROVER, "show T-1"))[1]
    assert "\\u{1b}]0;x\\u{7} \\u{202e} evil" in shown
    assert "\n  where id = 1" in shown
    assert all(char.isprintable() or char == "\n" for char in shown)
    listed = (await counter.ask(APPROVER, "tickets"))[1]
    assert listed.count("\n") == 1

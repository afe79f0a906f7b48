"""Tickets in the store: asked for, voted on, spent once, expired, destroyed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core import approval
from gateway.core.approval import Grant
from gateway.core.verdict import Verdict
from gateway.errors import Denied, RecorderFault
from gateway.store import Store
from gateway.store.tickets import MAX_OPEN
from tests.store.scene import ask, granted, leaf, leaves, open_store, saved, sql
from tests.tickets import (
    APPROVAL,
    APPROVER,
    APPROVER2,
    ETL,
    FIELDS,
    NOW,
    OWNER,
    STRANGER,
    after,
    request,
    vote,
    who,
)

REQUESTED = leaves("approval.requested")
VOTED = leaves("approval.voted")
EXPIRED = leaves("approval.expired")


async def test_the_same_line_gets_the_same_ticket(store: Store) -> None:
    ticket = await ask(store)
    assert ticket.id == "T-1"
    assert await ask(store) == ticket
    assert await store.tree_size() == 1
    other = await ask(store, b"delete from patients where ssn = '078-05-1121'")
    assert other.id == "T-2"
    assert other.salt != ticket.salt
    assert await store.open_tickets(ETL.id, "claims-db") == [other, ticket]
    assert await store.open_tickets(ETL.id, "other-db") == []
    assert await store.open_tickets(OWNER.id, "claims-db") == []


async def test_tickets_come_back_as_they_went_in(store: Store, folder: Path) -> None:
    ticket, _ = await granted(store)
    assert ticket.state == "granted"
    assert ticket.expires == after(1800)
    assert ticket.votes == (vote(APPROVER),)
    assert ticket.requester == ETL
    await store.close()
    again = await open_store(folder)
    assert await again.ticket("T-1") == ticket
    assert await again.tickets() == [ticket]
    assert await again.tickets({"pending"}) == []
    assert await again.tickets(requester_id=OWNER.id) == []
    await again.close()


@pytest.mark.parametrize(
    "name", ["T-2", "T-01", "T-0", "T-", "T--1", "1", "T-1 ", "T-١", "T-" + "9" * 30]
)
async def test_no_other_name_finds_a_ticket(store: Store, name: str) -> None:
    await ask(store)
    with pytest.raises(Denied, match="no such ticket"):
        await store.ticket(name)


async def test_a_grant_is_spent_once_with_its_intent(store: Store) -> None:
    ticket, grant = await granted(store)
    assert await store.commit_intent(leaf(), grant, after(1), [leaf("approval.spent")]) == 2
    assert (await store.ticket(ticket.id)).state == "spent"
    assert await store.tree_size() == 4
    with pytest.raises(Denied, match="has been used"):
        await store.commit_intent(leaf(), grant, after(2))
    assert await store.tree_size() == 4
    assert (await ask(store)).id == "T-2"


async def test_of_many_that_spend_at_once_one_wins(store: Store) -> None:
    _, grant = await granted(store)
    tries = (store.commit_intent(leaf(n=n), grant, NOW) for n in range(10))
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Denied) for result in results) == 9
    assert await store.tree_size() == 3


async def test_a_line_that_was_allowed_needs_no_ticket(store: Store) -> None:
    grant = approval.allow(Verdict("allow", "etl-reads", "may"), FIELDS)
    assert await store.commit_intent(leaf(), grant, NOW) == 0
    assert await store.commit_intent(leaf(), grant, NOW) == 1


async def test_a_grant_that_ended_meanwhile_spends_nothing(store: Store) -> None:
    _, grant = await granted(store)
    with pytest.raises(Denied, match="has expired"):
        await store.commit_intent(leaf(), grant, after(1800))
    assert [ticket.id for ticket in await store.expire(after(1800), EXPIRED)] == ["T-1"]
    # Not even with a clock that was set back.
    with pytest.raises(Denied, match="has expired"):
        await store.commit_intent(leaf(), grant, NOW)


async def test_an_intent_that_cannot_be_written_spends_nothing(store: Store) -> None:
    ticket, grant = await granted(store)
    with pytest.raises(RecorderFault):
        await store.commit_intent(replace(leaf(), salt=b""), grant, NOW)
    assert (await store.ticket(ticket.id)).state == "granted"
    await store.commit_intent(leaf(), grant, NOW)


async def test_votes_are_judged_inside_the_transaction(store: Store) -> None:
    twice = request(FIELDS.text, replace(APPROVAL, quorum=2))
    ticket = await store.request_ticket(twice, NOW, REQUESTED)
    for voter in (OWNER, STRANGER, who("bot", "machine", groups=("phi-approvers",))):
        with pytest.raises(Denied) as refusal:
            await store.vote(ticket.id, vote(voter), VOTED)
        assert refusal.value.rule == "ticket.vote"
    alias = who("badge-7", groups=("phi-approvers",), accountable=(APPROVER.id,))
    both = (vote(APPROVER), vote(alias), vote(APPROVER))
    results = await asyncio.gather(
        *(store.vote(ticket.id, one, VOTED) for one in both), return_exceptions=True
    )
    assert sum(isinstance(result, Denied) for result in results) == 2
    assert (await store.ticket(ticket.id)).state == "pending"
    assert (await store.vote(ticket.id, vote(APPROVER2), VOTED)).state == "granted"
    with pytest.raises(Denied, match="only a pending one"):
        await store.vote(ticket.id, vote(who("third", groups=("phi-approvers",))), VOTED)
    assert await store.tree_size() == 3


async def test_a_refusal_ends_it(store: Store) -> None:
    ticket = await ask(store)
    refused = await store.vote(ticket.id, vote(APPROVER, approve=False), VOTED)
    assert refused.state == "refused"
    assert refused.votes[0].reason == "looked at it"
    assert (await ask(store)).id == "T-2"


async def test_a_vote_that_comes_too_late(store: Store) -> None:
    ticket = await ask(store)
    with pytest.raises(Denied, match="expired"):
        await store.vote(ticket.id, vote(APPROVER, at=after(24 * 3600)), VOTED)


async def test_expiry(store: Store) -> None:
    await granted(store)
    young = await store.request_ticket(request(b"select 1"), after(10), REQUESTED, answer_s=60)
    assert await store.expire(after(69), EXPIRED) == []
    assert [ticket.id for ticket in await store.expire(after(70), EXPIRED)] == [young.id]
    assert [ticket.id for ticket in await store.expire(after(1800), EXPIRED)] == ["T-1"]
    assert await store.expire(after(9000), EXPIRED) == []
    assert {ticket.state for ticket in await store.tickets()} == {"expired"}


async def test_cancelling(store: Store) -> None:
    ticket = await ask(store)
    with pytest.raises(Denied, match="not yours"):
        await store.cancel(ticket.id, APPROVER, NOW, leaves("approval.refused"))
    cancelled = await store.cancel(ticket.id, OWNER, NOW, leaves("approval.refused"))
    assert cancelled.state == "cancelled"
    assert await store.tree_size() == 2


async def test_one_identity_cannot_flood_the_desk(store: Store) -> None:
    for number in range(MAX_OPEN):
        await ask(store, f"delete {number}".encode())
    with pytest.raises(Denied, match=f"{MAX_OPEN} open tickets"):
        await ask(store, b"one more")
    assert (await ask(store, b"delete 0")).id == "T-1"
    await store.cancel("T-1", ETL, NOW, leaves("approval.refused"))
    assert (await ask(store, b"one more")).id == f"T-{MAX_OPEN + 1}"


async def test_lines_that_are_much_alike_are_told_apart(store: Store) -> None:
    ticket, _ = await granted(store, b"delete 17")
    for number in range(9):
        await ask(store, f"delete {number}".encode())
    held = await store.open_tickets(ETL.id, "claims-db")
    found = approval.find(held, request(b"delete 17").fields, NOW)
    assert found == ticket
    assert approval.find(held, request(b"delete 17 ").fields, NOW) is None


def _everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def _end(store: Store, how: str, grant: Grant) -> None:
    match how:
        case "spent":
            await store.commit_intent(leaf(), grant, NOW)
        case "expired":
            await store.expire(after(1800), EXPIRED)


@pytest.mark.parametrize("how", ["spent", "expired", "refused", "cancelled"])
async def test_the_exact_text_is_sealed_and_destroyed_at_the_end(
    store: Store, folder: Path, how: str
) -> None:
    text = b"select 'canary-7719', name from patients"
    if how in ("spent", "expired"):
        ticket, grant = await granted(store, text)
        assert await store.reveal(ticket.id, leaf("approval.revealed")) == text
        sealed = saved(folder, "ticket")[0][-2]
        await _end(store, how, grant)
    else:
        ticket = await ask(store, text)
        sealed = saved(folder, "ticket")[0][-2]
        if how == "refused":
            await store.vote(ticket.id, vote(APPROVER, approve=False), VOTED)
        else:
            await store.cancel(ticket.id, ETL, NOW, leaves("approval.refused"))
    assert text not in sealed
    assert len(sealed) == 12 + len(text) + 16
    with pytest.raises(Denied, match="text is destroyed"):
        await store.reveal(ticket.id, leaf("approval.revealed"))
    assert (await store.ticket(ticket.id)).state == how
    assert (await store.ticket(ticket.id)).shown
    await store.expire(NOW, EXPIRED)
    on_disk = _everything(folder)
    assert b"canary-7719" not in on_disk
    assert sealed not in on_disk


async def test_a_sealed_text_is_of_its_ticket_and_key(store: Store, folder: Path) -> None:
    seal = store._seal
    sealed = seal.seal(b"text", "T-1")
    assert seal.open(sealed, "T-1") == b"text"
    assert seal.seal(b"text", "T-1") != sealed
    for changed, ticket in ((sealed, "T-2"), (sealed[:-1], "T-1"), (b"", "T-1")):
        with pytest.raises(RecorderFault, match="cannot be opened"):
            seal.open(changed, ticket)
    await ask(store)
    await store.close()
    other = await Store.open(folder, mac_key=b"m" * 32, seal_key=b"x" * 32)
    with pytest.raises(RecorderFault, match="seal key"):
        await other.reveal("T-1")
    await other.close()


async def test_waiting_ends_with_the_vote(store: Store) -> None:
    ticket = await ask(store)
    waiting = asyncio.ensure_future(store.wait_ticket(ticket.id, 30))
    other = asyncio.ensure_future(store.wait_ticket(ticket.id, 30))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await ask(store, b"another line wakes nobody for good")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await store.vote(ticket.id, vote(APPROVER), VOTED)
    async with asyncio.timeout(5):
        assert (await waiting).state == "granted"
        assert (await other).state == "granted"
        assert (await store.wait_ticket(ticket.id, 30)).state == "granted"


async def test_waiting_ends_with_its_time(store: Store) -> None:
    ticket = await ask(store)
    assert (await store.wait_ticket(ticket.id, 0.05)).state == "pending"
    assert (await store.wait_ticket(ticket.id, 0)).state == "pending"
    with pytest.raises(Denied):
        await store.wait_ticket("T-9", 1)


async def test_numbers_are_never_used_again(store: Store, folder: Path) -> None:
    await ask(store)
    sql(folder, "DELETE FROM ticket")
    assert (await ask(store)).id == "T-2"

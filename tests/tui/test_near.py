"""The port over a real socket pair, answered as the gateway will."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.tui.memory import MemoryTickets, fields, ticket
from tui import framing
from tui.framing import Lines
from tui.near import NearTickets
from tui.tickets import Refused, Unreachable


async def answer(end: socket.socket, tickets: MemoryTickets) -> None:
    """The gateway's end, until the queue closes its own."""
    loop = asyncio.get_running_loop()
    lines = Lines(framing.REQUEST_LIMIT_BYTES)
    while data := await loop.sock_recv(end, 4096):
        for line in lines.feed(data):
            reply = await reply_to(line, tickets)
            await loop.sock_sendall(end, reply)


async def reply_to(line: bytes, tickets: MemoryTickets) -> bytes:
    """One answer, as a line."""
    question = framing.read_question(line)
    if question.verb == "tickets":
        views = await tickets.listed(ended=question.arguments == ("--all",))
        return framing.write_fields({"tickets": [fields(view) for view in views]})
    name, reason = question.arguments
    send = tickets.approve if question.verb == "approve" else tickets.deny
    try:
        return framing.write_fields(fields(await send(name, reason.removeprefix("--reason="))))
    except Refused as error:
        return framing.write_error(error)


@asynccontextmanager
async def pair(timeout_s: float = 5.0) -> AsyncIterator[tuple[NearTickets, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    near = NearTickets(theirs.detach(), timeout_s=timeout_s)
    try:
        yield near, ours
    finally:
        near.close()
        ours.close()


async def test_list_and_vote() -> None:
    tickets = MemoryTickets(ticket(1), ticket(2), ticket(3, state="spent"))
    async with pair() as (near, ours):
        gateway = asyncio.create_task(answer(ours, tickets))
        assert [view.id for view in await near.listed(ended=False)] == ["T-1", "T-2"]
        assert len(await near.listed(ended=True)) == 3
        assert (await near.approve("T-1", "it's --json")).state == "granted"
        assert (await near.deny("T-2", "no\n\u202e")).state == "refused"
        with pytest.raises(Refused, match="decided already"):
            await near.approve("T-1", "again")
        assert len(await near.listed(ended=True)) == 3
        near.close()
        await gateway
    assert tickets.votes == [("T-1", True, "it's --json"), ("T-2", False, "no\n\u202e")]


async def test_questions_at_the_same_time_are_answered_in_turn() -> None:
    tickets = MemoryTickets(*(ticket(n, "x" * 9000) for n in range(1, 30)))
    async with pair() as (near, ours):
        gateway = asyncio.create_task(answer(ours, tickets))
        told = await asyncio.gather(*(near.approve(f"T-{n}", f"r{n}") for n in range(1, 30)))
        assert [view.id for view in told] == [f"T-{n}" for n in range(1, 30)]
        near.close()
        await gateway


async def test_a_closed_gateway_is_unreachable_and_stays_so() -> None:
    async with pair() as (near, ours):
        ours.close()
        for _ in range(2):
            with pytest.raises(Unreachable, match="closed"):
                await near.listed(ended=False)


@pytest.mark.parametrize(
    "said", [b"hello\n", b'{"fields": 7}\n', b'{"fields":{}}\n{"fields":{}}\n', b"[]\n"]
)
async def test_anything_but_one_answer_ends_the_socket(said: bytes) -> None:
    async with pair() as (near, ours):
        ours.send(said)
        with pytest.raises(Unreachable):
            await near.listed(ended=False)
        ours.send(framing.write_fields({"tickets": []}))
        with pytest.raises(Unreachable):
            await near.listed(ended=False)


async def test_a_late_answer_is_never_taken_for_the_next() -> None:
    async with pair(timeout_s=0.05) as (near, ours):
        with pytest.raises(Unreachable, match="does not answer"):
            await near.approve("T-1", "go")
        ours.send(framing.write_fields(fields(ticket(1, state="granted"))))
        with pytest.raises(Unreachable):
            await near.approve("T-2", "go")


async def test_a_cancelled_question_ends_the_socket() -> None:
    async with pair() as (near, _ours):
        asked = asyncio.create_task(near.listed(ended=False))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        with pytest.raises(Unreachable):
            await near.listed(ended=False)

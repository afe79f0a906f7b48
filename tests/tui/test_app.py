"""The queue under Pilot: list, choice, votes, history, filter, a lost connection."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.widgets import Input

from tests.tui.driving import SIZES, driving
from tests.tui.memory import NOW, MemoryTickets, ticket
from tui.ballot import Ballot
from tui.notices import Notice
from tui.tickets import Need, TicketView


def three() -> MemoryTickets:
    return MemoryTickets(*(ticket(n) for n in (1, 2, 3)), ticket(4, state="spent", ended_at=NOW))


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_and_the_detail(size: tuple[int, int]) -> None:
    async with driving(three(), size) as seen:
        text = seen.text
        for part in ("gate.example.org", "3 pending · live", "etl-deletes", "monthly close"):
            assert part in text
        assert "> T-1" in text
        assert "T-3" in text
        assert "T-4" not in text
        assert "needs 1 of phi-approvers; 23h 55m left" in text
        assert ticket(1).digest in text
        assert " 1 │ delete from claims where id = 1" in text
        for key in ("Approve", "Deny", "History", "Filter", "Help", "Quit"):
            assert key in text


async def test_keys_and_clicks_choose() -> None:
    async with driving(three()) as seen:
        for key, chosen in (
            *(("j", "T-2"), ("down", "T-3"), ("down", "T-3"), ("k", "T-2"), ("up", "T-1")),
            *(("G", "T-3"), ("g", "T-1"), ("pagedown", "T-3"), ("home", "T-1"), ("end", "T-3")),
        ):
            await seen.press(key)
            assert seen.chosen == chosen, key
        await seen.pilot.click("Held", offset=(10, 2))
        await seen.pilot.pause()
        assert seen.chosen == "T-2"
        await seen.pilot.click("Held", offset=(10, 0))
        await seen.pilot.click("Held", offset=(10, 6))
        assert seen.chosen == "T-2"


@pytest.mark.parametrize("light", [False, True])
async def test_no_refresh_moves_the_choice(light: bool) -> None:
    async with driving(three(), light=light) as seen:
        await seen.press("j")
        seen.tickets.views = {"T-0": ticket(0), **seen.tickets.views, "T-9": ticket(9)}
        await seen.poll()
        assert seen.chosen == "T-2"
        assert "> T-2" in seen.text
        seen.tickets.end("T-2", "refused")
        await seen.poll()
        assert seen.chosen == "T-2"
        assert "> T-2    refused" in seen.text
        await seen.press("a")
        assert not isinstance(seen.queue.screen, Ballot)
        assert "T-2 is refused; there is nothing to decide." in seen.text
        del seen.tickets.views["T-2"]
        await seen.poll()
        assert "gone, the gateway no longer lists it" in seen.text
        await seen.press("d")
        assert "T-2 is gone; there is nothing to decide." in seen.text
        await seen.press("j")
        assert seen.chosen == "T-3"
        assert "T-2 " not in seen.text.replace("T-2 is gone", "")


@pytest.mark.parametrize(
    ("key", "approve", "state"), [("a", True, "granted"), ("d", False, "refused")]
)
@pytest.mark.parametrize("size", SIZES)
async def test_a_vote(size: tuple[int, int], key: str, approve: bool, state: str) -> None:
    async with driving(three(), size) as seen:
        await seen.press("j", key)
        assert isinstance(seen.queue.screen, Ballot)
        text = seen.text
        for part in ("T-2?", "where id = 2", "monthly close (as claimed)", ticket(2).digest):
            assert part in text
        await seen.type("checked with billing")
        await seen.press("enter")
        assert f"Enter once more to {'approve' if approve else 'deny'} T-2" in seen.text
        assert seen.tickets.votes == []
        await seen.press("enter")
        assert seen.tickets.votes == [("T-2", approve, "checked with billing")]
        await seen.poll()
        assert f"T-2 is {state}." in seen.text
        assert "approver, 0s ago: checked with billing" in seen.text
        assert seen.chosen == "T-2"


async def test_a_vote_needs_a_reason_and_enter_twice() -> None:
    async with driving(three()) as seen:
        await seen.press("a", "enter", "enter", "enter")
        assert "A vote needs a reason" in seen.text
        await seen.press("space", "space", "enter", "enter")
        assert "A vote needs a reason" in seen.text
        await seen.press("x", "enter", "y")
        assert "Enter once more" not in seen.text
        await seen.press("enter")
        assert seen.tickets.votes == []
        await seen.press("escape")
        assert not isinstance(seen.queue.screen, Ballot)
        assert seen.tickets.votes == []


async def test_an_approval_needs_the_whole_text_seen_and_a_denial_does_not() -> None:
    long = ticket(1, "\n".join(f"-- {n}" for n in range(300)) + "\ndelete from claims where true")
    async with driving(MemoryTickets(long)) as seen:
        await seen.press("a", "x", "enter", "enter")
        assert "The text goes on below" in seen.text
        assert "where true" not in seen.text
        await seen.press(*["pagedown"] * 30)
        assert "where true" in seen.text
        await seen.press("enter", "enter")
        assert seen.tickets.votes == [("T-1", True, "x")]
    async with driving(MemoryTickets(long)) as seen:
        await seen.press("d", "x", "enter", "enter")
        assert seen.tickets.votes == [("T-1", False, "x")]


async def test_what_changes_under_an_open_question_stops_it() -> None:
    changes = {
        "T-1 is refused now": replace(ticket(1), state="refused"),
        "ANOTHER TEXT": replace(ticket(1), digest="0" * 64),
        "ANOTHER TEXT  ": replace(ticket(1), command="drop table claims"),
        "no longer lists": None,
    }
    for told, view in changes.items():
        async with driving(three()) as seen:
            await seen.press("a", "x", "enter")
            if view is None:
                del seen.tickets.views["T-1"]
            else:
                seen.tickets.views["T-1"] = view
            await seen.poll()
            assert told.strip() in seen.text
            await seen.press("enter", "enter")
            assert seen.tickets.votes == []


@pytest.mark.parametrize(
    "other", [replace(ticket(1), digest="0" * 64), ticket(2), replace(ticket(1), command="drop x")]
)
async def test_a_vote_that_was_counted_for_something_else_is_told_loudly(
    other: TicketView,
) -> None:
    tickets = three()
    tickets.swapped = {"T-1": other}
    async with driving(tickets) as seen:
        await seen.press("a", "x", "enter", "enter")
        assert isinstance(seen.queue.screen, Notice)
        assert "YOUR VOTE WAS COUNTED FOR SOMETHING ELSE" in seen.text
        assert ticket(1).digest in seen.text
        await seen.press("q", "a", "question_mark")
        assert isinstance(seen.queue.screen, Notice)
        await seen.press("enter")
        assert "COUNTED FOR ANOTHER TEXT" in seen.text


async def test_a_refused_and_a_lost_vote() -> None:
    async with driving(three()) as seen:
        await seen.press("a", "x", "enter")
        seen.tickets.end("T-1", "expired")
        await seen.press("enter")
        assert "T-1: not counted. Ticket T-1 was decided already" in seen.text
        await seen.press("j", "a", "x", "enter")
        seen.tickets.lost = True
        await seen.press("enter")
        assert "the vote may have counted or not" in seen.text


async def test_a_quorum_says_what_is_missing() -> None:
    tickets = MemoryTickets(ticket(1, needs=(Need(("dba", "owners"), 2),)))
    async with driving(tickets) as seen:
        assert "needs 2 of dba or owners" in seen.text
        await seen.press("a", "x", "enter", "enter")
        assert "your vote counts. It still needs 1 of dba or owners." in seen.text


async def test_a_lost_connection_is_seen_and_stops_votes() -> None:
    async with driving(three()) as seen:
        seen.tickets.lost = True
        seen.clock.pass_(14)
        # No answer and no error yet: no longer called live.
        seen.queue.paint()
        await seen.pilot.pause()
        assert "3 pending · 14s old" in seen.text
        await seen.poll()
        text = seen.text
        assert "CONNECTION LOST. What you see is 14s old." in text
        assert "the network is down" in text
        assert "> T-1" in text
        await seen.press("a")
        assert not isinstance(seen.queue.screen, Ballot)
        assert "No vote while the gateway cannot be reached" in seen.text
        seen.tickets.lost = False
        await seen.press("r")
        await seen.poll()
        assert "LOST" not in seen.text


async def test_never_connected() -> None:
    tickets = three()
    tickets.lost = True
    async with driving(tickets) as seen:
        assert "CONNECTION LOST. Nothing was seen yet." in seen.text
        await seen.press("a", "d", "enter", "j", "escape")
        assert seen.chosen is None
        await seen.press("a")
        assert "There is no ticket to vote on." in seen.text


async def test_history() -> None:
    async with driving(three()) as seen:
        await seen.press("h")
        await seen.poll()
        assert "all tickets" in seen.text
        assert "T-4    spent" in seen.text
        await seen.press("g")
        assert seen.chosen == "T-4"
        assert "spent, 0s ago" in seen.text
        await seen.press("h")
        assert "T-4" not in seen.text
        assert seen.chosen == "T-1"


async def test_the_filter() -> None:
    async with driving(three()) as seen:
        await seen.press("slash")
        await seen.type("id = 3")
        assert seen.chosen == "T-3"
        assert "T-1" not in seen.text
        # Letters go to the filter and are no keys of the queue.
        await seen.type("aq")
        assert not isinstance(seen.queue.screen, Ballot)
        assert "No ticket holds these words" in seen.text
        await seen.press("backspace", "backspace", "enter")
        assert "filter: id = 3" in seen.text
        await seen.press("a")
        assert isinstance(seen.queue.screen, Ballot)
        await seen.press("escape", "escape")
        assert "T-1" in seen.text
        assert not seen.queue.query_one("#words", Input).display


async def test_the_whole_ticket_help_and_theme() -> None:
    async with driving(three()) as seen:
        await seen.press("enter")
        assert "T-3" not in seen.text
        assert "where id = 1" in seen.text
        await seen.press("escape")
        assert "T-3" in seen.text
        await seen.press("question_mark")
        assert "Both votes need a reason" in seen.text
        await seen.press("escape", "t")
        assert seen.queue.theme == "textual-light"


async def test_nothing_held() -> None:
    async with driving(MemoryTickets()) as seen:
        assert "Nothing is held." in seen.text
        await seen.press("a", "enter", "j")
        assert seen.chosen is None
        seen.tickets.views = {"T-1": ticket(1)}
        await seen.poll()
        assert seen.chosen == "T-1"


async def test_without_colour_the_choice_has_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with driving(three()) as seen:
        assert seen.queue.no_color
        assert seen.queue.native_ansi_color
        assert "> T-1" in seen.text


async def test_the_queue_opens_no_door_of_its_library() -> None:
    async with driving(three()) as seen:
        await seen.press("ctrl+p")
        assert len(seen.queue.screen_stack) == 1
        assert seen.queue.animation_level == "none"


async def test_it_lists_by_itself() -> None:
    tickets = MemoryTickets()
    async with driving(tickets) as seen:
        seen.queue._poll_s = 0.02
        await seen.press("r")
        tickets.views = {"T-1": ticket(1)}
        await seen.pilot.pause(0.2)
        assert seen.chosen == "T-1"

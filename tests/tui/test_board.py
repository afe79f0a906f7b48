"""Only the approver moves the choice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.tui.memory import ticket
from tui.board import Board
from tui.tickets import TicketView

STATES = st.sampled_from(["pending", "granted", "refused", "expired", "spent", "unheard-of"])
LISTINGS = st.lists(
    st.dictionaries(st.integers(1, 9), STATES, max_size=9).map(
        lambda found: [ticket(n, state=state) for n, state in found.items()]
    ),
    min_size=1,
    max_size=8,
)


@given(LISTINGS, st.integers(-3, 12), st.booleans())
def test_no_refresh_moves_the_choice(
    listings: list[list[TicketView]], steps: int, history: bool
) -> None:
    board = Board(history=history)
    board.refresh(listings[0])
    board.move(steps)
    chosen = board.chosen
    for listing in listings[1:]:
        board.refresh(listing)
        if chosen is None:
            chosen = board.chosen
        assert board.chosen == chosen
        if board.chosen is not None:
            assert board.shown in board.rows
            assert board.gone == (chosen not in [view.id for view in listing])
            assert sum(view.id == chosen for view in board.rows) == 1


@given(LISTINGS, st.lists(st.integers(-4, 4), max_size=6))
def test_every_listed_row_can_be_reached(
    listings: list[list[TicketView]], steps: list[int]
) -> None:
    board = Board()
    board.refresh(listings[0])
    for each in steps:
        before = [view.id for view in board.rows]
        at = before.index(board.chosen) if board.chosen else 0
        board.move(each)
        if before:
            assert board.chosen == before[min(max(at + each, 0), len(before) - 1)]


def test_an_ended_choice_stays_until_one_moves_away() -> None:
    board = Board()
    board.refresh([ticket(1), ticket(2), ticket(3)])
    board.choose("T-2")
    board.refresh([ticket(1), ticket(2, state="spent"), ticket(3)])
    assert [view.id for view in board.rows] == ["T-1", "T-2", "T-3"]
    assert board.shown == ticket(2, state="spent")
    board.move(1)
    assert board.chosen == "T-3"
    assert [view.id for view in board.rows] == ["T-1", "T-3"]


def test_a_choice_that_is_no_longer_listed_is_gone() -> None:
    board = Board()
    board.refresh([ticket(1)])
    board.refresh([ticket(5)])
    assert (board.chosen, board.gone) == ("T-1", True)
    assert board.shown == ticket(1)
    board.refresh([ticket(1), ticket(5)])
    assert not board.gone


def test_history_is_newest_first_and_filter_takes_all_words() -> None:
    board = Board()
    odd = replace(ticket(4), identity="Agent-Ω")
    board.refresh([ticket(1), ticket(2, state="refused"), ticket(3, "drop table x"), odd])
    assert [view.id for view in board.rows] == ["T-1", "T-3", "T-4"]
    board.turn()
    assert [view.id for view in board.rows] == ["T-4", "T-3", "T-2", "T-1"]
    board.filter("DROP  table")
    assert [view.id for view in board.rows] == ["T-3"]
    assert board.chosen == "T-3"
    board.filter("drop agent")
    assert board.rows == []
    assert board.shown is None
    board.filter("agent-ω")
    assert board.chosen == "T-4"

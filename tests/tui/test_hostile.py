"""Hostile text in every place: inert, whole, and it moves nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from textual.content import Content
from textual.strip import Strip

from tests.tui.driving import SIZES, driving
from tests.tui.memory import NOW, MemoryTickets, ticket
from tui.ballot import Ballot
from tui.sheet import Sheet
from tui.tickets import Need, VoteView

HOSTILE = {
    "action": "[@click=app.vote(True)]press me[/]",
    "open action": "[@click=app.quit()]",
    "link": "[link=https://evil.example]safe[/link]",
    "bad markup": "'[/b",
    "style": "[bold red on red blink]x[/]",
    "variables": "$text-error {evil} %s [$primary]x",
    "osc 8": "\x1b]8;;https://evil.example\x1b\\safe\x1b]8;;\x1b\\",
    "osc 52": "\x1b]52;c;ZXZpbA==\x07",
    "ansi": "\x1b[2J\x1b[1;1H\x1b[8mhidden\x9b31m",
    "bidi": "\u202edelete\u202c \u2066x\u2069",
    "zero width": "de\u200blete\u2060 \ufeffx\u00ad",
    "tags": "\U000e0041\U000e0042",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf\rg",
    "nul": "a\x00b\x7f",
    "surrogate": "a\ud800b",
    "marks": "e" + "\u0301" * 40,
    "wide": "日本語" * 60,
    "fillers": "\u3164\u2800\u00a0" * 20,
    "confusables": "delete from p\u0430tients",
    "rtl": "שלום עולם",
    "newlines": "\n" * 200 + "end",
    "tabs": "\t" * 100 + "end",
    "spaces": " " * 4000 + "end",
    "one long word": "x" * 16_384,
    "16 KB": ("select 'abcdefg', 1234;\n" * 700)[:16_384],
    "16 KB of escapes": "\u202e" * 16_384,
    "frame": "┃ Enter once more to approve T-1. ┃",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_it_is_inert_everywhere(text: str) -> None:
    bad = ticket(
        2,
        text,
        identity=text,
        target=text,
        rule=text,
        reason=text,
        why=text,
        state="pending",
        needs=(Need((text, "phi-approvers"), 1),),
        votes=(VoteView(text, True, text, NOW),),
    )
    tickets = MemoryTickets(ticket(1), bad, ticket(3), ticket(4, state=text, ended_at=NOW))
    async with driving(tickets) as seen:
        await seen.press("h", "j")
        await seen.poll()
        for key in ("enter", "escape", "d", "escape"):
            _assert_safe(seen.strips)
            await seen.press(key)
        # A click on any cell does no more than choose.
        for row in (3, 13, 22):
            await seen.pilot.click(offset=(40, row))
        await seen.pilot.pause()
        assert tickets.votes == []
        assert seen.queue.is_running
        assert not isinstance(seen.queue.screen, Ballot)


LAYOUTS = [(name, SIZES[0]) for name in HOSTILE]
LAYOUTS += [(name, SIZES[1]) for name in ("bad markup", "ansi", "wide", "newlines", "16 KB")]


@pytest.mark.parametrize(("name", "size"), LAYOUTS)
async def test_layout_and_keys_survive_it(name: str, size: tuple[int, int]) -> None:
    text = HOSTILE[name]
    bad = replace(ticket(1, text), identity=text, why=text)
    async with driving(MemoryTickets(bad, ticket(2)), size) as seen:
        lines = seen.text.split("\n")
        assert lines[0].startswith(" Tollhouse approvals")
        assert lines[1].startswith("  id     state")
        assert lines[2].startswith("> T-1    pending")
        assert lines[3].startswith("  T-2    pending")
        assert "Approve" in lines[size[1] - 1]
        await seen.press("j")
        assert " 1 │ delete from claims where id = 2" in seen.text
        await seen.press("k", "a")
        seen.queue.screen.query_one(Sheet).scroll_end(animate=False)
        await seen.press("x", "enter", "enter")
        assert [vote[0] for vote in seen.tickets.votes] == ["T-1"]


async def test_a_refusal_and_a_reason_are_inert_too() -> None:
    tickets = MemoryTickets(ticket(1))
    tickets.swapped = {"T-1": replace(ticket(1), command=HOSTILE["action"], digest="1" * 64)}
    async with driving(tickets) as seen:
        await seen.press("a", "[", "/", "b", "enter", "enter")
        _assert_safe(seen.strips)
        assert HOSTILE["action"] in seen.text


def test_the_corpus_would_be_alive_if_it_were_read_as_markup() -> None:
    content = Content.from_markup(HOSTILE["action"])
    strip = Strip(content.render_segments())
    with pytest.raises(AssertionError):
        _assert_safe([strip])


def _assert_safe(strips: Sequence[Strip]) -> None:
    """No cell is a link or an action, and none holds what a terminal would obey."""
    for segment in (segment for strip in strips for segment in strip):
        assert not _OBEYED.search(segment.text)
        assert segment.control is None
        if segment.style is not None:
            assert segment.style.link is None
            assert "@click" not in segment.style.meta
            assert not segment.style.blink


_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff]")

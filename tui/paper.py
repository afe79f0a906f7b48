"""A ticket laid out in rows: every character of it, and nothing that it says of itself.

All untrusted text passes ``gateway.core.display`` here and becomes plain
``Content``, whose markup nobody reads. Rows are cut by this module and not by the
terminal: a line of the command has its number in a gutter, so that no wrapped row
can pass for a line of its own and no gap can push text out of sight unseen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final

from rich.cells import cell_len, get_character_cell_size
from textual.content import Content, Span

from gateway.core.display import confusables, show
from tui.tickets import TicketView

LABEL_CELLS: Final = 9
STATE_STYLES: Final = {"pending": "bold $text-warning", "granted": "bold $text-success"}
"""Styles by state; any other is muted. The word itself stands beside, for those without colour."""

_ALARM: Final = "bold reverse $text-warning"
_MUTED: Final = "$text-muted"
_ESCAPE: Final = re.compile(r"\\u\{[0-9a-f]{1,6}\}")
_LEAST_CELLS: Final = 8
_MANY_BLANK_LINES: Final = 3
_LONG_GAP: Final = re.compile(r"[ \t]{24}")
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL"})


def ticket_rows(
    view: TicketView, now: datetime, width: int, *, gone: bool = False
) -> list[Content]:
    """The whole ticket for the detail pane, each row at most ``width`` cells wide."""
    rows = [*_headline(view, now, width, gone), *about_rows(view, now, width)]
    for vote in view.votes:
        word, style = ("Yes", "$text-success") if vote.approve else ("No", "$text-error")
        said = f"{show(vote.voter)}, {span(now - vote.at)} ago: {show(vote.reason)}"
        rows += _field(word, said, width, style)
    return [*rows, Content(""), *command_rows(view.command, width)]


def about_rows(view: TicketView, now: datetime, width: int) -> list[Content]:
    """Who asks, why it is held, what to beware of, and the digest."""
    asked = f"{show(view.identity)} on {show(view.target)}, {span(now - view.requested_at)} ago"
    claimed = f"{show(view.why)} (as claimed)" if view.why else "(no reason given)"
    rows = [*_field("Who", asked, width)]
    rows += _field("Held by", f"{show(view.rule)}: {show(view.reason)}", width)
    rows += _field("Why", claimed, width, "" if view.why else _MUTED)
    for caution in cautions("\n".join((view.command, view.why, view.identity))):
        rows += _field("BEWARE", caution, width, "bold $text-warning")
    return [*rows, *_field("Digest", view.digest, width, _MUTED)]


@lru_cache(maxsize=8)
def command_rows(command: str, width: int) -> tuple[Content, ...]:
    """The command, whole: a title row, then each of its lines with its number."""
    shown = show(command, newlines=True).replace("\t", "    ")
    lines = shown.split("\n")
    suspects = confusables(command)
    count = f"{len(lines)} line{'s' * (len(lines) != 1)}"
    rows = [Content.styled(fit(f"Command: {count}, {len(command)} characters", width), "bold")]
    gutter = max(len(str(len(lines))), 2)
    for number, line in enumerate(lines, 1):
        marked = _marked(line, suspects)
        parts = marked.divide(_cuts(line, width - gutter - 3))
        for at, part in enumerate(parts):
            label = f"{number if at == 0 else '':>{gutter}} │ "
            rows.append(Content.assemble((label, _MUTED), part))
    return tuple(rows)


@lru_cache(maxsize=2048)
def cautions(text: str) -> tuple[str, ...]:
    """What in a text could deceive a reader, one sentence each."""
    found = []
    if words := confusables(text):
        found.append(f"letters that pass for others in {', '.join(words[:5])}{_more(words)}")
    hidden = len(_ESCAPE.findall(show(text, newlines=True))) - len(_ESCAPE.findall(text))
    if hidden:
        found.append(f"{hidden} hidden or control characters, written out as \\u{{…}}")
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        found.append("right-to-left letters: your terminal may draw them in another order")
    if _blank_lines(text) >= _MANY_BLANK_LINES or _LONG_GAP.search(text):
        found.append("long gaps: more text may follow them")
    return tuple(found)


def fit(text: str, width: int) -> str:
    """Shown text in exactly ``width`` cells: cut with an ellipsis, or filled with spaces."""
    if cell_len(text) > width:
        kept, cells = "", 0
        for char in text:
            cells += get_character_cell_size(char)
            if cells > width - 1:
                break
            kept += char
        text = f"{kept}…" if width > 0 else ""
    return text + " " * (width - cell_len(text))


def fold(text: str, width: int) -> list[str]:
    """Rows of at most ``width`` cells that join to the very text; broken after spaces if near."""
    cuts = [0, *_cuts(text, width), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def span(time: timedelta, *, short: bool = False) -> str:
    """A length of time in words; none is negative, as clocks differ a little.

    Args:
        time: what to tell.
        short: one unit only, at most four characters up to 999 days.
    """
    seconds = max(int(time.total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days}d" if short else f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h" if short else f"{hours}h {minutes % 60}m"
    if minutes:
        # Seconds only where they matter: a slow link is not to redraw an age each second.
        return f"{minutes}m" if short or minutes >= 10 else f"{minutes}m {seconds % 60}s"
    return f"{seconds}s"


def needs(view: TicketView) -> str:
    """What is still missing, in words."""
    parts = (f"{need.count} of {show(' or '.join(need.groups))}" for need in view.needs)
    return "; ".join(parts) or "nothing more"


def _headline(view: TicketView, now: datetime, width: int, gone: bool) -> Sequence[Content]:
    if gone:
        state, rest = "gone", "the gateway no longer lists it"
    elif view.state == "pending":
        state, rest = "pending", f"needs {needs(view)}; {span(view.answer_by - now)} left"
    elif view.state == "granted" and view.expires_at is not None:
        state, rest = "granted", f"may run once; {span(view.expires_at - now)} left"
    else:
        state = show(view.state)
        rest = "" if view.ended_at is None else f"{span(now - view.ended_at)} ago"
    style = STATE_STYLES.get(state, _MUTED)
    return _field(view.id, f"{state}{', ' if rest else ''}{rest}", width, style)


@lru_cache(maxsize=64)
def _field(label: str, text: str, width: int, style: str = "") -> tuple[Content, ...]:
    """A label and its text, hanging; ``text`` is one shown line."""
    rows = fold(text, width - LABEL_CELLS)
    labels = [label, *[""] * (len(rows) - 1)]
    return tuple(
        Content.assemble((fit(head, LABEL_CELLS - 1) + " ", "bold"), (row, style))
        for head, row in zip(labels, rows, strict=True)
    )


def _marked(line: str, suspects: Sequence[str]) -> Content:
    """A shown line whose written-out and confusable characters stand out."""
    marks = [match.span() for match in _ESCAPE.finditer(line)]
    for word in suspects:
        marks += [match.span() for match in re.finditer(re.escape(word), line)]
    return Content(line, [Span(start, end, _ALARM) for start, end in marks])


def _cuts(text: str, width: int) -> list[int]:
    """Where to cut a line into rows; after a space if one lies in the row's second half."""
    width = max(width, _LEAST_CELLS)
    cuts: list[int] = []
    start = cells = space = 0
    for at, char in enumerate(text):
        wide = get_character_cell_size(char)
        if cells + wide > width:
            start = space if space - start > width // 2 else at
            cuts.append(start)
            cells = cell_len(text[start:at])
        cells += wide
        if char == " ":
            space = at + 1
    return cuts


def _blank_lines(text: str) -> int:
    """The longest run of blank lines."""
    longest = run = 0
    for line in text.split("\n"):
        run = 0 if line.strip() else run + 1
        longest = max(longest, run)
    return longest


def _more(words: Sequence[str]) -> str:
    return f" and {len(words) - 5} more" if len(words) > 5 else ""

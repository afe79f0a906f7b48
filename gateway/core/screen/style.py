"""Colours and attributes of a cell, as pyte's ``Char`` holds them.

pyte turns colours into names and loses the palette of the client's terminal, so
``fg`` and ``bg`` hold SGR's own numbers here ("31", "38;5;200") or "default".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from pyte.screens import Char

from gateway.core.screen.controls import Style

BLANK: Final = Char(" ")
"""A cell with nothing in it."""

_FLAGS: dict[int, str] = {
    1: "bold",
    3: "italics",
    4: "underscore",
    5: "blink",
    7: "reverse",
    9: "strikethrough",
}
_CLEARED: dict[int, str] = {22: "bold", **{code + 20: _FLAGS[code] for code in (3, 4, 5, 7, 9)}}


def restyled(cell: Char, codes: Sequence[int]) -> Char:
    """The cell after SGR with these codes; unknown ones change nothing."""
    changes: dict[str, Any] = {}
    position = 0
    while position < len(codes):
        code = codes[position]
        position += 1
        if code == 0:
            changes = BLANK._replace(data=cell.data)._asdict()
        elif code in _FLAGS:
            changes[_FLAGS[code]] = True
        elif code in _CLEARED:
            changes[_CLEARED[code]] = False
        elif code in (38, 48):
            colour, position = _extended(codes, position)
            if colour:
                changes["fg" if code == 38 else "bg"] = f"{code};{colour}"
        elif 30 <= code <= 39 or 90 <= code <= 97:
            changes["fg"] = "default" if code == 39 else str(code)
        elif 40 <= code <= 49 or 100 <= code <= 107:
            changes["bg"] = "default" if code == 49 else str(code)
    return cell._replace(**changes)


def _extended(codes: Sequence[int], position: int) -> tuple[str, int]:
    """A 256 or true colour after 38 or 48, and the position after it."""
    kind = codes[position] if position < len(codes) else 0
    size = {5: 2, 2: 4}.get(kind, 1)
    taken = codes[position : position + size]
    complete = kind in (2, 5) and len(taken) == size and max(taken) <= 255
    return (";".join(map(str, taken)) if complete else "", position + size)


def style_of(cell: Char) -> Style:
    """What makes the client's terminal draw as this cell is drawn."""
    return _style_of(*cell[1:])


@lru_cache(maxsize=1024)
def _style_of(*attributes: str | bool) -> Style:
    cell = Char(" ", *attributes)  # type: ignore[arg-type]
    flags = [code for code, name in _FLAGS.items() if getattr(cell, name)]
    colours = [colour for colour in (cell.fg, cell.bg) if colour != "default"]
    return Style((*flags, *(int(part) for colour in colours for part in colour.split(";"))))

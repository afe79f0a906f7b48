"""The README's picture: ``python -m tests.tui.picture docs/pictures/queue.svg``."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tests.tui.driving import driving
from tests.tui.memory import NOW, MemoryTickets, ticket
from tui.tickets import Need, TicketView, VoteView

SIZE = (100, 30)


def tickets() -> list[TicketView]:
    """A morning's queue; all names are made up."""
    steers = "PHI filters, orders or enters an expression"
    month_end = """\
delete from claims c
 using visits v
 where v.patient_id = c.patient_id
   and c.status = 'duplicate'
   and v.reason_code = 'Z99.9'"""
    found = [
        ticket(41, "select count(*) from patients where last_name like '[PHI]'"),
        ticket(42, month_end, why="month-end clean-up, run 4711"),
        ticket(43, "delete from claims where status = 'p\u0430id'", why="requested by billing"),
        ticket(44, "drop database staging", needs=(Need(("dba",), 1),)),
        ticket(45, "update visits set reason_code = 'I10' where id = 90210", state="granted"),
    ]
    found[0] = replace(found[0], identity="agent", rule="agent-steers", reason=steers, why="")
    found[3] = replace(found[3], identity="nightly", target="ops-db", rule="drop-database")
    found[3] = replace(
        found[3],
        reason="drops a database",
        votes=(VoteView("mira", True, "staging is gone since June", NOW - timedelta(minutes=4)),),
    )
    found[4] = replace(found[4], needs=(), expires_at=NOW + timedelta(minutes=22))
    ages = (95, 48, 31, 12, 3)
    return [
        replace(view, requested_at=NOW - timedelta(minutes=age))
        for view, age in zip(found, ages, strict=True)
    ]


async def picture() -> str:
    """The screen as SVG, which loads nothing from anywhere."""
    async with driving(MemoryTickets(*tickets()), SIZE) as seen:
        await seen.press("j")
        svg = seen.queue.export_screenshot(title="tollhouse approvals")
    # The fonts that the exporter names are on somebody else's server.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    """Write the picture to the path that is named."""
    (path,) = map(Path, sys.argv[1:])
    path.write_text(asyncio.run(picture()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""``python -m tui --fd N``: the queue inside the gateway, on one session's socket.

Standard input and error (where Textual draws) are the session's terminal; the
socket is the only way to tickets and votes (see ``near``).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from gateway.errors import ExitCode
from tui.app import Queue
from tui.near import NearTickets


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the queue until it is quit; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tui", description="The approver's queue.")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--place", default="gateway", help="whose queue it is, to be shown")
    parser.add_argument("--light", action="store_true", help="for light terminals")
    options = parser.parse_args(arguments)
    # Textual reads from stdin and draws on stderr.
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        parser.error("the queue needs a terminal")
    return asyncio.run(_run(options.fd, options.place, light=options.light))


async def _run(descriptor: int, place: str, *, light: bool) -> int:
    tickets = NearTickets(descriptor)
    try:
        queue = Queue(tickets, place, light=light)
        await queue.run_async()
        return queue.return_code or ExitCode.OK
    finally:
        tickets.close()


if __name__ == "__main__":
    raise SystemExit(main())

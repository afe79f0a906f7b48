"""``tollhouse approvals``: the approver's queue, from the approver's own machine."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import BadCommand, TollhouseError

_LIBRARIES = frozenset({"textual", "rich"})


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: tollhouse approvals --host gate.example.org")(approvals)


def approvals(
    host: Annotated[str, typer.Option(help="The gateway, as ssh takes it.")],
    ssh_config: Annotated[
        Path | None, typer.Option(help="File for ssh -F, as `tollhouse login` writes it.")
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="Colours for light terminals.")] = False,
) -> None:
    """Held commands that you may decide: read, approve, deny.

    Runs stock ssh as gateway@HOST with the certificate of `tollhouse login`. Needs the
    extra `tui`.
    """
    # Textual reads from stdin and draws on stderr.
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        raise BadCommand(
            "the queue needs a terminal",
            "In scripts: ssh gateway@HOST tickets --json",
            "approvals.terminal",
        )
    try:
        from tui.app import Queue
        from tui.far import FarTickets
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise TollhouseError(
            "the queue needs the library textual",
            "Install it: pip install 'tollhouse[tui]'",
            rule="install",
        ) from None

    async def run() -> int:
        tickets = FarTickets(host, ssh_config)
        try:
            queue = Queue(tickets, host, light=light)
            # A closed terminal or a stop: the shared connection must not stay behind.
            for number in (signal.SIGHUP, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, queue.exit)
            await queue.run_async()
            return queue.return_code or 0
        finally:
            await tickets.close()

    raise typer.Exit(asyncio.run(run()))

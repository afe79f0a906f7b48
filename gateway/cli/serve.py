"""``tollhouse serve``: the gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config import GatewayConfig
    from gateway.edge.gateway import Gateway


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: tollhouse serve --config /etc/tollhouse/gateway.toml")(serve)


def serve(
    config: Annotated[Path, typer.Option(help="The gateway.toml.")],
    ready: Annotated[
        Path | None, typer.Option(help="Write addresses as JSON to this file once all listens.")
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT; running sessions are closed and recorded first."""
    from gateway.config import load

    log_to_stderr()
    asyncio.run(_serve(load(config), ready))


def log_to_stderr() -> None:
    """JSON lines on stderr, of our own events only: libraries may quote what passes them."""
    import structlog

    logging.disable(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _write_ready(path: Path, gateway: Gateway) -> None:
    """Whoever waits for the file sees it whole or not at all."""
    addresses = {
        "https_port": gateway.https_port,
        "known_hosts": gateway.known_hosts,
        "sandbox": gateway.sandbox,
        "ssh_port": gateway.ssh_port,
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(addresses) + "\n")
    part.replace(path)


async def _serve(config: GatewayConfig, ready: Path | None) -> None:
    from gateway.edge.gateway import serving
    from gateway.errors import RecorderFault

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(config) as gateway:
        if ready is not None:
            _write_ready(ready, gateway)
        ends = [loop.create_task(stop.wait()), loop.create_task(gateway.failed.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        if gateway.failed.is_set():
            raise RecorderFault(
                "The record can no longer be kept, so the gate is closed",
                "See the disk of state_dir, then start again",
                rule="recorder",
            )

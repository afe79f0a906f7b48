"""An exception that nobody foresaw: closed, told and logged, its text never.

The text of an exception may quote a command or a cell; its kind and its places
in our code cannot.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from typing import Any

import structlog

from gateway.errors import GatewayFault

log = structlog.get_logger("tollhouse")


def internal_fault(error: BaseException, doing: str) -> GatewayFault:
    """Log where it came from and give the fault that the client is told.

    Args:
        error: as caught.
        doing: what the gateway did, in code's words; never user text.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    log.error("internal.fault", kind=type(error).__name__, doing=doing, where=where[-6:])
    return GatewayFault(
        f"An internal error ({type(error).__name__}) at {doing}",
        "Nothing more runs in this session; the gateway's log names the place",
        rule="gateway.internal",
    )


def loop_fault(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """What the event loop does with an exception that nobody took; its own way prints the text.

    Args:
        loop: the running one.
        context: see ``loop.call_exception_handler``.
    """
    error = context.get("exception")
    if error is None:
        log.error("internal.fault", kind="none", doing="the event loop", where=[])
    else:
        internal_fault(error, "the event loop")

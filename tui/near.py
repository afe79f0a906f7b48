"""``Tickets`` inside the gateway: over a socket that was made for this one session.

The gateway authenticated the approver, made a socket pair and keeps the other
end; whoever holds this descriptor votes as that approver and as nobody else. No
name, path or port leads to it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final

from tui import framing
from tui.framing import BadFrame, Lines, Question
from tui.tickets import TicketView, Unreachable, read_ticket, read_tickets

TIMEOUT_S: Final = 20.0
_CHUNK_BYTES: Final = 256 * 1024


class NearTickets:
    """The port over an inherited stream socket.

    Args:
        descriptor: of the socket; it is closed by ``close``.
        timeout_s: longest wait for one answer.
    """

    def __init__(self, descriptor: int, *, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._lines = Lines(framing.ANSWER_LIMIT_BYTES)
        self._broken = False

    async def listed(self, *, ended: bool) -> list[TicketView]:
        """See ``Tickets``."""
        return read_tickets(await self._ask("tickets", *(["--all"] if ended else [])))

    async def approve(self, ticket: str, reason: str) -> TicketView:
        """See ``Tickets``."""
        return read_ticket(await self._ask("approve", ticket, f"--reason={reason}"))

    async def deny(self, ticket: str, reason: str) -> TicketView:
        """See ``Tickets``."""
        return read_ticket(await self._ask("deny", ticket, f"--reason={reason}"))

    def close(self) -> None:
        """Give the socket back; later questions are Unreachable."""
        self._broken = True
        self._socket.close()

    async def _ask(self, verb: str, *arguments: str) -> Mapping[str, Any]:
        async with self._turn:
            if self._broken:
                raise _gone()
            # Until the answer is read whole, the next one would not be its own:
            # a timeout, a cancellation or a bad frame ends this socket for good.
            self._broken = True
            try:
                async with asyncio.timeout(self._timeout_s):
                    line = await self._exchange(framing.write_question(Question(verb, arguments)))
            except TimeoutError:
                raise Unreachable("the gateway does not answer", _AGAIN) from None
            except OSError:
                raise _gone() from None
            except BadFrame as error:
                raise Unreachable(error.reason, error.advice, error.rule) from error
            self._broken = False
            try:
                return framing.read_answer(line)
            except BadFrame as error:
                self._broken = True
                raise Unreachable(error.reason, error.advice, error.rule) from error

    async def _exchange(self, question: bytes) -> bytes:
        """Send one line, return the one that answers it.

        Raises:
            Unreachable: the other end is closed.
            BadFrame: more than one line came.
        """
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, question)
        while True:
            data = await loop.sock_recv(self._socket, _CHUNK_BYTES)
            if not data:
                raise _gone()
            match self._lines.feed(data):
                case []:
                    pass
                case [line]:
                    return line
                case _:
                    raise BadFrame("the gateway answered twice")


_AGAIN: Final = "Open the queue again: ssh -t approvals@…"


def _gone() -> Unreachable:
    return Unreachable("the gateway closed the queue's socket", _AGAIN)

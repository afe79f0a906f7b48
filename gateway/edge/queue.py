"""``ssh -t approvals@…``: the approval queue, run inside the gateway for one approver.

The queue is a process of its own with a terminal of the gateway's and one socket,
made for this authenticated session: who holds it votes as this approver and nobody
else. It has no key and no other way in. What it draws goes through the masked
screen and is recorded, so the record shows what the approver saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import sys
import termios
from asyncio.subprocess import Process

from gateway.edge.child import WindowSize
from gateway.edge.desk import Desk
from gateway.edge.door import Admission, Door
from gateway.edge.view import View
from gateway.errors import GatewayFault, TollhouseError
from tui import framing
from tui.framing import BadFrame, Lines

READ_BYTES = 8_192
END_TIMEOUT_S = 5.0


class Queue:
    """One approver's queue.

    Args:
        desk: answers its questions.
        door: says before each answer whether the certificate still holds.
        admission: who votes.
        view: the approver's terminal.
        term: the approver's TERM.
    """

    def __init__(self, desk: Desk, door: Door, admission: Admission, view: View, term: str) -> None:
        self._desk = desk
        self._door = door
        self._admission = admission
        self._view = view
        self._term = term
        self._master = -1
        self._process: Process | None = None
        self._resizes: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until the approver quits; the queue's exit code.

        Raises:
            GatewayFault: it does not start.
            RecorderFault: the record cannot be kept.
        """
        ours, theirs = socket.socketpair()
        self._master, slave = pty.openpty()
        try:
            _set_size(slave, self._view.size)
            self._process = await self._start(theirs, slave)
        except OSError as error:
            ours.close()
            raise GatewayFault("The queue does not start", rule="queue.start") from error
        finally:
            theirs.close()
            os.close(slave)
        answering = asyncio.get_running_loop().create_task(self._answer(ours))
        try:
            await self._pump()
            async with asyncio.timeout(END_TIMEOUT_S):
                return await self._process.wait()
        except TimeoutError:
            raise GatewayFault("The queue did not end", rule="queue.end") from None
        finally:
            answering.cancel()
            await asyncio.gather(answering, *self._resizes, return_exceptions=True)
            ours.close()
            await self._end()

    def typed(self, data: bytes) -> None:
        """The approver's keys; what does not fit into the terminal's buffer is dropped."""
        if self._master >= 0:
            with contextlib.suppress(OSError):
                os.write(self._master, data)

    def resized(self, size: WindowSize) -> None:
        """The approver's window has another size."""
        task = asyncio.get_running_loop().create_task(self._resize(size))
        self._resizes.add(task)
        task.add_done_callback(self._resizes.discard)

    async def _resize(self, size: WindowSize) -> None:
        await self._view.resize(size)
        if self._master >= 0 and self._process is not None:
            _set_size(self._master, size)
            # It has no controlling terminal that would tell it.
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGWINCH)

    async def _start(self, theirs: socket.socket, slave: int) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-m", "tui", "--fd", str(theirs.fileno())),
            stdin=slave,
            stdout=slave,
            # Textual draws on stderr.
            stderr=slave,
            pass_fds=(theirs.fileno(),),
            env={"LANG": "C.UTF-8", "TERM": self._term or "xterm", "HOME": "/nonexistent"},
            start_new_session=True,
        )

    async def _pump(self) -> None:
        """What the queue draws goes to the view, no faster than the client takes it."""
        loop = asyncio.get_running_loop()
        os.set_blocking(self._master, False)
        ready = asyncio.Event()
        loop.add_reader(self._master, ready.set)
        try:
            while True:
                try:
                    data = os.read(self._master, READ_BYTES)
                except BlockingIOError:
                    ready.clear()
                    await ready.wait()
                    continue
                except OSError:  # EIO: the queue has closed its side
                    return
                if not data:
                    return
                await self._view.draw(data)
        finally:
            loop.remove_reader(self._master)

    async def _answer(self, ours: socket.socket) -> None:
        """Answer the queue's questions as the desk answers the same approver over SSH."""
        reader, writer = await asyncio.open_connection(sock=ours)
        lines = Lines(framing.REQUEST_LIMIT_BYTES)
        with contextlib.suppress(BadFrame, ConnectionError):  # the queue sees its socket close
            while data := await reader.read(framing.REQUEST_LIMIT_BYTES):
                for line in lines.feed(data):
                    writer.write(await self._answered(line))
                    await writer.drain()
        writer.close()

    async def _answered(self, line: bytes) -> bytes:
        question = framing.read_question(line)
        try:
            await self._door.still_valid(self._admission)
            fields = await self._desk.answer(
                self._admission, question.verb, list(question.arguments)
            )
        except TollhouseError as error:
            return framing.write_error(error)
        return framing.write_fields(fields)

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        master, self._master = self._master, -1
        if master >= 0:
            os.close(master)


def _set_size(descriptor: int, size: WindowSize) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))

"""Killable workers: a line that breaks its parser breaks nothing else.

libpg_query overflows its stack on deep nesting and is quadratic on nested
comments; sqlglot can take seconds. So lines are judged in processes that have
little memory and little time, and whose death is a denial.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from gateway.core.action import Form
from gateway.core.plan import Parsed
from gateway.edge.judge_worker import CATALOG, LENGTH, MAX_FRAME_BYTES, MESSAGE, PARSED, frame
from gateway.errors import BadCommand, Denied, GatewayFault
from gateway.sql.catalog import Catalog
from gateway.sql.limits import SqlLimits

START_TIMEOUT_S = 30.0


class Worker:
    """One worker process; judges one line at a time."""

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._process: Process | None = None
        self._catalogs: dict[str, str] = {}

    async def start(self) -> None:
        """Start the process and wait until it listens.

        Raises:
            GatewayFault: it did not come up.
        """
        self._catalogs.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-m", "gateway.edge.judge_worker", str(self._memory_mb)),
            stdin=PIPE,
            stdout=PIPE,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._receive()
        except (TimeoutError, EOFError) as error:
            await self.kill()
            raise GatewayFault(
                "The parser's worker process does not start",
                "Look at the memory limit [limits] decide_memory_mb",
                rule="worker.start",
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def ask(
        self, text: str, form: Form, target: str, catalog: Catalog, limits: SqlLimits
    ) -> dict[str, Any]:
        """Send one line and return the worker's answer.

        Raises:
            EOFError: the worker died over it.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        request: dict[str, Any] = {
            "target": target,
            "text": text,
            "form": form,
            "limits": limits,
        }
        if self._catalogs.get(target) != catalog.fingerprint:
            request["catalog"] = CATALOG.dump_python(catalog, mode="json")
            self._catalogs[target] = catalog.fingerprint
        try:
            self._process.stdin.write(frame(request))
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise EOFError from error
        return await self._receive()

    async def _receive(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        head = await self._process.stdout.readexactly(LENGTH.size)
        length = LENGTH.unpack(head)[0]
        if length > MAX_FRAME_BYTES:
            raise EOFError
        return MESSAGE.validate_json(await self._process.stdout.readexactly(length))

    async def kill(self) -> None:
        """End the process; safe to call twice."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        # The transport keeps the pipes until it is told; a killed worker must not leak them.
        process._transport.close()  # type: ignore[attr-defined]  # no public way to close it
        # Forgotten last: whoever is cancelled in here leaves it to the next caller.
        self._process = None


class Workers:
    """A small pool; a worker that dies or overstays is killed and replaced.

    Args:
        count: processes; a bomb occupies one of them for at most ``timeout_ms``.
        memory_mb: address space of each.
        timeout_ms: for one line, in the worker.
    """

    def __init__(self, *, count: int = 2, memory_mb: int = 1024, timeout_ms: int = 2000) -> None:
        self._count = count
        self._memory_mb = memory_mb
        self._timeout_s = timeout_ms / 1000
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._all: set[Worker] = set()
        self._revivals: set[asyncio.Task[None]] = set()
        self.deaths = 0

    async def start(self) -> None:
        """Start all workers."""
        workers = [Worker(self._memory_mb) for _ in range(self._count)]
        await asyncio.gather(*(worker.start() for worker in workers))
        self._all = set(workers)
        for worker in workers:
            self._idle.put_nowait(worker)

    async def stop(self) -> None:
        """End all workers."""
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._all))

    async def parse(
        self, text: bytes, *, form: Form, target: str, catalog: Catalog, limits: SqlLimits
    ) -> Parsed:
        """Turn a line into its units, actions and plans.

        Raises:
            BadCommand: it cannot be read.
            Denied: the SQL gate refuses it, or the worker did not survive it.
            GatewayFault: no worker can be had.
        """
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise BadCommand(
                f"The line is not UTF-8 (byte {error.start})",
                "Send it in UTF-8",
                rule="line.encoding",
            ) from None
        worker = await self._idle.get()
        healthy = False
        try:
            if not worker.alive:
                await worker.start()
            async with asyncio.timeout(self._timeout_s):
                answer = await worker.ask(decoded, form, target, catalog, limits)
            healthy = True
        except (EOFError, TimeoutError) as error:
            self.deaths += 1
            raise Denied(
                "The statement is too deep or too costly to parse safely",
                "Split it, or nest it less deeply",
                rule="sql.too-costly",
            ) from error
        finally:
            if healthy:
                self._idle.put_nowait(worker)
            else:
                self._revive(worker)
        return _slices_of(_parsed(answer), decoded.encode(), form)

    def _revive(self, worker: Worker) -> None:
        task = asyncio.create_task(self._restart(worker))
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    async def _restart(self, worker: Worker) -> None:
        try:
            await worker.kill()
            await worker.start()
        except GatewayFault:
            # Stays dead; the next line that gets it tries again and is told.
            pass
        finally:
            self._idle.put_nowait(worker)


def _slices_of(parsed: Parsed, text: bytes, form: Form) -> Parsed:
    """See that what will be sent is what was typed, whatever became of the worker.

    Raises:
        GatewayFault: a unit is not a slice of the line, in the line's order.
    """
    position = 0
    for unit in parsed.units:
        found = text.find(unit.text, position)
        if found < 0 or (form == "single" and unit.text != text):
            raise GatewayFault(
                "The parser's worker answered with another text than it was given",
                "Nothing ran; report this to the gateway's operator",
                rule="worker.text",
            )
        position = found + len(unit.text)
    return parsed


def _parsed(answer: dict[str, Any]) -> Parsed:
    if "parsed" in answer:
        return PARSED.validate_python(answer["parsed"])
    kind = BadCommand if answer["bad_command"] else Denied
    raise kind(answer["error"], answer["advice"], answer["rule"])

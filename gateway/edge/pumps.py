"""psql's two output streams, masked and passed on while it runs.

Bytes are read no faster than the record and the client take them. What psql drew
goes through the pattern masker of its own stream; nonces end units and vanish.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from gateway.connectors.psql.output import Drawn, Ended, OutputSplitter
from gateway.core.mask import Masked, StreamMasker
from gateway.edge.child import Child
from gateway.edge.runner import Sink
from gateway.errors import Denied

READ_BYTES = 65_536


class Pumps:
    """Both streams of one child.

    Args:
        child: just spawned.
        sink: takes masked bytes and whether they are stderr; slow takers slow psql.
        splitter: knows the nonces.
        limit_bytes: of masked output in all.

    Attributes:
        out_bytes: masked bytes that were passed on.
    """

    def __init__(
        self, child: Child, sink: Sink, splitter: OutputSplitter, limit_bytes: int
    ) -> None:
        self.out_bytes = 0
        self._child = child
        self._sink = sink
        self._splitter = splitter
        self._limit_bytes = limit_bytes
        self._out = StreamMasker()
        self._err = StreamMasker()
        self._ended: dict[str, asyncio.Event] = {}
        loop = asyncio.get_running_loop()
        self._stdout = loop.create_task(self._pump_stdout())
        self._stderr = loop.create_task(self._pump_stderr())

    @property
    def counts(self) -> Counter[str]:
        """Findings of the pattern masker, by pattern name."""
        return self._out.counts + self._err.counts

    def expect(self, nonce: str) -> None:
        """A unit with this nonce is about to be fed."""
        self._splitter.expect(nonce)
        self._ended[nonce] = asyncio.Event()

    async def reached(self, nonce: str) -> bool:
        """Wait until all output of the unit was passed on.

        Returns:
            False if psql's output ended first.

        Raises:
            What the sink raised: the record or the client failed.
        """
        ended = asyncio.ensure_future(self._ended[nonce].wait())
        try:
            waiting: set[asyncio.Future[Any]] = {ended, self._stdout, self._stderr}
            while not ended.done() and not self._stdout.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._stderr in done:
                    # psql may go on without it; if it failed, nothing else may run.
                    self._stderr.result()
            if not ended.done():
                self._stdout.result()
            return ended.done()
        finally:
            ended.cancel()

    async def finish(self) -> None:
        """Wait for the end of both streams; both have been passed on whole.

        Raises:
            What the sink raised.
        """
        await asyncio.gather(self._stdout, self._stderr)

    async def cancel(self) -> None:
        """Stop reading; safe at any time."""
        for task in (self._stdout, self._stderr):
            task.cancel()
        await asyncio.gather(self._stdout, self._stderr, return_exceptions=True)

    async def _pump_stdout(self) -> None:
        while data := await self._child.stdout.read(READ_BYTES):
            await self._take(self._splitter.feed(data))
        await self._take(self._splitter.finish())
        await self._pass(self._out.finish(), stderr=False)

    async def _take(self, found: list[Drawn | Ended]) -> None:
        for piece in found:
            if isinstance(piece, Drawn):
                await self._pass(self._out.feed(piece.data), stderr=False)
            else:
                self._ended[piece.nonce].set()

    async def _pump_stderr(self) -> None:
        while data := await self._child.stderr.read(READ_BYTES):
            await self._pass(self._err.feed(data), stderr=True)
        await self._pass(self._err.finish(), stderr=True)

    async def _pass(self, data: Masked, *, stderr: bool) -> None:
        if not data:
            return
        self.out_bytes += len(data)
        if self.out_bytes > self._limit_bytes:
            raise Denied(
                f"The output of this session is larger than {self._limit_bytes} bytes",
                "Ask for fewer rows or columns, or have [limits] output_bytes raised",
                rule="limits.output",
            )
        await self._sink(data, stderr)

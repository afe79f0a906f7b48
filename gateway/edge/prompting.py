"""A session at a prompt: the editor, a psql for each login, one masked screen.

Lines go the same way as everywhere: judged, decided, recorded, and only then fed to
psql as a ticket. psql draws into a terminal of the gateway's that no child controls.
Transactions live on the lane that they were opened on; a line that needs a grant
runs on a fresh lane of its own, so that nobody's locks wait for a human.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from textwrap import wrap

from gateway.config import Target
from gateway.connectors.psql.output import Drawn, OutputSplitter
from gateway.core.approval import Grant
from gateway.core.events import Failed, Judgement, Left, Line, LineArrived, Summary
from gateway.core.mask import Masked
from gateway.core.plan import Unit
from gateway.edge.child import Child, WindowSize
from gateway.edge.execution import Executions
from gateway.edge.internal import internal_fault
from gateway.edge.lane import Lane, catalog_changed
from gateway.edge.prompt import GOODBYES, Prompt
from gateway.edge.recording import Recording
from gateway.edge.runner import Runner, Sink
from gateway.edge.view import View, bounded
from gateway.errors import Denied, TargetUnavailable, TollhouseError

READ_BYTES = 8_192
"""Small: one session's bulk output must not hold up another's echo."""


class ScreenOutput:
    """psql's terminal: what it draws goes to the view, nonces end units and vanish."""

    def __init__(self, child: Child, view: View, limit_bytes: int) -> None:
        self._child = child
        self._view = view
        self._limit_bytes = limit_bytes
        self._splitter = OutputSplitter()
        self._ended: dict[str, asyncio.Event] = {}
        self.drawn_bytes = 0
        self._pump = asyncio.get_running_loop().create_task(self._run())

    def expect(self, nonce: str) -> None:
        """A unit with this nonce is about to be fed."""
        self._splitter.expect(nonce)
        self._ended[nonce] = asyncio.Event()

    async def reached(self, nonce: str) -> bool:
        """Wait until all output of the unit was drawn; False if psql ended first."""
        ended = asyncio.ensure_future(self._ended[nonce].wait())
        try:
            await asyncio.wait({ended, self._pump}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._pump.result()
            return ended.done()
        finally:
            ended.cancel()
            del self._ended[nonce]

    async def finish(self) -> None:
        """Wait for the end of psql's output."""
        await self._pump

    async def cancel(self) -> None:
        """Stop reading; safe at any time."""
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _run(self) -> None:
        while data := await self._child.stdout.read(READ_BYTES):
            for piece in self._splitter.feed(data):
                if isinstance(piece, Drawn):
                    await self._draw(piece.data)
                else:
                    self._ended[piece.nonce].set()

    async def _draw(self, data: bytes) -> None:
        self.drawn_bytes += len(data)
        if self.drawn_bytes > self._limit_bytes:
            raise Denied(
                f"The output of this session is larger than {self._limit_bytes} bytes",
                "Ask for fewer rows or columns, or have [limits] output_bytes raised",
                rule="limits.output",
            )
        await self._view.draw(data.replace(b"\n", b"\r\n"))


class PromptExecution:
    """The lanes of one prompt, by login; and a lane apart for a line with a grant."""

    def __init__(self, owner: Executions, target: Target, recording: Recording, view: View) -> None:
        self._owner = owner
        self._target = target
        self._recording = recording
        self._view = view
        self._lanes: dict[str, tuple[Lane, ScreenOutput]] = {}
        self._current: Lane | None = None
        self._noted = 0
        self._finished = False

    @property
    def status(self) -> str:
        """The transaction status that the prompt shows: T or E if one is open."""
        open_now = [lane.status for lane, _ in self._lanes.values() if lane.status != "I"]
        return open_now[0] if open_now else "I"

    @property
    def pinned(self) -> str | None:
        """The login whose lane holds an open transaction, or None."""
        held = [login for login, (lane, _) in self._lanes.items() if lane.status != "I"]
        return held[0] if held else None

    async def prepare(self, judgement: Judgement) -> None:
        """Have a lane ready for this line.

        Raises:
            TargetUnavailable: the target does not answer, or its definitions changed.
            GatewayFault: psql or the guard's socket cannot be had.
        """
        login = _lane_name(judgement)
        kept = self._lanes.get(login)
        if kept is not None:
            lane, _ = kept
            fresh = lane.catalog.fingerprint == judgement.parsed.catalog
            if fresh or lane.status != "I":
                self._current = lane
                return
            await self._close(login)
        catalog = await self._owner.targets.current(self._target.name)
        if catalog.fingerprint != judgement.parsed.catalog:
            raise catalog_changed()
        upstream = self._owner.targets.upstream(self._target, judgement.login)
        lane = await Lane.open(upstream, catalog, self._owner.runtime_dir, None)
        try:
            child = await lane.start(
                (),
                level=self._owner.level,
                psql=self._owner.psql[self._target.name],
                terminal=self._view.size,
            )
        except BaseException:
            await lane.close()
            raise
        self._lanes[login] = (lane, ScreenOutput(child, self._view, self._owner.max_output_bytes))
        self._current = lane

    async def run(self, judgement: Judgement, grant: Grant, sink: Sink) -> Summary:
        """Feed the line's units; what psql draws goes to the view, not to the sink.

        Raises:
            Denied: the grant is for other bytes, or more was touched than it allows.
            TargetUnavailable: the server went away or its definitions changed.
            RecorderFault: the record cannot be kept.
        """
        if grant.fields != judgement.fields:
            raise Denied("The grant is for another command", rule="ticket.mismatch")
        login = _lane_name(judgement)
        lane, output = self._lanes[login]
        before = (lane.tally.rows, Counter(lane.tally.masked), output.drawn_bytes)
        for unit in judgement.parsed.units:
            reached = await lane.feed(
                unit, judgement.parsed.catalog, grant.max_rows, output, self._note_sent
            )
            await lane.raise_refusal(ended=not reached)
            if not reached:
                raise TargetUnavailable("psql ended", "Log in again", rule="child.end")
            if lane.tally.failed:
                break
        return Summary(
            exit_code=1 if lane.tally.failed else 0,
            rows=lane.tally.rows - before[0],
            out_bytes=output.drawn_bytes - before[2],
            masked=tuple(sorted((lane.tally.masked - before[1]).items())),
        )

    async def interrupt(self) -> None:
        """Stop the running statement on the server; psql stays."""
        if self._current is not None:
            await self._current.cancel()

    def resize(self) -> None:
        """psql draws for the new width from its next statement on."""
        for lane, _ in self._lanes.values():
            lane.resize(self._view.size)

    async def release(self) -> None:
        """The line is over: the lane of a grant ends, the others stay."""
        self._current = None
        for login in [name for name in self._lanes if name.endswith(GRANTED)]:
            await self._close(login)

    async def stop(self) -> None:
        """End all lanes; again is no error."""
        self._current = None
        for login in list(self._lanes):
            await self._close(login)
        if not self._finished:
            self._finished = True
            await self._view.finish()

    async def _close(self, login: str) -> None:
        lane, output = self._lanes.pop(login)
        try:
            await output.cancel()
        finally:
            await lane.close()

    async def _note_sent(self, unit: Unit) -> None:
        await self._recording.sent(unit.text, self._noted)
        self._noted += 1


GRANTED = "+grant"


def _lane_name(judgement: Judgement) -> str:
    asked = judgement.verdict.verdict == "ask"
    return judgement.login + (GRANTED if asked else "")


class ScreenOutlet:
    """The runner's client at a terminal: notices are drawn on the screen."""

    def __init__(self, view: View, leave: Callable[[int], None]) -> None:
        self._view = view
        self._leave = leave

    async def send(self, data: Masked, *, stderr: bool = False) -> None:
        """Draw a notice, its lines broken between words."""
        lines = [
            part
            for line in data.data.decode().splitlines()
            for part in wrap(line, self._view.size.cols - 1, subsequent_indent="  ") or [""]
        ]
        await self._view.draw("".join(f"{line}\r\n" for line in lines).encode())

    def exit(self, code: int) -> None:
        """End the channel."""
        self._leave(code)


class PromptSession:
    """Reads lines and gives them to the runner until Ctrl-D.

    Args:
        prompt: the editor.
        runner: of this session; its session is ready again after each line.
        execution: the lanes.
        view: the screen.
    """

    def __init__(
        self, prompt: Prompt, runner: Runner, execution: PromptExecution, view: View
    ) -> None:
        self._prompt = prompt
        self._runner = runner
        self._execution = execution
        self._view = view
        self._reading = False
        self._tasks: set[asyncio.Task[None]] = set()

    def typed(self, data: bytes) -> None:
        """Keys of the client: to the editor, but Ctrl-C stops what runs."""
        if not self._reading and b"\x03" in data:
            head, _, data = data.partition(b"\x03")
            self._prompt.keys.feed(head)
            self._start(self._execution.interrupt())
        if data:
            self._prompt.keys.feed(data)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resized(self, window: tuple[int, int]) -> None:
        """The client's window has another size."""
        self._start(self._resize(bounded(*window)))

    async def _resize(self, size: WindowSize) -> None:
        await self._view.resize(size)
        self._execution.resize()
        self._prompt.resized()

    async def serve(self) -> None:
        """Read and run until the session is closed, by whichever side.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        reading = asyncio.get_running_loop().create_task(self._read_lines())
        running = asyncio.get_running_loop().create_task(self._runner.run())
        try:
            await asyncio.wait({reading, running}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and reading.exception() is not None:
                self._runner.post(Failed(_told(reading.exception())))
            await running
        finally:
            self._prompt.keys.close()
            for task in (reading, running, *self._tasks):
                task.cancel()
            await asyncio.gather(reading, running, *self._tasks, return_exceptions=True)

    async def _read_lines(self) -> None:
        while not self._runner.closed:
            status = self._execution.status
            self._view.begin_line(self._prompt.sign(status))
            self._reading = True
            text = await self._prompt.read(status)
            self._reading = False
            await self._view.settle()
            if text is None or text.strip() in GOODBYES:
                self._runner.post(Left())
                return
            if text.strip():
                self._runner.post(LineArrived(Line(text=text.encode(), form="prompt")))
                await self._runner.ready()


def _told(error: BaseException | None) -> TollhouseError:
    if isinstance(error, TollhouseError):
        return error
    return internal_fault(error or RuntimeError(), "the prompt")

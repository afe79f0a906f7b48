"""The one loop that performs effects.

It feeds a session its events and does what comes back, one effect after the
other. What takes time (judging, waiting, running) is a task beside the loop, so
that a client that leaves is seen at once. An exception here never becomes a
pass: it is a ``Failed`` event, and the session closes with its reason recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.core import notice
from gateway.core.approval import Grant, Ticket
from gateway.core.events import (
    AwaitTicket,
    Close,
    Commit,
    Effect,
    Event,
    Failed,
    GrantFound,
    IntentDurable,
    Judge,
    Judged,
    Judgement,
    Line,
    Prepare,
    Prepared,
    Ran,
    RecordFinish,
    RecordRefusal,
    Run,
    SeekGrant,
    Stop,
    Summary,
    TellHeld,
    TellRefusal,
    TicketLost,
    TicketOpen,
    Unjudgeable,
)
from gateway.core.mask import Masked
from gateway.core.session import Session, State
from gateway.edge.internal import internal_fault
from gateway.edge.recording import Recording
from gateway.errors import BadCommand, Denied, ExitCode, GatewayFault, TollhouseError

Sink = Callable[[Masked, bool], Awaitable[None]]
"""Takes masked output and whether it is stderr; returns once the client took it."""


class Clerk(Protocol):
    """Judges lines and keeps tickets for one session; see ``gateway.edge.clerk``."""

    async def judge(self, line: Line) -> Judgement:
        """Parse and decide; raises BadCommand or Denied when it cannot be asked about."""
        ...

    async def seek(self, judgement: Judgement) -> Grant | Ticket:
        """A grant that fits, or the ticket under which the line waits."""
        ...

    async def settled(self, judgement: Judgement, ticket: Ticket) -> Grant:
        """Wait for the ticket's grant; raises Denied when it is lost."""
        ...


class Execution(Protocol):
    """One command's child and guard."""

    async def prepare(self, judgement: Judgement) -> None:
        """Reach the target; raises TargetUnavailable. Nothing is sent."""
        ...

    async def run(self, judgement: Judgement, grant: Grant, sink: Sink) -> Summary:
        """Let the child run what was granted, and pass its masked output to the sink."""
        ...

    async def release(self) -> None:
        """The command came to its end: let go of what only it needed."""
        ...

    async def stop(self) -> None:
        """Cancel on the server, end the child, let go of everything; safe to call twice."""
        ...


class Outlet(Protocol):
    """The client's side of the session."""

    async def send(self, data: Masked, *, stderr: bool = False) -> None:
        """Write; returns at once when the client is gone."""
        ...

    def exit(self, code: int) -> None:
        """End the channel."""
        ...


class Runner:
    """Runs one session to its end.

    Args:
        session: the state machine.
        clerk: judging and tickets.
        execution: runs what was granted.
        record: the session's record.
        outlet: the client.
        as_json: notices are JSON lines (``TOLLHOUSE_JSON=1``).
    """

    def __init__(
        self,
        session: Session,
        *,
        clerk: Clerk,
        execution: Execution,
        record: Recording,
        outlet: Outlet,
        as_json: bool,
    ) -> None:
        self._session = session
        self._clerk = clerk
        self._execution = execution
        self._record = record
        self._outlet = outlet
        self._as_json = as_json
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._closed = False
        self._fault: TollhouseError | None = None
        self._told_fault = False

    def post(self, event: Event) -> None:
        """Tell the session that something happened; from the loop's own thread only."""
        self._idle.clear()
        self._events.put_nowait(event)

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._closed

    async def ready(self) -> None:
        """Wait until a prompt's line is over, or the session is."""
        await self._idle.wait()

    async def run(self) -> None:
        """Perform until the session is closed."""
        try:
            while not self._closed:
                event = await self._events.get()
                for effect in self._session.handle(event):
                    await self._perform(effect)
                if self._session.state is State.READY and self._events.empty():
                    self._idle.set()
        finally:
            self._idle.set()
            await self._let_go()

    async def _perform(self, effect: Effect) -> None:
        try:
            await self._do(effect)
        except TollhouseError as error:
            await self._failed(effect, error)
        except Exception as error:  # nothing may pass: the gate closes
            await self._failed(effect, internal_fault(error, type(effect).__name__))

    async def _failed(self, effect: Effect, error: TollhouseError) -> None:
        if isinstance(effect, Close):
            await self._give_up(error)
            return
        # A session that is closing already hears no event; its Close looks here.
        self._fault = self._fault or error
        self.post(Failed(error))

    async def _do(self, effect: Effect) -> None:  # noqa: C901  # one arm an effect: this is the table
        match effect:
            case Judge(line):
                self._start(self._judge(line))
            case SeekGrant(judgement):
                self._start(self._seek(judgement))
            case AwaitTicket(judgement, ticket):
                self._start(self._await_ticket(judgement, ticket))
            case Prepare(judgement):
                self._start(self._prepare(judgement))
            case Commit(judgement, grant):
                self._start(self._commit(judgement, grant))
            case Run(judgement, grant):
                self._start(self._run(judgement, grant))
            case RecordRefusal(line, judgement, error):
                await self._record.refusal(line, judgement, error)
            case RecordFinish(summary):
                await self._execution.release()
                await self._record.finish(summary)
            case TellRefusal(error, judgement):
                self._told_fault = self._told_fault or isinstance(error, GatewayFault)
                await self._tell(notice.refusal(error, judgement, as_json=self._as_json))
            case TellHeld(judgement, ticket, waits):
                await self._record.held(judgement, ticket.id)
                await self._tell(notice.held(judgement, ticket, waits=waits, as_json=self._as_json))
            case Stop():
                await self._halt()
            case Close(code, reason):
                await self._close(code, reason)

    # The work beside the loop; each posts the event that it ends in

    async def _judge(self, line: Line) -> None:
        try:
            judgement = await self._clerk.judge(line)
        except (BadCommand, Denied) as error:
            self.post(Unjudgeable(line, error))
            return
        self.post(Judged(judgement))

    async def _seek(self, judgement: Judgement) -> None:
        try:
            found = await self._clerk.seek(judgement)
        except Denied as error:
            self.post(TicketLost(error))
            return
        self.post(GrantFound(found) if isinstance(found, Grant) else TicketOpen(found))

    async def _await_ticket(self, judgement: Judgement, ticket: Ticket) -> None:
        try:
            grant = await self._clerk.settled(judgement, ticket)
        except Denied as error:
            self.post(TicketLost(error))
            return
        self.post(GrantFound(grant))

    async def _prepare(self, judgement: Judgement) -> None:
        await self._execution.prepare(judgement)
        self.post(Prepared())

    async def _commit(self, judgement: Judgement, grant: Grant) -> None:
        await self._record.intent(judgement, grant)
        self.post(IntentDurable())

    async def _run(self, judgement: Judgement, grant: Grant) -> None:
        self.post(Ran(await self._execution.run(judgement, grant, self._show)))

    async def _show(self, data: Masked, stderr: bool) -> None:
        """Recorded first, then sent: nobody sees what the record does not hold."""
        if stderr and self._as_json:
            data = notice.stderr_lines(data)
        await self._record.output(data)
        await self._outlet.send(data, stderr=stderr)

    async def _tell(self, data: Masked) -> None:
        try:
            await self._record.output(data)
        finally:
            # The gate is down already; the client is told even if the disk is full.
            await self._outlet.send(data, stderr=True)

    def _start(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except TollhouseError as error:
                self.post(Failed(error))
            except Exception as error:  # as in _perform
                self.post(Failed(internal_fault(error, str(self._session.state))))

        self._work = asyncio.get_running_loop().create_task(guarded())

    async def _halt(self) -> None:
        work, self._work = self._work, None
        if work is not None and not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        await self._execution.stop()

    async def _close(self, code: int, reason: str) -> None:
        """Close the record and the channel; what failed on the way wins over the code."""
        fault = self._fault
        if fault is not None and code != ExitCode.GATEWAY_FAULT:
            code, reason = ExitCode.GATEWAY_FAULT, fault.rule
            await self._tell_fault(fault)
        await self._record.close(reason)
        self._outlet.exit(code)
        self._closed = True

    async def _tell_fault(self, error: TollhouseError) -> None:
        """Past the record, which may be what failed; once in a session."""
        if not self._told_fault:
            self._told_fault = True
            await self._outlet.send(notice.refusal(error, None, as_json=self._as_json), stderr=True)

    async def _give_up(self, error: TollhouseError) -> None:
        """The record cannot be closed: say so, and close the gate all the same."""
        await self._tell_fault(error)
        self._outlet.exit(ExitCode.GATEWAY_FAULT)
        self._closed = True

    async def _let_go(self) -> None:
        try:
            await self._halt()
        except Exception as error:  # the gate is down; nobody is left to be told but the log
            internal_fault(error, "letting go")
        finally:
            if not self._closed:
                self._outlet.exit(ExitCode.GATEWAY_FAULT)

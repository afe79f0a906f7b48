"""Running a granted line: the guard upstream, psql in its sandbox, tickets in between.

psql is fed one-use tickets; the guard replaces each by the decided bytes. So psql
never lexes what the user wrote, and what was decided is byte for byte what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath

from gateway.config import Target
from gateway.connectors.psql.launch import launch
from gateway.connectors.psql.output import OutputSplitter
from gateway.core.approval import Grant
from gateway.core.events import Judgement, Summary
from gateway.core.mask import mask_text
from gateway.core.plan import Unit
from gateway.edge.child import Child, Level, spawn
from gateway.edge.pgguard import PgGuard
from gateway.edge.pumps import Pumps
from gateway.edge.recording import Recording
from gateway.edge.runner import Sink
from gateway.edge.targets import Targets
from gateway.errors import Denied, GatewayFault, TargetUnavailable
from gateway.guards.pgwire.guard import GuardSettings
from gateway.guards.pgwire.outputs import (
    CatalogChanged,
    Event,
    ResultDone,
    RowsExceeded,
    UnitDone,
    UnitStarted,
    WireTicket,
)
from gateway.sql.catalog_queries import FINGERPRINT

END_TIMEOUT_S = 5.0

EXIT_ERROR = 1
"""psql -c after an error, also under ON_ERROR_STOP (measured on 15.18, 16.14 and 18.4)."""
EXIT_SCRIPT_STOPPED = 3
"""A script under ON_ERROR_STOP after an error."""


class Executions:
    """Makes one execution a session.

    Args:
        targets: how to reach them.
        level: the sandbox level of children.
        psql: the client's program, by target name.
        runtime_dir: a private folder with a short path, for the guards' sockets.
        max_output_bytes: of one session.
    """

    def __init__(
        self,
        targets: Targets,
        *,
        level: Level,
        psql: dict[str, Path],
        runtime_dir: Path,
        max_output_bytes: int,
    ) -> None:
        self.targets = targets
        self.level = level
        self.psql = psql
        self.runtime_dir = runtime_dir
        self.max_output_bytes = max_output_bytes

    def begin(self, target: Target, session: str, recording: Recording) -> PsqlExecution:
        """The execution of one session; nothing is started yet."""
        return PsqlExecution(self, target, session, recording)


class PsqlExecution:
    """One session's guard and psql."""

    def __init__(
        self, owner: Executions, target: Target, session: str, recording: Recording
    ) -> None:
        self._owner = owner
        self._target = target
        self._session = session
        self._recording = recording
        self._folder: Path | None = None
        self._guard: PgGuard | None = None
        self._child: Child | None = None
        self._quiet_marker: str | None = None
        self._restrict_key = secrets.token_hex(16)
        self._units: dict[str, Unit] = {}
        self._sent: list[Unit] = []
        self._noted = 0
        self._rows = 0
        self._masked: Counter[str] = Counter()
        self._failed = False
        self._refusal: Denied | TargetUnavailable | None = None

    async def prepare(self, judgement: Judgement) -> None:
        """Log in upstream with the login that was judged, and set up the guard.

        Raises:
            TargetUnavailable: the target does not answer, or its definitions changed.
            GatewayFault: the guard's socket cannot be made.
        """
        catalog = await self._owner.targets.current(self._target.name)
        if catalog.fingerprint != judgement.parsed.catalog:
            raise _changed()
        self._folder = self._owner.runtime_dir / secrets.token_hex(8)
        if judgement.line.quiet:
            self._quiet_marker = secrets.token_hex(16)
        settings = GuardSettings(
            parameters={},
            catalog=catalog,
            fingerprint_sql=FINGERPRINT,
            text_filter=_masked_bytes,
            quiet_marker=self._quiet_marker,
        )
        self._guard = await PgGuard.open(
            self._owner.targets.upstream(self._target, judgement.login),
            self._folder,
            settings,
            on_event=self._on_event,
        )

    async def run(self, judgement: Judgement, grant: Grant, sink: Sink) -> Summary:
        """Feed psql the units of the line, one after the other.

        Raises:
            Denied: the grant is for other bytes, or more was touched than it allows.
            TargetUnavailable: the server went away or its definitions changed.
            GuardBroken: psql or the server said what was not decided.
            RecorderFault: the record cannot be kept.
        """
        if grant.fields != judgement.fields:
            raise Denied("The grant is for another command", rule="ticket.mismatch")
        assert self._guard is not None
        child = self._child = await self._spawn(judgement)
        self._guard.admit(child.is_child)
        splitter = OutputSplitter(self._quiet_marker)
        pumps = Pumps(child, sink, splitter, self._owner.max_output_bytes)
        try:
            await self._feed_units(judgement, grant, child, pumps)
            own_code = await self._let_end(child, pumps)
        finally:
            await pumps.cancel()
        await self._raise_refusal()
        counted = self._masked + Counter({f"pattern:{k}": n for k, n in pumps.counts.items()})
        return Summary(
            exit_code=self._exit_code(judgement, own_code),
            rows=self._rows,
            out_bytes=pumps.out_bytes,
            masked=tuple(sorted(counted.items())),
        )

    async def stop(self) -> None:
        """Cancel on the server, end psql and remove the socket's folder; again is no error."""
        guard, self._guard = self._guard, None
        child, self._child = self._child, None
        folder, self._folder = self._folder, None
        try:
            if guard is not None:
                await guard.close()
        finally:
            if child is not None:
                await child.aclose()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    async def _spawn(self, judgement: Judgement) -> Child:
        assert self._folder is not None
        spec = launch(
            judgement.line.arguments,
            socket_dir=PurePosixPath(self._folder),
            user=judgement.fields.upstream_role,
            database=judgement.fields.database,
            restrict_key=self._restrict_key,
        )
        return await spawn(
            spec,
            level=self._owner.level,
            program_path=self._owner.psql[self._target.name],
        )

    async def _feed_units(
        self, judgement: Judgement, grant: Grant, child: Child, pumps: Pumps
    ) -> None:
        assert self._guard is not None
        for unit in judgement.parsed.units:
            ticket = WireTicket(
                id=secrets.token_hex(16),
                nonce=secrets.token_hex(16),
                unit=unit,
                catalog=judgement.parsed.catalog,
                max_rows=grant.max_rows,
            )
            self._failed = False
            self._units[ticket.id] = unit
            self._guard.queue(ticket)
            pumps.expect(ticket.nonce)
            child.stdin.write(ticket.lines)
            with contextlib.suppress(ConnectionError):  # psql is gone: its output ends too
                await child.stdin.drain()
            reached = await pumps.reached(ticket.nonce)
            await self._note_sent()
            if not reached or self._refusal is not None:
                return
            if self._failed and judgement.line.stop_on_error:
                return

    async def _let_end(self, child: Child, pumps: Pumps) -> int:
        """Close psql's stdin, take the rest of its output and its exit code."""
        child.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await pumps.finish()
                return await child.wait()
        except TimeoutError:
            raise GatewayFault("psql did not end", rule="child.end") from None

    async def _note_sent(self) -> None:
        sent, self._sent = self._sent, []
        for unit in sent:
            await self._recording.sent(unit.text, self._noted)
            self._noted += 1

    async def _raise_refusal(self) -> None:
        """What the guard had to say wins over psql's own exit code."""
        if self._refusal is not None:
            raise self._refusal
        assert self._guard is not None
        async with asyncio.timeout(END_TIMEOUT_S):
            error = await self._guard.wait_closed()
        if error is not None:
            raise error

    def _exit_code(self, judgement: Judgement, own_code: int) -> int:
        """psql's habits: ``-c`` fails with 1, a script with 3 and only if it stops on errors.

        The child is always fed a script, so its own 3 is not what ``-c`` would have said.
        """
        if not self._failed or own_code not in (0, EXIT_SCRIPT_STOPPED):
            return own_code
        if judgement.line.form == "single":
            return EXIT_ERROR
        return EXIT_SCRIPT_STOPPED if judgement.line.stop_on_error else 0

    def _on_event(self, event: Event) -> None:
        match event:
            case UnitStarted(id=ticket):
                self._sent.append(self._units[ticket])
            case ResultDone(rows=rows, tag=tag, masked=masked):
                self._rows += rows or rows_of(tag)
                for column in masked:
                    self._masked[f"column:{column.kind or 'phi'}"] += column.cells
            case UnitDone(error=error):
                self._failed = error is not None
            case CatalogChanged():
                self._refusal = _changed()
            case RowsExceeded(rows=rows, max_rows=limit):
                self._refusal = Denied(
                    f"{rows} rows are more than the {limit} that were granted; all was rolled back",
                    "Narrow the statement, or ask for a grant of more rows",
                    rule="grant.max-rows",
                )
            case _:
                pass


def _masked_bytes(text: bytes) -> bytes:
    """The guard's filter for what the server says in words."""
    return mask_text(text.decode("utf-8", "replace")).encode()


def rows_of(tag: str) -> int:
    """The row count at the end of a command tag (``DELETE 3``), or 0."""
    last = tag.rsplit(" ", 1)[-1]
    return int(last) if last.isascii() and last.isdigit() else 0


def _changed() -> TargetUnavailable:
    return TargetUnavailable(
        "The target's definitions changed while this line was decided; nothing was sent",
        "Send the command again",
        rule="target.catalog-changed",
    )

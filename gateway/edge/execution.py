"""Running one granted line: a lane of its own, psql's habits, and the numbers of what it did."""

from __future__ import annotations

import secrets
from collections import Counter
from pathlib import Path

from gateway.config import Target
from gateway.connectors.psql.output import OutputSplitter
from gateway.core.approval import Grant
from gateway.core.events import Judgement, Summary
from gateway.core.plan import Unit
from gateway.edge.child import Level
from gateway.edge.lane import Lane, catalog_changed
from gateway.edge.pumps import Pumps
from gateway.edge.recording import Recording
from gateway.edge.runner import Sink
from gateway.edge.targets import Targets
from gateway.errors import Denied

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

    def begin(self, target: Target, recording: Recording) -> PsqlExecution:
        """The execution of one session; nothing is started yet."""
        return PsqlExecution(self, target, recording)


class PsqlExecution:
    """One command's lane."""

    def __init__(self, owner: Executions, target: Target, recording: Recording) -> None:
        self._owner = owner
        self._target = target
        self._recording = recording
        self._lane: Lane | None = None
        self._quiet_marker: str | None = None
        self._noted = 0

    async def prepare(self, judgement: Judgement) -> None:
        """Log in upstream with the login that was judged, and set up the guard.

        Raises:
            TargetUnavailable: the target does not answer, or its definitions changed.
            GatewayFault: the guard's socket cannot be made.
        """
        catalog = await self._owner.targets.current(self._target.name)
        if catalog.fingerprint != judgement.parsed.catalog:
            raise catalog_changed()
        if judgement.line.quiet:
            self._quiet_marker = secrets.token_hex(16)
        self._lane = await Lane.open(
            self._owner.targets.upstream(self._target, judgement.login),
            catalog,
            self._owner.runtime_dir,
            self._quiet_marker,
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
        lane = self._lane
        assert lane is not None
        child = await lane.start(
            judgement.line.arguments,
            level=self._owner.level,
            psql=self._owner.psql[self._target.name],
        )
        splitter = OutputSplitter(self._quiet_marker)
        pumps = Pumps(child, sink, splitter, self._owner.max_output_bytes)
        try:
            await self._feed(lane, judgement, grant, pumps)
            own_code = await lane.end(pumps)
        finally:
            await pumps.cancel()
        found = Counter({f"pattern:{name}": count for name, count in pumps.counts.items()})
        return Summary(
            exit_code=_exit_code(judgement, own_code, failed=lane.tally.failed),
            rows=lane.tally.rows,
            out_bytes=pumps.out_bytes,
            masked=tuple(sorted((lane.tally.masked + found).items())),
        )

    async def release(self) -> None:
        """The command is over, and so is its lane."""
        await self.stop()

    async def stop(self) -> None:
        """Cancel on the server, end psql and remove the socket's folder; again is no error."""
        lane, self._lane = self._lane, None
        if lane is not None:
            await lane.close()

    async def _feed(self, lane: Lane, judgement: Judgement, grant: Grant, pumps: Pumps) -> None:
        parsed = judgement.parsed
        for unit in parsed.units:
            reached = await lane.feed(unit, parsed.catalog, grant.max_rows, pumps, self._note_sent)
            if not reached or lane.tally.refusal is not None:
                return
            if lane.tally.failed and judgement.line.stop_on_error:
                return

    async def _note_sent(self, unit: Unit) -> None:
        await self._recording.sent(unit.text, self._noted)
        self._noted += 1


def _exit_code(judgement: Judgement, own_code: int, *, failed: bool) -> int:
    """psql's habits: ``-c`` fails with 1, a script with 3 and only if it stops on errors.

    The child is always fed a script, so its own 3 is not what ``-c`` would have said.
    """
    if not failed or own_code not in (0, EXIT_SCRIPT_STOPPED):
        return own_code
    if judgement.line.form == "single":
        return EXIT_ERROR
    return EXIT_SCRIPT_STOPPED if judgement.line.stop_on_error else 0

"""The server's answer to one unit: statement by statement, each under its own plan."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.plan import ResultPlan
from gateway.errors import GuardBroken
from gateway.guards.pgwire import codec, notices
from gateway.guards.pgwire.codec import DATA_ROW, Run
from gateway.guards.pgwire.copyout import CopyMask
from gateway.guards.pgwire.outputs import ResultDone
from gateway.guards.pgwire.rows import Origins, RowMask


class Answer:
    """Turns what the server says about one unit into what psql may read.

    The k-th CommandComplete ends the k-th statement. More results than statements, two
    results for one statement (a rule that adds a query), or a COPY that was not decided
    raise GuardBroken before a byte of them leaves.

    Args:
        results: the plans, one a statement.
        origins: see RowMask.
        id: of the ticket, for the events.
        max_rows: rows a statement may send or touch; tags are then held back until
            ``release``, and nothing more passes once it is exceeded.
        quiet_marker: replaces tags; None keeps them.
    """

    def __init__(
        self,
        results: Sequence[ResultPlan],
        origins: Origins,
        *,
        id: str = "",  # noqa: A002 - the ticket's own word for it
        max_rows: int | None = None,
        quiet_marker: str | None = None,
    ) -> None:
        self._results = results
        self._origins = origins
        self._id = id
        self._max_rows = max_rows
        self._quiet_marker = quiet_marker
        self._index = 0
        self._mask: RowMask | CopyMask | None = None
        self._copy_ended = False
        self._copy_in_refused = False
        self._failed = False
        self._held = b""
        self._events: list[ResultDone] = []
        self.exceeded: int | None = None

    def take_run(self, run: Run) -> bytes:
        """Rows or COPY lines; what of them psql may read.

        Raises:
            GuardBroken: no result is open that they belong to.
        """
        mask = self._mask
        if run.type == DATA_ROW:
            if not isinstance(mask, RowMask):
                raise _undecided("rows")
        elif not isinstance(mask, CopyMask) or self._copy_ended:
            raise _undecided("COPY lines")
        if self._max_rows is not None and mask.rows + len(run.starts) > self._max_rows:
            self.exceeded = mask.rows + len(run.starts)
            return b""
        return self._passed(mask.rewrite(run))

    def take(self, letter: str, body: bytes) -> tuple[bytes, bytes]:
        """One message of the unit's results: what goes to psql, and what to the server.

        Raises:
            GuardBroken: it belongs to no planned statement, or to no known protocol step.
        """
        if self._failed:
            raise _undecided("results after an error")
        match letter:
            case "T":
                mask = RowMask(body, self._plan(), self._origins)
                self._mask = mask
                return self._passed(mask.description()), b""
            case "H":
                self._mask = CopyMask(body, self._plan())
                self._copy_ended = False
                return self._passed(codec.frame("H", body)), b""
            case "c" if isinstance(self._mask, CopyMask) and not self._copy_ended:
                self._copy_ended = True
                return self._passed(codec.frame("c")), b""
            case "C":
                return self._complete(codec.parse_tag(body)), b""
            case "I" if self._index == 0 and self._mask is None:
                return self._passed(codec.frame("I")), b""
            case "G":
                self._plan()
                self._copy_in_refused = True
                return b"", codec.frame("f", codec.cstring(b"refused by the gateway"))
            case _:
                raise _undecided(f"a message of type {letter}")

    def take_events(self) -> list[ResultDone]:
        """The results that ended since the last call."""
        events, self._events = self._events, []
        return events

    def fail(self) -> bytes:
        """The server refused the unit: no tag that was held will be told.

        Returns:
            The gateway's own error, where the refusal was its own doing; else empty.
        """
        self._failed = True
        self._held = b""
        if self._copy_in_refused:
            return notices.own_error(
                "0A000",
                "COPY FROM STDIN does not pass the gate",
                hint="Use INSERT, or ask the operator to load the data",
            )
        return b""

    def release(self) -> bytes:
        """What was held back, for psql now."""
        held, self._held = self._held, b""
        return held

    def _plan(self) -> ResultPlan:
        if self._mask is not None or self._index >= len(self._results):
            raise _undecided("more results")
        return self._results[self._index]

    def _complete(self, tag: bytes) -> bytes:
        if self._index >= len(self._results):
            raise _undecided("more results")
        if isinstance(self._mask, CopyMask) and not self._copy_ended:
            raise _undecided("a tag inside a COPY")
        rows = self._mask.rows if self._mask is not None else 0
        masked = self._mask.masked if self._mask is not None else ()
        self._events.append(ResultDone(self._id, self._index, tag.decode(), rows, masked))
        self._index += 1
        self._mask = None
        affected = _affected_rows(tag)
        if self._max_rows is not None and affected > self._max_rows:
            self.exceeded = max(affected, self.exceeded or 0)
        marker = self._quiet_marker
        shown = codec.command_complete(tag if marker is None else marker.encode())
        if self._max_rows is None:
            return shown
        before = self._passed(b"")
        self._held = shown
        return before

    def _passed(self, data: bytes) -> bytes:
        """Bytes for psql behind what was held; nothing once the limit is exceeded."""
        if self.exceeded is not None:
            self._held = b""
            return b""
        return self.release() + data


def _affected_rows(tag: bytes) -> int:
    """The row count that ends a tag such as ``DELETE 5`` or ``INSERT 0 5``; 0 without one."""
    last = tag.rpartition(b" ")[2]
    return int(last) if last.isdigit() else 0


def _undecided(what: str) -> GuardBroken:
    return GuardBroken(
        f"the server sent {what} that no decided statement has", rule="pgwire.results"
    )

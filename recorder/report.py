"""What a verification found, for programs and for people (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final

REPORT_VERSION: Final = 1


class State(IntEnum):
    """The verdict on one thing; the value is the exit code."""

    INTACT = 0
    NOT_INTACT = 1
    UNREADABLE = 2

    @property
    def label(self) -> str:
        """``intact``, ``not-intact`` or ``unreadable``, as ``--json`` says it."""
        return self.name.lower().replace("_", "-")

    @property
    def words(self) -> str:
        """The same for people."""
        return {0: "intact", 1: "NOT INTACT", 2: "UNREADABLE"}[self]


def worst(states: Iterator[State]) -> State:
    """The verdict on several things: a change that was found outweighs what cannot be read."""
    found = set(states)
    for state in (State.NOT_INTACT, State.UNREADABLE):
        if state in found:
            return state
    return State.INTACT


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as the record says.

    Attributes:
        reason: what is wrong, without recorded text.
        line: the first bad line of a cast, 1-based; None outside casts.
        leaf: the 0-based index of a leaf; None outside the ledger.
        expected: a digest or a number that the record demands; may be empty.
        found: what was there instead; may be empty.
    """

    reason: str
    line: int | None = None
    leaf: int | None = None
    expected: str = ""
    found: str = ""

    def text(self) -> Iterator[str]:
        """The problem in lines for people."""
        place = f"line {self.line}: " if self.line is not None else ""
        place = f"leaf {self.leaf}: " if self.leaf is not None else place
        yield f"{place}{self.reason}"
        if self.expected:
            yield f"  expected {printable(self.expected)}"
        if self.found:
            yield f"  found    {printable(self.found)}"


@dataclass(frozen=True, slots=True)
class CastReport:
    """The verdict on one cast.

    Attributes:
        path: as it was given or found.
        state: see State.
        session: from the header; empty if that cannot be read.
        lines: complete lines in the file; if not intact, up to the first bad one.
        proven_lines: lines up to the last head that holds, or up to what the
            ledger vouches for.
        torn_bytes: bytes after the last line feed, from a crash.
        missing_lines: lines that the salts know and the cast does not hold.
        erased_lines: lines whose text was destroyed; their digests hold.
        root: the chain's head over all lines that could be linked, hex.
        problem: the first bad place, unless intact.
        remarks: what a reader should know all the same.
    """

    path: str
    state: State
    session: str = ""
    lines: int = 0
    proven_lines: int = 0
    torn_bytes: int = 0
    missing_lines: int = 0
    erased_lines: int = 0
    root: str = ""
    problem: Problem | None = None
    remarks: tuple[str, ...] = ()

    @property
    def unproven_lines(self) -> int:
        """Complete lines after the last proven one."""
        return self.lines - self.proven_lines

    @property
    def complete(self) -> bool:
        """Intact, and nothing is unproven, torn or missing."""
        return self.state is State.INTACT and not (
            self.unproven_lines or self.torn_bytes or self.missing_lines
        )

    def counts(self) -> str:
        """The numbers, in words."""
        parts = [f"{self.proven_lines} lines proven"]
        if self.unproven_lines:
            parts.append(f"{self.unproven_lines} unproven after the last head")
        if self.torn_bytes:
            parts.append(f"a torn last line of {self.torn_bytes} bytes, unproven")
        if self.missing_lines:
            parts.append(f"{self.missing_lines} that only the salts know")
        if self.erased_lines:
            parts.append(f"{self.erased_lines} erased")
        return ", ".join(parts)

    def text(self) -> Iterator[str]:
        """The report in lines for people."""
        yield f"{printable(self.path)}: {self.state.words}"
        if self.state is State.INTACT:
            yield f"  {self.counts()}"
        elif self.state is State.NOT_INTACT:
            yield f"  {self.proven_lines} lines proven before the first bad one"
        for line in self.problem.text() if self.problem else ():
            yield f"  {line}"
        for remark in self.remarks:
            yield f"  note: {remark}"


@dataclass(frozen=True, slots=True)
class SessionReport:
    """What the ledger and the cast say about one session.

    Attributes:
        session: its id.
        closed: the ledger holds its ``session.close``.
        recording_failed: it was closed without a root, because the disk refused.
        cast: None if no file is there.
    """

    session: str
    closed: bool
    recording_failed: bool
    cast: CastReport | None

    @property
    def complete(self) -> bool:
        """Closed with a root, and every line proven."""
        whole = self.cast is not None and self.cast.complete
        return self.closed and not self.recording_failed and whole

    def text(self) -> Iterator[str]:
        """The report in lines for people."""
        state = "closed" if self.closed else "never closed (it still runs, or it crashed)"
        state = "closed after its recording failed" if self.recording_failed else state
        if self.cast is None:
            yield f"session {printable(self.session)}: {state}; nothing was recorded"
            return
        yield f"session {printable(self.session)}: {state}"
        yield from (f"  {line}" for line in self.cast.text())


@dataclass(frozen=True, slots=True)
class StoreReport:
    """The verdict on a state folder: its ledger and all its casts.

    Attributes:
        path: as it was given.
        state: see State.
        leaves: in the ledger.
        signed_leaves: those that the newest checkpoint covers.
        checkpoints: how many there are.
        erased_bodies: leaves of which only the hash is left.
        sessions: in the order in which they were opened.
        problems: up to 20 things found in the ledger and between ledger and casts; a
            bad cast carries its own.
        remarks: what a reader should know all the same.
    """

    path: str
    state: State
    leaves: int = 0
    signed_leaves: int = 0
    checkpoints: int = 0
    erased_bodies: int = 0
    sessions: tuple[SessionReport, ...] = ()
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Intact, every leaf signed, and every session closed, recorded and proven."""
        signed = self.leaves == self.signed_leaves
        return self.state is State.INTACT and signed and all(s.complete for s in self.sessions)

    def text(self) -> Iterator[str]:
        """The report in lines for people."""
        yield f"{printable(self.path)}: {self.state.words}"
        if self.leaves:
            yield (
                f"  {self.leaves} leaves, {self.signed_leaves} signed by {self.checkpoints}"
                f" checkpoint(s), {self.leaves - self.signed_leaves} not yet signed,"
                f" {self.erased_bodies} erased"
            )
        for problem in self.problems:
            yield from (f"  {line}" for line in problem.text())
        for remark in self.remarks:
            yield f"  note: {remark}"
        for session in self.sessions:
            yield from (f"  {line}" for line in session.text())


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on everything that was asked about.

    Attributes:
        casts: casts that were named themselves.
        stores: state folders.
        must_be_complete: ``--complete`` was given.
    """

    casts: tuple[CastReport, ...] = ()
    stores: tuple[StoreReport, ...] = ()
    must_be_complete: bool = False

    @property
    def items(self) -> tuple[CastReport | StoreReport, ...]:
        """Casts, then stores."""
        return (*self.casts, *self.stores)

    @property
    def state(self) -> State:
        """Integrity alone."""
        return worst(item.state for item in self.items)

    @property
    def complete(self) -> bool:
        """Completeness alone."""
        return all(item.complete for item in self.items)

    @property
    def exit_code(self) -> int:
        """0 intact, 1 not (or not complete, where that was asked for), 2 unreadable."""
        if self.state is State.INTACT and self.must_be_complete and not self.complete:
            return int(State.NOT_INTACT)
        return int(self.state)

    def to_json(self) -> dict[str, object]:
        """The report as JSON values (docs/formats.md, "Verification report")."""
        return {
            "version": REPORT_VERSION,
            "verdict": self.state.label,
            "complete": self.complete,
            "exit_code": self.exit_code,
            "casts": [_cast_json(cast) for cast in self.casts],
            "stores": [_store_json(store) for store in self.stores],
        }

    def text(self) -> str:
        """The report for people, ended by a line feed."""
        lines = [line for item in self.items for line in item.text()]
        completeness = "complete" if self.complete else "not complete"
        if self.state is State.INTACT:
            lines.append(f"verdict: {self.state.words}, {completeness}")
        else:
            lines.append(f"verdict: {self.state.words}")
        return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    r"""Untrusted text without control and bidi characters: those as ``\u{…}``."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def _cast_json(report: CastReport) -> dict[str, object]:
    values = asdict(report)
    values["state"] = report.state.label
    return values | {"unproven_lines": report.unproven_lines, "complete": report.complete}


def _store_json(report: StoreReport) -> dict[str, object]:
    values = asdict(report)
    values["state"] = report.state.label
    values["sessions"] = [
        {
            "session": session.session,
            "closed": session.closed,
            "recording_failed": session.recording_failed,
            "complete": session.complete,
            "cast": _cast_json(session.cast) if session.cast else None,
        }
        for session in report.sessions
    ]
    return values | {"complete": report.complete}

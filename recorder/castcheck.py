"""Checks one cast against its salts, and against what the ledger says of it.

Reads the cast before the salts: the writer makes salts durable first, so also
beside a running gateway every complete line has its salt.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from recorder.cast import Header, parse_header
from recorder.chain import MAX_LINE_BYTES, Chain, inner_digest
from recorder.errors import CastUnreadable, RecorderError
from recorder.report import CastReport, Problem, State
from recorder.salts import SALT_LINE_BYTES, Proof, parse_salt_line, salts_path

_EVENT: Final = re.compile(rb'\[((?:0|[1-9][0-9]{0,9})\.[0-9]{6}),"([oimrh])","')
_HEAD: Final = re.compile(rb'\[[0-9.]+,"h","([1-9][0-9]{0,18}):([0-9a-f]{64})"\]\n')
_ERASED: Final = re.compile(rb'\[[0-9.]+,"m","\[erased\]"\]\n')
_READ_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Closing:
    """What ``session.close`` says: the whole of the cast.

    Attributes:
        lines: all lines of the cast; with no root, those that were durable.
        root: the head over them, hex; None if the recording had failed.
    """

    lines: int
    root: str | None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the ledger vouches for.

    Attributes:
        session: the id that the header must name; None for a cast on its own.
        genesis: hex, if the ledger holds it.
        anchors: the head (hex) after so many lines.
        closing: set once the session is closed.
    """

    session: str | None = None
    genesis: str | None = None
    anchors: Mapping[int, str] = field(default_factory=dict)
    closing: Closing | None = None


ALONE: Final = Expectation()
"""Nothing is known but the files themselves."""


def check_cast(path: Path, known: Expectation = ALONE) -> CastReport:
    """Verify one cast.

    Args:
        path: the cast; ``<path>.salts`` must lie beside it.
        known: what the ledger says of it.

    Returns:
        A report; nothing is raised for what a file holds.
    """
    try:
        with contextlib.ExitStack() as files:
            cast, _ = _open(path, files)
            size_bytes = os.fstat(cast.fileno()).st_size
            try:
                salts, mode = _open(salts_path(path), files)
            except FileNotFoundError:
                reason = "the salts file beside the cast is missing: nothing can be proven"
                return CastReport(str(path), State.UNREADABLE, problem=Problem(reason))
            walk = _Walk(known)
            walk.run(_Lines(cast, size_bytes), _Salts(salts))
            report = walk.report(str(path))
    except OSError as error:
        reason = f"cannot be read: {error.strerror or 'the system refuses'}"
        return CastReport(str(path), State.UNREADABLE, problem=Problem(reason))
    if mode & 0o077:
        remark = "others than the owner can read the salts file; its mode should be 0600"
        report = replace(report, remarks=(*report.remarks, remark))
    return report


def holds_no_events(path: Path, size_bytes: int) -> bool:
    """Whether the first ``size_bytes`` of a cast are at most its header and a head."""
    if size_bytes > 2 * MAX_LINE_BYTES:
        return False
    try:
        with contextlib.ExitStack() as files:
            cast, _ = _open(path, files)
            lines = list(_Lines(cast, size_bytes))
        if lines:
            parse_header(lines[0])
    except (OSError, CastUnreadable):
        return False
    return all(_HEAD.fullmatch(line) for line in lines[1:])


class _Lines:
    """Complete lines of a cast up to a size; then what is torn or too long."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._left_bytes = size_bytes
        self.torn = b""

    def __iter__(self) -> Iterator[bytes]:
        while self._left_bytes:
            line = self._file.readline(min(MAX_LINE_BYTES + 1, self._left_bytes))
            self._left_bytes -= len(line)
            if not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
                self.torn = line
                return
            yield line


class _Salts:
    """Proofs in order; ``torn`` once the file ended inside one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.torn = False

    def next(self) -> Proof | None:
        """The next proof; None at the end. Raises RecorderError for a malformed line."""
        line = self._file.readline(SALT_LINE_BYTES + 1)
        if not line:
            return None
        if not line.endswith(b"\n") and len(line) < SALT_LINE_BYTES:
            self.torn = True
            return None
        return parse_salt_line(line)

    def left(self) -> int:
        """How many whole lines are left."""
        return (os.fstat(self._file.fileno()).st_size - self._file.tell()) // SALT_LINE_BYTES


class _Walk:
    """One pass over the lines, up to the first problem."""

    def __init__(self, known: Expectation) -> None:
        self._known = known
        self._chain = Chain(bytes(32))
        self._header: Header | None = None
        self._time = b"0.000000"
        self._lines = 0
        self._proven = 0
        self._vouched = 0
        self._erased = 0
        self._torn_bytes = 0
        self._missing = 0
        self._salts_torn = False
        self._problem: Problem | None = None

    def run(self, lines: _Lines, salts: _Salts) -> None:
        for line in lines:
            self._lines += 1
            if self._salts_torn:
                continue
            self._problem = self._step(line, salts)
            if self._problem is not None:
                return
        self._problem = self._check_tail(lines.torn, salts) or self._check_end()

    def report(self, path: str) -> CastReport:
        state = State.NOT_INTACT if self._problem else State.INTACT
        problem = self._problem
        if state is State.INTACT and self._header is None and self._known is ALONE:
            state, problem = State.UNREADABLE, Problem("there is no complete header line")
        return CastReport(
            path=path,
            state=state,
            session=self._header.session if self._header else "",
            lines=self._lines,
            proven_lines=self._proven,
            torn_bytes=self._torn_bytes,
            missing_lines=self._missing,
            erased_lines=self._erased,
            root=self._chain.head if self._header else "",
            problem=problem,
            remarks=tuple(self._remarks()),
        )

    def _remarks(self) -> Iterator[str]:
        if self._salts_torn:
            yield "the salts file ends inside a line: the lines from there on are unproven"
        if self._erased:
            yield "erased lines prove that a line stood there, not what it said"
        if self._known is ALONE:
            yield "checked alone: only the ledger can tell a cut end or a recomputed chain"

    def _step(self, line: bytes, salts: _Salts) -> Problem | None:
        number = self._lines
        if len(line) > MAX_LINE_BYTES:
            return Problem("longer than a line may be", line=number)
        try:
            proof = salts.next()
        except RecorderError:
            return Problem("its line in the salts file is malformed", line=number)
        if proof is None:
            self._salts_torn = salts.torn
            if salts.torn:
                return None
            reason = "no salt belongs to it: the line was added, or the salts were cut"
            return Problem(reason, line=number)
        problem = self._check_inner(line, proof)
        if problem is None:
            problem = self._check_form(line)
        if problem is None:
            self._chain.add_inner(proof.inner)
            problem = self._check_anchor()
        return problem

    def _check_inner(self, line: bytes, proof: Proof) -> Problem | None:
        if proof.salt is None:
            self._erased += 1
            if self._header is not None and _ERASED.fullmatch(line):
                return None
            return Problem("its salt is erased, its text is not", line=self._lines)
        found = inner_digest(proof.salt, line)
        if found == proof.inner:
            return None
        reason = (
            "the line is not the one that was recorded here (or its salt or digest was changed)"
        )
        return Problem(reason, self._lines, expected=proof.inner.hex(), found=found.hex())

    def _check_form(self, line: bytes) -> Problem | None:
        if self._header is None:
            return self._check_header(line)
        event = _EVENT.match(line)
        if event is None or not line.endswith(b'"]\n'):
            return Problem("not an event line", line=self._lines)
        if event[2] != b"h":
            self._time = event[1]
            return None
        head = _HEAD.fullmatch(line)
        if head is None or event[1] != self._time:
            return Problem("not a head of the chain", line=self._lines)
        expected = f"{self._chain.lines}:{self._chain.head}"
        found = f"{head[1].decode()}:{head[2].decode()}"
        if expected != found:
            reason = (
                f"the head does not fit: of lines {self._proven + 1} to {self._lines}"
                " one was changed together with its digest"
            )
            return Problem(reason, self._proven + 1, expected=expected, found=found)
        self._proven = self._lines
        return None

    def _check_header(self, line: bytes) -> Problem | None:
        try:
            self._header = parse_header(line)
        except CastUnreadable as error:
            return Problem(error.reason, line=1)
        self._chain = Chain(self._header.genesis)
        genesis, session = self._known.genesis, self._known.session
        if session is not None and self._header.session != session:
            reason = "the header names another session than the ledger"
            return Problem(reason, 1, expected=session, found=self._header.session)
        if genesis is not None and self._header.genesis.hex() != genesis:
            reason = "the genesis is not the one in the ledger"
            return Problem(reason, 1, expected=genesis, found=self._header.genesis.hex())
        return None

    def _check_anchor(self) -> Problem | None:
        expected = self._known.anchors.get(self._lines)
        if expected is None:
            return None
        if expected != self._chain.head:
            reason = (
                f"the chain was recomputed: the ledger knows another head over line"
                f" {self._lines}; of lines {self._vouched + 1} to {self._lines} one was changed"
            )
            return Problem(reason, self._vouched + 1, expected=expected, found=self._chain.head)
        self._proven = self._vouched = self._lines
        return None

    def _check_tail(self, torn: bytes, salts: _Salts) -> Problem | None:
        """A crash leaves the beginning of a line whose salt is there already."""
        self._torn_bytes = len(torn)
        if torn and not self._salts_torn:
            try:
                proof = salts.next()
            except RecorderError:
                return Problem("its line in the salts file is malformed", line=self._lines + 1)
            self._salts_torn = salts.torn
            if proof is None and not salts.torn:
                reason = "no salt belongs to it: bytes were added, or the salts were cut"
                return Problem(reason, line=self._lines + 1)
            if proof and proof.salt and _was_whole(torn, proof.salt, proof.inner):
                return Problem("its line feed was changed", line=self._lines + 1)
            self._missing = 0 if proof is None else 1
        self._missing += salts.left()
        return None

    def _check_end(self) -> Problem | None:
        linked = self._chain.lines
        vouched = max(self._known.anchors, default=0)
        closing = self._known.closing
        if closing is not None:
            vouched = max(vouched, closing.lines)
        if linked < vouched:
            reason = (
                "the end of the cast or of its salts was cut:"
                f" the ledger knows {vouched} lines, {linked} can be linked"
            )
            return Problem(reason, linked + 1, expected=str(vouched), found=str(linked))
        if closing is None or closing.root is None:
            return None
        if self._lines > closing.lines or self._torn_bytes:
            reason = f"added after the ledger closed the session at {closing.lines} lines"
            return Problem(reason, closing.lines + 1)
        return None


def _was_whole(torn: bytes, salt: bytes, inner: bytes) -> bool:
    return inner_digest(salt, torn[:-1] + b"\n") == inner


def _open(path: Path, files: contextlib.ExitStack) -> tuple[BinaryIO, int]:
    # O_NONBLOCK: a pipe that someone put there must not hang the auditor.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = files.enter_context(os.fdopen(descriptor, "rb", buffering=_READ_BUFFER_BYTES))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(0, "not a regular file")
    return file, stat.S_IMODE(mode)

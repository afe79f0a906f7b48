"""Writes one cast and its salts to disk, durably and in the right order.

Order is the point of this file: the salts of lines are on the disk before the
lines are written, so a complete line without a salt was never written here.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from recorder.cast import Code, Event, Header, event_line, header_line, split_event
from recorder.chain import Chain, salt_for
from recorder.errors import RecorderError
from recorder.salts import salt_line, salts_path

BUFFER_BYTES: Final = 1 << 20
"""Lines are kept back up to this size; then they are written without waiting for ``flush``."""

# O_EXCL also refuses a symbolic link that waits there.
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class CastWriter:
    """One session's recording. Blocking; used by one thread at a time.

    After any RecorderError that speaks of the disk the writer refuses everything
    but ``close``, and ``root`` is None: nobody can vouch for the file as a whole.

    Attributes:
        path: the cast; its salts lie beside it, both readable by the owner only.
    """

    def __init__(
        self, path: Path, cast_fd: int, salts_fd: int, genesis: bytes, seed: bytes
    ) -> None:
        """For ``create``; the descriptors now belong to the writer."""
        self.path = path
        self._cast_fd = cast_fd
        self._salts_fd = salts_fd
        self._chain = Chain(genesis)
        self._seed = seed
        self._cast_buffer = bytearray()
        self._salts_buffer = bytearray()
        self._time_us = 0
        self._durable_lines = 0
        self._at_head = False
        self._failed = False
        self._closed = False

    @classmethod
    def create(
        cls,
        folder: Path,
        session: str,
        *,
        cols: int = 80,
        rows: int = 24,
        started: datetime,
        genesis: bytes,
        seed: bytes,
        title: str | None = None,
    ) -> CastWriter:
        """Start ``<folder>/<session>.cast``; header and first head are durable on return.

        Args:
            folder: exists; only the owner should be able to enter it.
            session: letters, digits, ``.``, ``_`` and ``-``; names the files.
            cols: width of the terminal, cells.
            rows: height of the terminal, cells.
            started: aware.
            genesis: 32 random bytes; public.
            seed: 32 random bytes; kept in memory only.
            title: shown by players.

        Raises:
            RecorderError: the disk refuses, or there is such a recording already.
            ValueError: an argument that no cast may hold; nothing was created.
        """
        line = header_line(Header(session, genesis, cols, rows, started, title))
        path = folder / f"{session}.cast"
        salt_for(seed, 0)
        with _disk("cannot be created"), contextlib.ExitStack() as opened:
            # The salts first: a cast without them could not be verified.
            salts_fd = _open_new(salts_path(path), opened)
            cast_fd = _open_new(path, opened)
            _sync_folder(folder)
            opened.pop_all()
        writer = cls(path, cast_fd, salts_fd, genesis, seed)
        try:
            writer._append(line)
            writer.head()
            writer.sync()
        except RecorderError:
            writer.close()
            raise
        return writer

    @property
    def lines(self) -> int:
        """Lines of the cast, the header included; after a failure, those that are durable."""
        return self._durable_lines if self._failed else self._chain.lines

    @property
    def root(self) -> str | None:
        """The chain's head over all lines, hex; None after a failure."""
        return None if self._failed else self._chain.head

    def write(self, code: Code, data: str, at_s: float) -> None:
        """Add an event; split over several lines of the same time where it is long.

        Buffered: in the file after the next ``flush``, durable after the next ``sync``.

        Args:
            code: any but ``h``, which ``head`` writes.
            data: masked already.
            at_s: seconds since the start; an earlier time than the event before
                counts as the same time.

        Raises:
            RecorderError: the disk refuses.
            ValueError: data, a code or a time that no cast may hold; nothing was
                written and the writer goes on.
        """
        self._check_usable()
        if code == "h":
            raise ValueError("heads are written by head()")
        if not math.isfinite(at_s) or at_s < 0:
            raise ValueError("event time out of range")
        time_us = max(self._time_us, round(at_s * 1_000_000))
        lines = list(split_event(Event(time_us, code, data)))
        self._time_us = time_us
        for line in lines:
            self._append(line)
        if len(self._cast_buffer) >= BUFFER_BYTES:
            self.flush()

    def head(self) -> None:
        """Add the chain's head, unless the last line is one. Durable after ``sync``.

        Raises:
            RecorderError: the writer failed before, or is closed.
        """
        self._check_usable()
        if not self._at_head:
            data = f"{self._chain.lines}:{self._chain.head}"
            self._append(event_line(Event(self._time_us, "h", data)))
            self._at_head = True

    def flush(self) -> None:
        """Return once every line so far is in the file, its salt on the disk.

        A killed process loses none of them then; a machine that loses its power may.

        Raises:
            RecorderError: the disk refuses.
        """
        self._check_usable()
        if not self._cast_buffer:
            return
        with self._poisoning("cannot be written"):
            _write_all(self._salts_fd, self._salts_buffer)
            os.fsync(self._salts_fd)
            _write_all(self._cast_fd, self._cast_buffer)
        self._salts_buffer.clear()
        self._cast_buffer.clear()

    def sync(self) -> None:
        """Return once every line so far and its salt are on the disk.

        Raises:
            RecorderError: the disk refuses.
        """
        self.flush()
        with self._poisoning("cannot be made durable"):
            os.fsync(self._cast_fd)
        self._durable_lines = self._chain.lines

    def close(self) -> None:
        """Write the last head, sync and let go of the files; again is no error.

        After a failure it only lets go.

        Raises:
            RecorderError: the disk refuses; the files are let go all the same.
        """
        if self._closed:
            return
        try:
            if not self._failed:
                self.head()
                self.sync()
        finally:
            self._closed = True
            self._seed = b""
            for descriptor in (self._cast_fd, self._salts_fd):
                # What matters was synced; a failure to let go loses nothing.
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _append(self, line: bytes) -> None:
        salt = salt_for(self._seed, self._chain.lines)
        inner = self._chain.add(salt, line)
        self._salts_buffer += salt_line(salt, inner)
        self._cast_buffer += line
        self._at_head = False

    def _check_usable(self) -> None:
        if self._failed or self._closed:
            raise RecorderError("the recording failed before" if self._failed else "it is closed")

    @contextlib.contextmanager
    def _poisoning(self, what: str) -> Iterator[None]:
        # After a failed fsync the kernel may drop the pages and report success
        # next time, so nothing that comes later can be believed.
        with _disk(what, self._poison):
            yield

    def _poison(self) -> None:
        self._failed = True
        self._seed = b""
        self._cast_buffer.clear()
        self._salts_buffer.clear()


@contextlib.contextmanager
def _disk(what: str, on_error: Callable[[], None] | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if on_error is not None:
            on_error()
        raise RecorderError(f"the recording {what}: {error.strerror}") from error


def _open_new(path: Path, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, _OPEN_FLAGS, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytearray) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])

"""A child: one client program, sandboxed, on pipes or a terminal, owned until it is gone.

The zygote starts it (``gateway/edge/sandbox``); from then on it is a plain child of this
process, in a session and process group of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import stat
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from gateway.connectors import LaunchSpec
from gateway.edge.sandbox import prctl
from gateway.edge.sandbox.launcher import LAUNCHER, REPORT_TIMEOUT_S, Report
from gateway.edge.sandbox.levels import Level, available, choose
from gateway.edge.sandbox.orders import ChildLimits, write_order
from gateway.edge.sandbox.processes import descends
from gateway.edge.sandbox.programs import Program, examine, find_psql
from gateway.edge.sandbox.terminal import (
    TerminalProtocol,
    WindowSize,
    open_terminal,
    set_size,
)
from gateway.edge.sandbox.users import lend_user
from gateway.errors import GatewayFault

__all__ = [
    "Child",
    "ChildLimits",
    "Level",
    "WindowSize",
    "available",
    "choose",
    "find_psql",
    "harden_process",
    "spawn",
]

_ABANDON_TIMEOUT_S = 1.0
_NO_LIMITS = ChildLimits()


def harden_process() -> None:
    """Close the gateway's memory to other processes of its user, and write no core file.

    Raises:
        GatewayFault: the kernel refused.
    """
    try:
        prctl.forbid_dumping()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise GatewayFault(
            "The gateway cannot close its own memory to others",
            "Run it on Linux, with a seccomp profile that permits prctl",
            rule="sandbox",
        ) from error


class _Ends(NamedTuple):
    """The descriptors of one child before it has its streams: its three, and the gateway's.

    Attributes:
        theirs: stdin, stdout, stderr.
        stdin: the gateway's end, to write.
        stdout: to read; the master, where there is a terminal.
        stderr: to read; None where there is a terminal, on which both are.
    """

    theirs: tuple[int, int, int]
    stdin: int
    stdout: int
    stderr: int | None


class Child:
    """A running program.

    Not made directly: ``spawn`` does. Whoever has it must call ``aclose``.

    Attributes:
        pid: its process, or that of the sandbox around it; also its process group.
        stdin: closing it is the child's end of file.
        stdout: with back-pressure: unread output stops the child, not the gateway. With a
            terminal it is all that the child draws, stderr too, in the order drawn.
        stderr: likewise; with a terminal empty, at its end from the start.
    """

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, pid: int, held: ExitStack) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._exit_code: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._reap)
        self._transports: list[asyncio.BaseTransport] = []
        self._terminal: FileIO | None = None
        self._held = held.pop_all()  # let go of when the child is gone

    async def _attach(self, ends: _Ends) -> None:
        """Put streams over the gateway's ends; on failure they and the child are closed."""
        writing = os.fdopen(ends.stdin, "wb", buffering=0)
        reading = [
            os.fdopen(end, "rb", buffering=0)
            for end in (ends.stdout, ends.stderr)
            if end is not None
        ]
        if ends.stderr is None:
            self._terminal = reading[0]
        pipes = [writing, *reading]
        try:
            # A StreamReaderProtocol also knows when a write pipe has closed, for wait_closed.
            transport, protocol = await self._loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), writing
            )
            self._transports.append(transport)
            self.stdin = asyncio.StreamWriter(transport, protocol, None, self._loop)
            self.stdout, *others = [await self._reader(pipe) for pipe in reading]
            self.stderr = others[0] if others else _ended_stream()
        except BaseException:
            await self.aclose()
            raise
        finally:
            if len(self._transports) < len(pipes):  # else they belong to the transports
                for pipe in pipes:
                    pipe.close()

    async def _reader(self, pipe: FileIO) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        kind = asyncio.StreamReaderProtocol if self._terminal is None else TerminalProtocol
        transport, _ = await self._loop.connect_read_pipe(lambda: kind(reader), pipe)
        self._transports.append(transport)
        return reader

    def resize(self, size: WindowSize) -> None:
        """Tell the child's terminal its new size; the child gets no signal.

        psql asks before each table that it draws. Without a terminal, or once the child
        or its terminal is closed, nothing happens: a resize may cross the end.
        """
        if self._terminal is not None and not self._terminal.closed:
            set_size(self._terminal.fileno(), size)

    def is_child(self, pid: int, uid: int) -> bool:
        """Whether a process is this child, or something that this child started.

        For the guard, with what SO_PEERCRED says of who connected. The chain of parents
        is read from /proc in this process's namespace; what cannot be read is no child.
        ``uid`` must be the child's own, too. False once the child is gone.
        """
        return not self._exit_code.done() and descends(pid, self.pid, uid)

    async def wait(self) -> int:
        """The exit code, 128 + N where signal N ended it; may be called often."""
        return await asyncio.shield(self._exit_code)

    def kill(self) -> None:
        """End it and all that stayed in its process group, at once; safe to call twice."""
        if not self._exit_code.done():  # not waited for, so the number is still its own
            _kill_group(self.pid)

    async def aclose(self) -> None:
        """End it, wait for it, close every descriptor; safe to call twice.

        Also when cancelled meanwhile: the group has got its SIGKILL and the descriptors
        are closed before this gives way, and the exit is still reaped by the loop.
        """
        self.kill()
        for transport in self._transports:
            if not transport.is_closing():
                _close_now(transport)
        await self.wait()
        await asyncio.sleep(0)  # the transports close their descriptors in the next turn

    def _reap(self) -> None:
        try:
            # Leave it a zombie first, so that the group's number cannot be given away.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
            _kill_group(self.pid)
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # someone else waited for it
            code = -signal.SIGKILL
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._held.close()
        self._exit_code.set_result(code if code >= 0 else 128 - code)


async def spawn(
    spec: LaunchSpec,
    *,
    level: Level,
    program_path: Path,
    limits: ChildLimits = _NO_LIMITS,
    extra: tuple[Path, ...] = (),
    terminal: WindowSize | None = None,
) -> Child:
    """Start a child and write its first bytes; it runs when this returns.

    Its environment is exactly the specification's (bubblewrap adds ``PWD=/``), its
    descriptors are three pipes, or with a terminal a pipe (stdin) and the terminal twice:
    to write only, raw, and not its controlling terminal. Where the gateway runs as root
    the child gets a user of its own, which is given the guard's folder and what lies in
    it: the guard must listen already. Cancelled in the middle, no process or descriptor
    stays.

    Args:
        spec: what to start.
        level: from ``choose``.
        program_path: the program's own ELF file (``find_psql``).
        limits: resources.
        extra: more files and folders that it may read.
        terminal: the size of the terminal that it draws on; None for pipes.

    Raises:
        GatewayFault: it does not start; nothing of it is left.
    """
    program = examine(program_path, extra)
    with ExitStack() as held:
        uid = held.enter_context(lend_user())
        if uid is not None:
            _give_to_user(uid, program, spec)
        order = write_order(
            level,
            program,
            spec.arguments,
            spec.environment,
            socket_dir=spec.socket_dir,
            uid=uid,
            limits=limits,
        )
        with ExitStack() as theirs, ExitStack() as ours:
            ends = _open_ends(terminal, theirs, ours)
            report = LAUNCHER.send(order, ends.theirs)
            theirs.close()
            pid = await _await_start(report)
            child = _adopt(pid, held)
            ours.pop_all()
            await child._attach(ends)
    child.stdin.write(spec.first_input)
    return child


def _adopt(pid: int, held: ExitStack) -> Child:
    try:
        return Child(pid, held)
    except OSError as error:
        _bury(pid)
        raise _no_descriptors(error) from error


def _no_descriptors(error: OSError) -> GatewayFault:
    return GatewayFault(
        f"The child's pipes or terminal cannot be opened ({error.strerror})",
        "Raise the gateway's limit of open files; for a terminal, see that /dev/pts is mounted "
        "and that sysctl kernel.pty.max is not reached",
        rule="sandbox",
    )


def _open_ends(terminal: WindowSize | None, theirs: ExitStack, ours: ExitStack) -> _Ends:
    stdin_theirs, stdin_ours = _pipe(theirs, ours)
    if terminal is None:
        stdout_ours, stdout_theirs = _pipe(ours, theirs)
        stderr_ours, stderr_theirs = _pipe(ours, theirs)
        return _Ends(
            (stdin_theirs, stdout_theirs, stderr_theirs), stdin_ours, stdout_ours, stderr_ours
        )
    try:
        master, slave = open_terminal(terminal)
    except OSError as error:
        raise _no_descriptors(error) from error
    ours.callback(os.close, master)
    theirs.callback(os.close, slave)
    return _Ends((stdin_theirs, slave, slave), stdin_ours, master, None)


def _ended_stream() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    return reader


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise _no_descriptors(error) from error
    reader.callback(os.close, reading)
    writer.callback(os.close, writing)
    return reading, writing


def _close_now(transport: asyncio.BaseTransport) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()  # close() would wait to write to a child that is gone
    else:
        transport.close()


async def _await_start(report: Report) -> int:
    """Read the report to its end; the pid of a child that runs."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def take() -> None:
        at_end = report.read()
        if at_end and not ended.done():
            loop.remove_reader(report)
            ended.set_result(None)
        elif report.pid is not None:
            report.go_on()

    loop.add_reader(report, take)
    try:
        async with asyncio.timeout(REPORT_TIMEOUT_S):
            await ended
        if report.pid is None or report.failure is not None:
            raise GatewayFault(
                f"The child did not start: {report.failure}",
                "See `tollhouse check --live`",
                rule="sandbox",
            )
        return report.pid
    except BaseException as error:
        if report.pid is None and report.failure is None:  # it may still be on the way
            report.read_all(_ABANDON_TIMEOUT_S, go_on=False)
        _bury(report.pid)
        if isinstance(error, TimeoutError):
            raise GatewayFault("The child did not start in time", rule="sandbox") from error
        raise
    finally:
        loop.remove_reader(report)
        report.close()


def _bury(pid: int | None) -> None:
    """Kill and wait for a child that has no owner; it blocks for the moment it takes."""
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        _kill_group(pid)
        os.waitpid(pid, 0)


def _kill_group(pid: int) -> None:
    # A group whose last member is a zombie still takes the signal; one that is gone, or
    # (before its setsid) was never made, does not.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _give_to_user(uid: int, program: Program, spec: LaunchSpec) -> None:
    """Let the child's user reach the guard's folder, and no other user."""
    _refuse_unreachable(program.path, "Install the client where every user can execute it")
    if spec.socket_dir is None:
        return
    folder = Path(spec.socket_dir)
    _refuse_unreachable(folder, "Keep the state where every user may pass (chmod o+x)")
    try:
        for entry in (folder, *folder.iterdir()):
            os.chown(entry, uid, uid, follow_symlinks=False)
    except OSError as error:
        raise GatewayFault(
            f"The guard's folder cannot be given to the child ({error.strerror})",
            "Run the gateway as root with CAP_CHOWN, or as an ordinary user",
            rule="sandbox",
        ) from error


def _refuse_unreachable(path: Path, advice: str) -> None:
    for parent in path.resolve().parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            raise GatewayFault(
                f"The child's own user cannot pass through {parent}", advice, rule="sandbox"
            )

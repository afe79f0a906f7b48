"""The gateway's side of the zygote: start it once, send it orders, read reports."""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.edge.sandbox.zygote import CHANNEL_FD, GO, MAX_ORDER_BYTES, Order, encode_order
from gateway.errors import GatewayFault

REPORT_TIMEOUT_S = 10.0
"""A child that is not running by then never will be."""

_ROOT = Path(__file__).parents[3]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from gateway.edge.sandbox.zygote import main; main()"
)


class Report:
    """What the zygote and the child say until the program runs; see ``zygote``.

    Attributes:
        pid: the child, once it was made.
        failure: why the program does not run, once that is known.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._text = b""
        self._gone_on = False
        self.pid: int | None = None
        self.failure: str | None = None

    def fileno(self) -> int:
        """The descriptor that is readable when ``read`` has something to do."""
        return self._socket.fileno()

    def read(self) -> bool:
        """Take what has come, waiting for it; True at the end of the report."""
        try:
            data = self._socket.recv(4096)
        except ConnectionResetError:  # the child died without having read GO
            data = b""
        if not data and self.pid is None and self.failure is None:
            self.failure = "the zygote ended"
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            word, _, text = line.decode("ascii", "replace").partition(" ")
            if word == "pid":
                self.pid = int(text)
            elif word == "failed":
                self.failure = text
        return not data

    def go_on(self) -> None:
        """Let the child execute its program; once is enough, more do nothing."""
        if self._gone_on:
            return
        self._gone_on = True
        with contextlib.suppress(OSError):  # it is dead already; the report ends
            self._socket.send(GO)

    def read_all(self, timeout_s: float, *, go_on: bool) -> bool:
        """Read to the end; False if the time ran out first. Without ``go_on`` it only learns
        the pid of a child that nobody wants.
        """
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while (left_s := deadline - time.monotonic()) > 0:
                if not selector.select(left_s):
                    continue
                if self.read():
                    return True
                if self.pid is not None and not go_on:
                    return True
                if self.pid is not None:
                    self.go_on()
        return False

    def close(self) -> None:
        """Give the report up; a child that still waits for its GO ends. Safe to call twice."""
        self._socket.close()


class Launcher:
    """One zygote of this process, started at the first order and again if it is gone.

    Start it from the thread that lives longest (the event loop's): children die with
    the thread that made the zygote.
    """

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._pid = 0
        self._owner_pid = 0
        self._lock = threading.Lock()

    def send(self, order: Order, descriptors: Sequence[int]) -> Report:
        """Order a child; it waits until its report says to go on. The caller closes that.

        Args:
            order: what to start.
            descriptors: its stdin, stdout and stderr; they stay the caller's.

        Raises:
            GatewayFault: the order is too long, or the zygote does not start.
        """
        packet = encode_order(order)
        if len(packet) > MAX_ORDER_BYTES:
            raise GatewayFault("The command line of the child is too long", rule="sandbox")
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise _not_running(error) from error
        try:
            with self._lock:
                try:
                    self._send(packet, [*descriptors, theirs.fileno()])
                except OSError:  # it was killed: once more, with a new one
                    self._forget()
                    self._send(packet, [*descriptors, theirs.fileno()])
        except OSError as error:
            ours.close()
            raise _not_running(error) from error
        finally:
            theirs.close()
        return Report(ours)

    def close(self) -> None:
        """End the zygote; children go on. Safe to call twice."""
        with self._lock:
            self._forget()

    def _send(self, packet: bytes, descriptors: list[int]) -> None:
        if self._channel is None or self._owner_pid != os.getpid():
            self._start()
        assert self._channel is not None
        socket.send_fds(self._channel, [packet], descriptors)

    def _start(self) -> None:
        if self._owner_pid == os.getpid():
            self._forget()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.settimeout(REPORT_TIMEOUT_S)
            null = os.open(os.devnull, os.O_RDWR)
            try:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-S", "-c", _BOOT, str(_ROOT)],
                    {},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, null, 0),
                        (os.POSIX_SPAWN_DUP2, null, 1),
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL_FD),
                    ],
                    setsid=True,
                )
            except OSError:
                ours.close()
                raise
            finally:
                os.close(null)
        self._channel, self._owner_pid = ours, os.getpid()

    def _forget(self) -> None:
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        if self._owner_pid == os.getpid():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)  # ours and not yet waited for
                os.waitpid(self._pid, 0)


def _not_running(error: OSError) -> GatewayFault:
    return GatewayFault(
        f"The process that starts children cannot be reached ({error.strerror})",
        "See that Python can start itself and that no limit of processes or files is reached",
        rule="sandbox",
    )


LAUNCHER = Launcher()
"""The zygote of this process."""
atexit.register(LAUNCHER.close)

"""A terminal for a child to draw on: a pseudo-terminal, raw, in one direction only.

The gateway holds the master open for reading, the child the slave for writing. So
neither can type: there is no input to inject (CVE-2017-5226) or to read. A slave that
cannot be read cannot become a controlling terminal either (``TIOCSCTTY`` in Linux's
``drivers/tty/tty_jobctrl.c`` wants FMODE_READ or CAP_SYS_ADMIN), so no byte and no
resize is ever a signal to the child.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
from contextlib import ExitStack
from dataclasses import dataclass

from gateway.errors import GatewayFault

MAX_CELLS = 65_535
"""The most columns, and the most rows: the fields of ``struct winsize`` have 16 bits."""

# include/uapi/asm-generic/ioctls.h; the same on x86_64 and aarch64.
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


@dataclass(frozen=True, slots=True)
class WindowSize:
    """How large a terminal is.

    Attributes:
        cols: 1 to 65,535. A client may say 0 for "unknown": whoever takes its word for
            the size must choose another.
        rows: likewise.

    Raises:
        GatewayFault: out of range.
    """

    cols: int
    rows: int

    def __post_init__(self) -> None:
        if not (1 <= self.cols <= MAX_CELLS and 1 <= self.rows <= MAX_CELLS):
            raise GatewayFault(
                f"No terminal has {self.cols} columns and {self.rows} rows",
                f"Use 1 to {MAX_CELLS} of each",
                rule="terminal",
            )


def open_terminal(size: WindowSize) -> tuple[int, int]:
    """Make a terminal of this size.

    No echo, no line editing, no signals from bytes, no flow control, and LF stays LF.
    The slave's name in /dev/pts can be opened by nobody but root, and by its owner only
    after a ``chmod``, which the levels that confine do not have.

    Returns:
        The master, read-only, and the slave, write-only. Neither is inherited or becomes
        a controlling terminal; the caller closes both.

    Raises:
        OSError: no descriptor or terminal is left, or /dev/pts is not mounted.
    """
    with ExitStack() as held:
        master = os.open("/dev/ptmx", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        held.callback(os.close, master)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        # By the master and not by name, which could be another's in another /dev/pts.
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        held.callback(os.close, slave)
        os.fchmod(slave, 0)
        _make_raw(slave)
        set_size(master, size)
        held.pop_all()
    return master, slave


def set_size(master: int, size: WindowSize) -> None:
    """Change the size; the child sees it when it next asks.

    Raises:
        OSError: it is no terminal.
    """
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", size.rows, size.cols, 0, 0))


def _make_raw(slave: int) -> None:
    try:
        _, _, _, _, input_speed, output_speed, characters = termios.tcgetattr(slave)
        modes = [0, 0, termios.CS8 | termios.CREAD, 0, input_speed, output_speed, characters]
        termios.tcsetattr(slave, termios.TCSANOW, modes)
    except termios.error as error:  # which is no OSError
        raise OSError(*error.args) from error


class TerminalProtocol(asyncio.StreamReaderProtocol):
    """Reads a master to its end, which the kernel tells as EIO: no slave is open any more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End the stream; with an error only if it is another than EIO."""
        at_end = isinstance(exc, OSError) and exc.errno == errno.EIO
        super().connection_lost(None if at_end else exc)

"""The process that starts all children: small, single-threaded, without secrets.

Forking the gateway would copy its page tables and run Python between fork and exec in
a process with threads. So the gateway starts this one once (``launcher``), with an
empty environment, and sends it orders; each order comes with four descriptors: the
child's stdin, stdout, stderr, and a socket for the report. The child is cloned with
CLONE_PARENT, so that it is the gateway's own: the gateway waits for it and owns its pid.

The report is lines of ASCII: ``pid N``, then ``failed TEXT`` where a step before exec
failed; its end without ``failed`` means that the program runs. Before exec the child
waits for one byte, GO, so that the gateway knows it before it can do anything.

Run as ``python -I -S``: it imports the standard library and this folder only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from typing import NamedTuple, NoReturn

from gateway.edge.sandbox import landlock, prctl, seccomp

CHANNEL_FD = 3
"""Where the zygote finds its end of the channel."""
FILTER_FD = 4
"""Where an outer sandbox program finds the seccomp filter that it shall install."""
MAX_ORDER_BYTES = 131_072
"""Above it an order is not sent."""
GO = b"g"
"""What the gateway writes when the child may execute its program."""
_REPORT_FD = 3
_DESCRIPTORS = 4

_CLONE_PARENT = 0x00008000
_CLONE_NUMBERS = {"x86_64": 56, "aarch64": 220}


class Order(NamedTuple):
    """One child to start; JSON on the wire.

    Attributes:
        program: absolute path of what is executed.
        arguments: its argv, the name first.
        environment: its whole environment.
        parent_pid: the gateway; the child dies with it.
        uid: the user and group to become; None to stay.
        limits: (resource number, value), soft and hard alike (``setrlimit(2)``).
        confine: put landlock and seccomp around the program here.
        hand_filter: give the filter to the program on FILTER_FD instead.
        read: for landlock.
        execute: for landlock.
    """

    program: str
    arguments: list[str]
    environment: dict[str, str]
    parent_pid: int
    uid: int | None
    limits: list[tuple[int, int]]
    confine: bool
    hand_filter: bool
    read: list[str]
    execute: list[str]


def encode_order(order: Order) -> bytes:
    """Write an order as one packet."""
    return json.dumps(order._asdict()).encode("ascii")


def decode_order(packet: bytes) -> Order:
    """Read an order; only the gateway writes them, so the shape is not judged."""
    return Order(**json.loads(packet))


def _arrange_descriptors(descriptors: list[int], filter_program: bytes | None) -> None:
    """Make 0–2 the child's, 3 the report (closed by exec), 4 the filter; close the rest."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number, inheritable=number != _REPORT_FD)
    first_free = _REPORT_FD + 1
    if filter_program is not None:
        reading, writing = os.pipe()
        os.write(writing, filter_program)  # 2 KB fit in a pipe
        # The read end may be 4 already, and dup2 would then leave it as it is.
        os.dup2(reading, FILTER_FD, inheritable=True)
        os.set_inheritable(FILTER_FD, True)
        first_free = FILTER_FD + 1
    os.closerange(first_free, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _become(order: Order) -> None:
    """Give up session, signals, resources, user and privileges, in the order that works."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # what Python or the zygote changed
    for number_of_limit, value in order.limits:
        resource.setrlimit(number_of_limit, (value, value))
    if order.uid is not None:
        os.setgroups([])
        os.setresgid(order.uid, order.uid, order.uid)
        os.setresuid(order.uid, order.uid, order.uid)
    prctl.forbid_new_privileges()
    prctl.die_with_parent(signal.SIGKILL)
    if os.getppid() != order.parent_pid:
        raise OSError("the gateway has ended")
    os.chdir("/")
    os.umask(0o077)


def _run_child(order: Order, descriptors: list[int]) -> NoReturn:
    try:
        machine = os.uname().machine
        handed = seccomp.assemble(machine, None) if order.hand_filter else None
        _arrange_descriptors(descriptors, handed)
        _become(order)
        if order.confine:
            landlock.restrict(read=order.read, execute=order.execute)
            seccomp.install(seccomp.assemble(machine, os.getpid()))
        if os.read(_REPORT_FD, 1) != GO:
            raise OSError("the gateway does not want it any more")
        os.execve(order.program, order.arguments, order.environment)  # noqa: S606
    except BaseException as error:
        # No exception may leave this frame: above it is the zygote's loop.
        text = str(error) if isinstance(error, OSError) else type(error).__name__
        with contextlib.suppress(BrokenPipeError):  # nobody listens any more
            os.write(_REPORT_FD, f"failed {text}\n".encode("ascii", "replace"))
    finally:
        os._exit(70)


def _clone_for_parent() -> int:
    """Fork so that the new process is a child of our parent; 0 in the new process.

    Raises:
        OSError: the kernel refused, or the machine is of an unknown type.
    """
    machine = os.uname().machine
    if machine not in _CLONE_NUMBERS:
        raise OSError(f"clone: its number on {machine} is not known")
    # PyDLL keeps the interpreter lock, which the only thread of the copy then holds.
    libc = ctypes.PyDLL(None, use_errno=True)
    zero = ctypes.c_long(0)
    pid: int = libc.syscall(
        ctypes.c_long(_CLONE_NUMBERS[machine]),
        ctypes.c_long(_CLONE_PARENT | signal.SIGCHLD),
        *(zero, zero, zero, zero),
    )
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"clone: {os.strerror(code)}")
    return pid


def _serve_order(packet: bytes, descriptors: list[int]) -> None:
    try:
        order = decode_order(packet)
        pid = _clone_for_parent()
        if pid == 0:
            _run_child(order, descriptors)
        report = f"pid {pid}\n"
    except (OSError, ValueError, TypeError) as error:
        report = f"failed {error}\n"
    try:
        os.write(descriptors[_REPORT_FD], report.encode("ascii", "replace"))
    except BrokenPipeError:
        return  # the gateway gave this one up; it reads reports until their end


def main() -> None:
    """Serve orders until the gateway closes the channel, which it does by ending, too."""
    prctl.forbid_dumping()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with socket.socket(fileno=CHANNEL_FD) as channel:
        while True:
            packet, descriptors, _, _ = socket.recv_fds(channel, MAX_ORDER_BYTES, _DESCRIPTORS)
            if not packet:
                sys.exit(0)
            if len(descriptors) == _DESCRIPTORS:
                _serve_order(packet, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

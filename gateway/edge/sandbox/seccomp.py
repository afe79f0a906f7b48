"""A seccomp filter, assembled by hand: which system calls a child may make.

Classic BPF over ``struct seccomp_data`` (``include/uapi/linux/seccomp.h``,
``include/uapi/linux/filter.h``). The list is in ``syscalls``; here are the judged ones.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import NamedTuple

from gateway.edge.sandbox import prctl
from gateway.edge.sandbox.syscalls import ALLOWED, JUDGED

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000

_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
_AF_UNIX = 1

_IOCTLS = {
    "TCGETS": 0x5401,  # isatty
    "TCGETS2": 0x802C542A,  # isatty, from glibc 2.42
    "TIOCGWINSZ": 0x5413,  # psql asks how wide it may draw
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}
"""What a child may ask of a descriptor: to look at its terminal and to set its own flags.

Not to change the terminal (TCSETS), type into it (TIOCSTI, TIOCLINUX: CVE-2017-5226) or
make it its own (TIOCSCTTY); nor to list network interfaces (SIOCGIFCONF). From
``include/uapi/asm-generic/ioctls.h``, the same on both architectures.
"""


class Architecture(NamedTuple):
    """One machine type: its AUDIT_ARCH word and its column in ``syscalls``."""

    audit: int
    column: int


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 0),
    "aarch64": Architecture(0xC00000B7, 1),
}


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _code(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)


def _refuse(code: int) -> bytes:
    return _code(_RETURN, _ERRNO | code)


def _load_argument(index: int) -> bytes:
    # The low 32 bits: each judged argument is an int for the kernel. Both
    # architectures are little-endian.
    return _code(_LOAD, _ARGUMENTS_AT + 8 * index)


_ALLOW_IT = _code(_RETURN, _ALLOW)


def _only_values(index: int, values: tuple[int, ...], refusal: int) -> bytes:
    """Allow when the argument is one of ``values``."""
    tests = b"".join(_code(_IF_EQUAL, value, 0, 1) + _ALLOW_IT for value in values)
    return _load_argument(index) + tests + _refuse(refusal)


def _judgements(own_pid: int | None) -> dict[str, bytes]:
    threads_only = (
        _load_argument(0)
        + _code(_IF_ANY_BIT, _CLONE_THREAD, 0, 1)
        + _ALLOW_IT
        + _refuse(errno.EPERM)
    )
    to_itself = _ALLOW_IT if own_pid is None else _only_values(0, (own_pid,), errno.EPERM)
    of_itself = _only_values(0, (0,) if own_pid is None else (0, own_pid), errno.EPERM)
    return {
        "clone": threads_only,  # no new process: no fork bomb, no shell
        "ioctl": _only_values(1, tuple(_IOCTLS.values()), errno.EPERM),
        "kill": to_itself,
        "tgkill": to_itself,
        "prlimit64": of_itself,
        "socket": _only_values(0, (_AF_UNIX,), errno.EAFNOSUPPORT),
    }


def assemble(machine: str, own_pid: int | None) -> bytes:
    """Make the filter as an array of ``struct sock_filter``.

    Args:
        machine: ``os.uname().machine``.
        own_pid: the only process that may get a signal; None in a process namespace
            of its own, where the others cannot be named.

    Raises:
        OSError: the machine is of another type, for which there is no list.
    """
    if machine not in ARCHITECTURES:
        raise OSError(f"seccomp: no list of system calls for {machine}")
    audit, column = ARCHITECTURES[machine]
    code = [
        _code(_LOAD, _ARCHITECTURE_AT),
        _code(_IF_EQUAL, audit, 1, 0),
        _code(_RETURN, _KILL_PROCESS),
        _code(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":  # x32 calls have other numbers under the same architecture
        code += [_code(_IF_AT_LEAST, _X32_BIT, 0, 1), _code(_RETURN, _KILL_PROCESS)]
    for numbers in ALLOWED.values():
        number = numbers[column]
        if number is not None:
            code += [_code(_IF_EQUAL, number, 0, 1), _ALLOW_IT]
    for name, judgement in _judgements(own_pid).items():
        number = JUDGED[name][column]
        assert number is not None, "every judged call exists everywhere"
        code += [_code(_IF_EQUAL, number, 0, len(judgement) // 8), judgement]
    return b"".join([*code, _refuse(errno.ENOSYS)])


def install(program: bytes) -> None:
    """Put this thread, and all that it starts, under the filter, for good.

    Args:
        program: from ``assemble``. ``no_new_privs`` must be set.

    Raises:
        OSError: the kernel refused.
    """
    prctl.filter_calls(ctypes.byref(_SockFprog(len(program) // 8, program)))

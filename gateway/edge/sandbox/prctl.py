"""What a process says about itself to the kernel (``prctl(2)``).

Constants from ``include/uapi/linux/prctl.h``.
"""

from __future__ import annotations

import ctypes
import os

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2

_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(option: int, value: int, pointer: object = None) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl: {os.strerror(code)}")


def forbid_dumping() -> None:
    """Close this process's memory, environment and descriptors to others of its user.

    ``/proc/<pid>/environ``, ``mem``, ``fd`` and ``ptrace`` then need CAP_SYS_PTRACE.
    Executing another program ends it.

    Raises:
        OSError: the kernel refused.
    """
    _call(_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Set ``no_new_privs``: no set-user-id program lifts this process any more.

    Raises:
        OSError: the kernel refused.
    """
    _call(_SET_NO_NEW_PRIVS, 1)


def die_with_parent(signal_number: int) -> None:
    """Get this signal when the thread that made this process ends; a change of user undoes it.

    Raises:
        OSError: the kernel refused.
    """
    _call(_SET_PDEATHSIG, signal_number)


def filter_calls(fprog: object) -> None:
    """Put this thread under a seccomp filter: a pointer to ``struct sock_fprog``.

    Raises:
        OSError: the kernel refused.
    """
    _call(_SET_SECCOMP, _SECCOMP_MODE_FILTER, fprog)

"""Landlock: a process gives up all files, TCP, abstract sockets and signals but a list.

Constants from ``include/uapi/linux/landlock.h``; the kernel's documentation in
``Documentation/userspace-api/landlock.rst`` says which ABI version knows which right.
Landlock does not judge connecting to a Unix socket by its path (until ABI 9), nor
``stat`` and ``chdir``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence

# The three system calls have the same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FS_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""All file rights; ABI 2 adds REFER, 3 TRUNCATE, 5 IOCTL_DEV."""
_NET_RIGHTS = 0b11
"""BIND_TCP and CONNECT_TCP, from ABI 4."""
_SCOPES = 0b11
"""Abstract Unix sockets and signals, from ABI 6."""


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none or it is switched off."""
    try:
        return _call(
            _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION)
        )
    except OSError:
        return 0


def _allow(ruleset: int, path: str, access: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            access |= _READ_DIR  # the kernel refuses it for a file
        rule = _PathBeneathAttr(access, opened)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(opened)


def restrict(*, read: Sequence[str], execute: Sequence[str]) -> None:
    """Give up every file but these, for this thread and all that it starts, for good.

    Nothing stays writable but what is already open, and /dev/null. All TCP is given
    up from ABI 4, abstract sockets of and signals to processes outside from ABI 6;
    seccomp covers what an older kernel lacks. ``no_new_privs`` must be set.

    Args:
        read: files that may be opened to read; folders, with all below them.
        execute: files that may be executed too (a program needs its ELF interpreter).

    Raises:
        OSError: the kernel refused, or a path is not there; nothing is given up yet.
    """
    version = abi()
    if version < 1:
        raise OSError("landlock: not in this kernel, or switched off")
    rights = 0
    for since, added in _FS_RIGHTS_BY_ABI.items():
        rights |= added if version >= since else 0
    attributes = _RulesetAttr(
        rights, _NET_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )
    # An older kernel takes a longer structure if what it does not know is zero.
    ruleset = _call(
        _CREATE_RULESET,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
        ctypes.c_uint32(0),
    )
    try:
        for path in read:
            _allow(ruleset, path, _READ_FILE)
        for path in execute:
            _allow(ruleset, path, _READ_FILE | _EXECUTE)
        _allow(ruleset, "/dev/null", _READ_FILE | _WRITE_FILE)
        _call(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)

"""A child that has turned against its terminal, and against that of another child.

Run by a bare interpreter inside the sandbox, with the attempts' targets as one JSON
object in its first line of input; prints one JSON line for each attempt on the terminal: its
name, whether it got through, and what the system said. It imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

Aim = dict[str, Any]

_TERMINAL = 1
_MARK = b"FORGED"
_LIBC = ctypes.CDLL(None, use_errno=True)


def _ioctl(descriptor: int, request: int, argument: object) -> str:
    if _LIBC.ioctl(descriptor, ctypes.c_ulong(request), argument) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "done"


def _type(aim: Aim) -> str:
    return _ioctl(_TERMINAL, 0x5412, ctypes.byref(ctypes.c_char(b"x")))  # TIOCSTI


def _type_with_a_long_request(aim: Aim) -> str:
    # CVE-2019-10063: the kernel looks at the low half of the request only.
    return _ioctl(_TERMINAL, 0x1_0000_5412, ctypes.byref(ctypes.c_char(b"x")))


def _paste(aim: Aim) -> str:
    return _ioctl(_TERMINAL, 0x541C, ctypes.byref(ctypes.c_char(b"\x03")))  # TIOCLINUX


def _control(aim: Aim) -> str:
    return _ioctl(_TERMINAL, 0x540E, 0)  # TIOCSCTTY


def _control_as_leader(aim: Aim) -> str:
    os.setsid()
    return _ioctl(_TERMINAL, 0x540E, 0)


def _open_controlling(aim: Aim) -> str:
    os.close(os.open("/dev/tty", os.O_RDWR))
    return "there is a controlling terminal"


def _change_modes(aim: Aim) -> str:
    modes = ctypes.create_string_buffer(60)
    _ioctl(_TERMINAL, 0x5401, modes)  # TCGETS
    return _ioctl(_TERMINAL, 0x5402, modes)  # TCSETS, to what they are


def _resize(aim: Aim) -> str:
    return _ioctl(_TERMINAL, 0x5414, (ctypes.c_ushort * 4)(50, 200, 0, 0))  # TIOCSWINSZ


def _read(aim: Aim) -> str:
    os.set_blocking(_TERMINAL, False)
    try:
        return f"{len(os.read(_TERMINAL, 64))} bytes"
    finally:
        os.set_blocking(_TERMINAL, True)


def _reopen_to_read(aim: Aim) -> str:
    os.close(os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NOCTTY))
    return "opened"


def _reopen_by_name(aim: Aim) -> str:
    os.close(os.open(aim["own_name"], os.O_RDWR | os.O_NOCTTY))
    return "opened"


def _open_to_its_user(aim: Aim) -> str:
    os.fchmod(_TERMINAL, 0o666)
    return "its mode was changed"


def _make_terminal(aim: Aim) -> str:
    os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    return "made one"


def _write_neighbour(aim: Aim) -> str:
    return _write(aim["neighbour_name"])


def _write_neighbour_through_proc(aim: Aim) -> str:
    return _write(f"/proc/{aim['neighbour_pid']}/fd/1")


def _write(path: str) -> str:
    opened = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    try:
        return f"{os.write(opened, _MARK)} bytes"
    finally:
        os.close(opened)


def _read_master(aim: Aim) -> str:
    opened = os.open(f"/proc/{aim['gateway_pid']}/fd/{aim['neighbour_master']}", os.O_RDONLY)
    os.close(opened)
    return "opened"


def _list_interfaces(aim: Aim) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        found = ctypes.create_string_buffer(16)
        return _ioctl(made.fileno(), 0x8912, found)  # SIOCGIFCONF


def _surplus_descriptors(aim: Aim) -> str:
    surplus = []
    for number in range(3, 256):
        try:
            os.fstat(number)
        except OSError:
            continue
        surplus.append(number)
    if not surplus:
        raise OSError("only 0, 1 and 2 are open")
    return str(surplus)


ATTEMPTS: dict[str, Callable[[Aim], str]] = {
    "type into its terminal": _type,
    "type with a long request": _type_with_a_long_request,
    "paste into its terminal": _paste,
    "take its terminal": _control,
    "take its terminal as a new leader": _control_as_leader,
    "open /dev/tty": _open_controlling,
    "change its terminal's modes": _change_modes,
    "resize its terminal": _resize,
    "read from its terminal": _read,
    "open its terminal to read": _reopen_to_read,
    "open its terminal by name": _reopen_by_name,
    "open its terminal to its user": _open_to_its_user,
    "make a terminal": _make_terminal,
    "write on another's terminal": _write_neighbour,
    "write on another's terminal through /proc": _write_neighbour_through_proc,
    "read what another draws": _read_master,
    "list network interfaces": _list_interfaces,
    "find an open descriptor": _surplus_descriptors,
}


def main() -> None:
    """Try all; one JSON line each."""
    aim = json.loads(sys.stdin.readline())
    for name, attempt in ATTEMPTS.items():
        try:
            through, said = True, attempt(aim)
        except OSError as error:
            through, said = False, error.strerror or str(error)
        print(json.dumps({"attempt": name, "through": through, "said": said}), flush=True)


if __name__ == "__main__":
    main()

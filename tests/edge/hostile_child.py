"""A child that has turned against the gateway: it tries what must not work.

Run by a bare interpreter inside the sandbox, with the attempts' targets as one JSON
object in its first argument; prints one JSON line for each attempt: its name, whether it
got through, and what the system said. It imports nothing of ours and few of Python's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

Aim = dict[str, Any]

LAST = "execute /bin/sh"

_LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> str:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return str(result)


def _read(path: str) -> str:
    with open(path, "rb") as opened:  # noqa: PTH123 - pathlib costs imports
        return f"{len(opened.read(64))} bytes"


def _read_key(aim: Aim) -> str:
    return _read(aim["key_file"])


def _read_environ(aim: Aim) -> str:
    return _read(f"/proc/{aim['gateway_pid']}/environ")


def _read_memory(aim: Aim) -> str:
    return _read(f"/proc/{aim['gateway_pid']}/mem")


def _ptrace(aim: Aim) -> str:
    seize = 0x4206  # unlike attach, it does not stop the gateway where it succeeds
    return _checked(_LIBC.ptrace(seize, aim["gateway_pid"], 0, 0))


def _read_foreign_memory(aim: Aim) -> str:
    # process_vm_readv with nothing to read still asks for permission.
    number = {"x86_64": 310, "aarch64": 270}[os.uname().machine]
    buffer = ctypes.create_string_buffer(8)
    piece = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    there = (ctypes.c_size_t * 2)(aim["gateway_address"], 8)
    return _checked(_LIBC.syscall(number, aim["gateway_pid"], piece, 1, there, 1, 0))


def _signal(aim: Aim) -> str:
    os.kill(aim["gateway_pid"], 0)
    return "it would be delivered"


def _signal_neighbour(aim: Aim) -> str:
    os.kill(aim["neighbour_pid"], 0)
    return "it would be delivered"


def _lower_limits(aim: Aim) -> str:
    number = {"x86_64": 302, "aarch64": 261}[os.uname().machine]
    nofile = 7
    old = (ctypes.c_uint64 * 2)()
    return _checked(_LIBC.syscall(number, aim["gateway_pid"], nofile, None, old))


def _connect(family: int, address: Any) -> str:
    with socket.socket(family) as made:
        made.settimeout(2)
        made.connect(address)
        answer = made.recv(64).decode()
    if not answer:
        raise OSError("connected, and turned away")
    return answer


def _connect_tcp(aim: Aim) -> str:
    return _connect(socket.AF_INET, ("127.0.0.1", aim["tcp_port"]))


def _connect_neighbour(aim: Aim) -> str:
    return _connect(socket.AF_UNIX, aim["neighbour_socket"])


def _connect_abstract(aim: Aim) -> str:
    return _connect(socket.AF_UNIX, "\0" + aim["abstract"])


def _connect_own(aim: Aim) -> str:
    return _connect(socket.AF_UNIX, aim["own_socket"])


def _send_udp(aim: Aim) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        return str(made.sendto(b"x", ("127.0.0.1", aim["tcp_port"])))


def _write_file(folder: str) -> str:
    path = f"{folder}/tollhouse-hostile"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    with contextlib.suppress(OSError):  # it is written, even if it cannot be removed
        os.unlink(path)  # noqa: PTH108
    return f"wrote in {folder}"


def _write_tmp(aim: Aim) -> str:
    return _write_file("/tmp")


def _write_root(aim: Aim) -> str:
    return _write_file("/")


def _write_own_folder(aim: Aim) -> str:
    return _write_file(os.path.dirname(aim["own_socket"]))  # noqa: PTH120


def _find_neighbour(aim: Aim) -> str:
    if aim["neighbour_socket"].split("/")[-2] not in os.listdir(aim["sessions"]):  # noqa: PTH208
        raise OSError("listed, and only its own is there")
    return "its name is known"


def _list_sockets(aim: Aim) -> str:
    return _read("/proc/net/unix")


def _fork(aim: Aim) -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "forked"


def _execute_shell(aim: Aim) -> str:
    # The last attempt: a shell that runs says so in our stead and ends this list.
    line = json.dumps({"attempt": LAST, "through": True, "said": "a shell ran"})
    os.execv("/bin/sh", ["sh", "-c", f"echo '{line}'"])


def _unshare(aim: Aim) -> str:
    new_user = 0x10000000
    return _checked(_LIBC.unshare(new_user))


def _secrets_in_environment(aim: Aim) -> str:
    surplus = sorted(set(os.environ) - set(aim["environment"]) - {"LC_CTYPE", "PWD"})
    if not surplus:
        raise OSError("nothing but what was specified")
    return " ".join(surplus)


def _open_descriptors(aim: Aim) -> str:
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
    "connect to its own guard": _connect_own,
    "read the gateway's key file": _read_key,
    "read /proc/<gateway>/environ": _read_environ,
    "read /proc/<gateway>/mem": _read_memory,
    "ptrace the gateway": _ptrace,
    "process_vm_readv the gateway": _read_foreign_memory,
    "signal the gateway": _signal,
    "signal another child": _signal_neighbour,
    "prlimit the gateway": _lower_limits,
    "TCP to loopback": _connect_tcp,
    "UDP to loopback": _send_udp,
    "connect to another session's guard": _connect_neighbour,
    "connect to an abstract socket": _connect_abstract,
    "find another session's folder": _find_neighbour,
    "list sockets in /proc/net/unix": _list_sockets,
    "write in /": _write_root,
    "write in /tmp": _write_tmp,
    "write in its guard's folder": _write_own_folder,
    "fork": _fork,
    "make a user namespace": _unshare,
    "find more in the environment": _secrets_in_environment,
    "find an open descriptor": _open_descriptors,
    LAST: _execute_shell,
}


def main() -> None:
    """Try all; one JSON line each."""
    aim = json.loads(sys.argv[1])
    for name, attempt in ATTEMPTS.items():
        try:
            through, said = True, attempt(aim)
        except OSError as error:
            through, said = False, error.strerror or str(error)
        print(json.dumps({"attempt": name, "through": through, "said": said}), flush=True)


if __name__ == "__main__":
    main()

"""A child hostile to its terminal, at each level: ``python -m tests.edge.terminal_attempts``.

A process of its own, as it stands in for the gateway; as root a test runs it as ``nobody``
too. Prints one JSON object: level to lines of ``hostile_terminal``. Standard library and
gateway/edge/child only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import struct
from pathlib import Path

from gateway.edge.child import Level, WindowSize, available, harden_process
from tests.edge.children import python

_HOSTILE = Path(__file__).with_name("hostile_terminal.py")
_TIOCGPTN = 0x80045430
_SIZE = WindowSize(80, 24)
_QUIET = "import sys; print('quiet', flush=True); sys.stdin.read()"


def masters() -> list[int]:
    """This process's descriptors of terminals' masters."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own descriptor, closed again
            if entry.readlink().name == "ptmx":
                found.append(int(entry.name))
    return found


def name_of(master: int) -> str:
    """The path of a master's slave."""
    packed = fcntl.ioctl(master, _TIOCGPTN, bytes(4))
    return f"/dev/pts/{struct.unpack('I', packed)[0]}"


async def attempt_all(level: Level) -> list[dict[str, object]]:
    """Run a quiet child and a hostile one beside it; the hostile one's lines."""
    children = [await python(_QUIET, level, terminal=_SIZE)]
    try:
        assert await children[0].stdout.readline() == b"quiet\n"
        [master] = masters()
        hostile = await python(_HOSTILE.read_text(), level, terminal=_SIZE)
        children.append(hostile)
        [own] = set(masters()) - {master}
        aim = {
            "gateway_pid": os.getpid(),
            "neighbour_pid": children[0].pid,
            "neighbour_master": master,
            "neighbour_name": name_of(master),
            "own_name": name_of(own),
        }
        hostile.stdin.write(json.dumps(aim).encode() + b"\n")
        lines = [json.loads(line) for line in (await hostile.stdout.read()).splitlines()]
        children[0].stdin.close()
        if forged := await children[0].stdout.read():
            lines.append({"attempt": "forge", "through": True, "said": forged.decode()})
        return lines
    finally:
        for child in children:
            await child.aclose()


async def report() -> dict[str, object]:
    """Every level that works here."""
    harden_process()
    return {level: await attempt_all(level) for level in available()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(report())))

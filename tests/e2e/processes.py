"""What /proc says of a gateway's children while a session runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.scene import Scene

WAIT_S = 30.0


def below(pid: int) -> list[int]:
    """All living processes that descend from one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] != b"Z":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found


@dataclass(frozen=True)
class Process:
    """One process, by its folder in /proc."""

    pid: int

    @property
    def folder(self) -> Path:
        """Its folder in /proc."""
        return Path(f"/proc/{self.pid}")

    @property
    def arguments(self) -> list[str]:
        """Its command line; empty once it is gone."""
        try:
            raw = (self.folder / "cmdline").read_bytes()
        except OSError:
            return []
        return raw.decode().split("\0")[:-1]

    @property
    def is_psql(self) -> bool:
        """Whether it is psql itself, and not a sandbox around it."""
        names = [Path(word).name for word in self.arguments]
        return "psql" in names and names[0] != "bwrap"

    @property
    def socket_dir(self) -> Path:
        """The folder of the guard that a psql was told."""
        words = self.arguments
        return Path(words[words.index("-h") + 1])


def family(scene: Scene) -> list[Process]:
    """Everything that runs below the gateway and is not the gateway's own program."""
    assert scene.process is not None
    found = [Process(pid) for pid in below(scene.process.pid)]
    return [each for each in found if "psql" in " ".join(each.arguments)]


def psqls(scene: Scene) -> list[Process]:
    """The clients that run below the gateway now."""
    return [each for each in family(scene) if each.is_psql]


def until(what: str, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> float:
    """Wait for a condition; returns the seconds that it took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started_s


def begin(
    scene: Scene, destination: str, *command: str, options: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start stock ssh and leave it running; the identity has logged in before.

    Where the test run itself was started in the background, SIGINT is ignored and
    would be ignored by ssh too: coreutils' env puts it back.
    """
    return subprocess.Popen(
        ["env", "--default-signal=INT", *scene.ssh_command(destination, *command, options=options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

"""The experiment behind docs/decisions/0003: a hostile child at each level, what got through.

``python -m tests.edge.confinement`` prints the table (docs/runs/confinement.txt); with
``--json`` one JSON object for tests. It stands in for the gateway, so it is a process of
its own: hardened, with a key file, listeners, and a neighbour session. As root it also
runs itself as ``nobody``. Standard library and gateway/edge/child only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import pwd
import secrets
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gateway.connectors import LaunchSpec
from gateway.edge.child import Child, Level, find_psql, harden_process, spawn
from gateway.edge.sandbox import landlock
from gateway.edge.sandbox.levels import try_level
from gateway.edge.sandbox.programs import examine

ROOT = Path(__file__).parents[2]
_HOSTILE = Path(__file__).with_name("hostile_child.py")
ENVIRONMENT = {"LANG": "C.UTF-8"}
_TIMED_STARTS = 50
_ACCEPT_DELAY_S = 0.05


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that every user can execute, and what it reads."""

    path: Path
    extra: tuple[Path, ...]


def passable(path: Path) -> bool:
    """Whether every user can reach a path."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def find_interpreter() -> Interpreter | None:
    """This Python, or the system's if only root can reach this one; None if neither will do."""
    for candidate in (Path(sys.executable), Path("/usr/bin/python3")):
        real = candidate.resolve()
        if not real.exists() or (os.geteuid() == 0 and not passable(real)):
            continue
        asked = "import os, sys; print(sys.version_info >= (3, 11), os.path.dirname(os.__file__))"
        done = subprocess.run([real, "-I", "-S", "-c", asked], capture_output=True, check=True)
        recent, library = done.stdout.decode().split()
        if recent == "True":
            files = examine(real).files
            system = next(Path(name).parent for name, _ in files if "libc.so" in name)
            return Interpreter(real, (Path(library), system))
    return None


class Scene:
    """What a hostile child may aim at; closed by ``close``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="th"))
        self.folder.chmod(0o711)
        self.key_file = self.folder / "ca_key"
        self.key_file.write_text("not a real key\n")
        self.key_file.chmod(0o600)
        self.sessions = self.folder / "s"
        self.sessions.mkdir(mode=0o711)
        self.buffer = ctypes.create_string_buffer(b"gateway!")
        self._held = contextlib.ExitStack()

    def listen(
        self, family: int, address: tuple[str, int] | str, judge: Callable[[int, int], bool]
    ) -> int:
        """Answer whom ``judge`` lets in, close on others; returns the port if there is one."""
        listener = self._held.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.bind(address)
        listener.listen(8)
        listener.setblocking(False)

        def accept() -> None:
            made, _ = listener.accept()
            loop.call_later(_ACCEPT_DELAY_S, answer, made)

        def answer(made: socket.socket) -> None:
            with made:
                packed = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                pid, uid, _ = struct.unpack("3i", packed)
                if family == socket.AF_INET or judge(pid, uid):
                    made.send(b"welcome")

        loop = asyncio.get_running_loop()
        loop.add_reader(listener, accept)
        self._held.callback(loop.remove_reader, listener)
        return int(listener.getsockname()[1]) if family == socket.AF_INET else 0

    def session(self, judge: Callable[[int, int], bool]) -> Path:
        """A session's folder with its guard's socket in it."""
        folder = self.sessions / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        self.listen(socket.AF_UNIX, str(folder / ".s.PGSQL.5432"), judge)
        return folder

    def close(self) -> None:
        """Close the listeners and remove the folder."""
        self._held.close()
        shutil.rmtree(self.folder)


async def attempt_all(level: Level, interpreter: Interpreter) -> list[dict[str, object]]:
    """Run the hostile child at one level; its lines."""
    scene = Scene()
    children: list[Child] = []

    def is_child(index: int) -> Callable[[int, int], bool]:
        # The child may connect first: its guard asks a moment later (see Scene.listen).
        return lambda pid, uid: children[index].is_child(pid, uid)

    try:
        other, own = scene.session(is_child(0)), scene.session(is_child(1))
        wait = ("-I", "-S", "-c", "import sys; sys.stdin.read()")
        children.append(await _start(level, interpreter, wait, other))
        abstract = f"tollhouse-{secrets.token_hex(8)}"
        scene.listen(socket.AF_UNIX, "\0" + abstract, lambda *_: True)
        aim = {
            "gateway_pid": os.getpid(),
            "gateway_address": ctypes.addressof(scene.buffer),
            "neighbour_pid": children[0].pid,
            "key_file": str(scene.key_file),
            "sessions": str(scene.sessions),
            "own_socket": str(own / ".s.PGSQL.5432"),
            "neighbour_socket": str(other / ".s.PGSQL.5432"),
            "tcp_port": scene.listen(socket.AF_INET, ("127.0.0.1", 0), lambda *_: True),
            "abstract": abstract,
            "environment": ENVIRONMENT,
        }
        program = ("-I", "-S", "-c", _HOSTILE.read_text(), json.dumps(aim))
        children.append(await _start(level, interpreter, program, own))
        out, err = await asyncio.gather(children[1].stdout.read(), children[1].stderr.read())
        await children[1].wait()
        assert not err, err.decode()
        return [json.loads(line) for line in out.splitlines()]
    finally:
        for child in children:
            await child.aclose()
        scene.close()


async def _start(
    level: Level, interpreter: Interpreter, arguments: tuple[str, ...], folder: Path
) -> Child:
    spec = LaunchSpec("python", arguments, ENVIRONMENT, PurePosixPath(folder))
    return await spawn(spec, level=level, program_path=interpreter.path, extra=interpreter.extra)


async def time_starts(level: Level) -> dict[str, float]:
    """Median milliseconds until psql runs, and until ``psql --version`` has ended."""
    psql = find_psql()
    started, ended = [], []
    for _ in range(_TIMED_STARTS):
        before = time.perf_counter()
        spec = LaunchSpec("psql", ("--version",), ENVIRONMENT)
        child = await spawn(spec, level=level, program_path=psql)
        started.append(time.perf_counter() - before)
        assert await child.wait() == 0
        ended.append(time.perf_counter() - before)
        await child.aclose()
    return {
        "started_ms": round(statistics.median(started) * 1000, 1),
        "ended_ms": round(statistics.median(ended) * 1000, 1),
    }


async def report(*, timed: bool) -> dict[str, object]:
    """Everything, for the user that this process runs as."""
    harden_process()
    interpreter = find_interpreter()
    levels: dict[str, object] = {}
    for level in Level:
        trial = try_level(level)
        if not trial.works or interpreter is None:
            levels[level] = {"works": trial.works, "reason": trial.reason, "attempts": []}
            continue
        entry: dict[str, object] = {"works": True, "reason": ""}
        entry["attempts"] = await attempt_all(level, interpreter)
        if timed:
            entry["times"] = await time_starts(level)
        levels[level] = entry
    return {
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "bubblewrap": shutil.which("bwrap") is not None,
        "interpreter": interpreter is not None,
        "levels": levels,
    }


def run_as_nobody(*arguments: str, path: str | None = None) -> dict[str, object] | None:
    """The same report from a process of the user ``nobody``; None where no Python can be."""
    interpreter = find_interpreter()
    if interpreter is None or not passable(ROOT / "gateway"):
        return None
    done = subprocess.run(
        [interpreter.path, "-B", "-m", "tests.edge.confinement", "--json", *arguments],
        cwd=ROOT,
        env={"PATH": path or os.environ["PATH"], "LANG": "C.UTF-8"},
        capture_output=True,
        user="nobody",
        group=pwd.getpwnam("nobody").pw_gid,
        extra_groups=[],
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told: dict[str, object] = json.loads(done.stdout)
    return told


def _print_table(told: dict[str, object]) -> None:
    levels = told["levels"]
    assert isinstance(levels, dict)
    print(f"\n## the gateway runs as {told['user']}, bubblewrap in PATH: {told['bubblewrap']}")
    tried = {name: entry for name, entry in levels.items() if entry["attempts"]}
    for name, entry in levels.items():
        state = "works" if entry["works"] else f"does not work: {entry['reason']}"
        times = entry.get("times")
        spent = f"; psql runs after {times['started_ms']} ms" if times else ""
        spent += f", `psql --version` has ended after {times['ended_ms']} ms" if times else ""
        print(f"  {name}: {state}{spent}")
        if entry["works"] and not entry["attempts"]:
            print("    NOT TRIED: no Python that the child's user can execute")
    for index, first in enumerate(next(iter(tried.values()))["attempts"]):
        print(f"  {first['attempt']}")
        for name, entry in tried.items():
            line = entry["attempts"][index]
            print(f"      {name:<11}{'THROUGH' if line['through'] else 'stopped'}  {line['said']}")


def main() -> None:
    """Print the report of this user, and as root that of ``nobody``."""
    timed = "--times" in sys.argv
    told = asyncio.run(report(timed=timed))
    if "--json" in sys.argv:
        print(json.dumps(told))
        return
    print("$ python -m tests.edge.confinement --times")
    print(f"# Linux {platform.release()}, {platform.machine()}, landlock ABI {landlock.abi()}")
    _print_table(told)
    if os.geteuid() == 0:
        for path in (None, "/nonexistent"):
            other = run_as_nobody(*(["--times"] if timed and path is None else []), path=path)
            if other is None:
                print("NOT TRIED as nobody: no Python 3.11 that every user can execute")
            else:
                _print_table(other)


if __name__ == "__main__":
    main()

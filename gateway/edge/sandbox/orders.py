"""From a program and a level to the order for the zygote; pure but for ``getpid``."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from gateway.edge.sandbox.programs import Program
from gateway.edge.sandbox.zygote import FILTER_FD, Order
from gateway.errors import GatewayFault


class Level(StrEnum):
    """How well a child is held, best first; docs/decisions/0003-confinement.md."""

    NAMESPACES = "namespaces"
    CONFINED = "confined"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What one child may use, at every level.

    Attributes:
        memory_bytes: address space; psql holds a whole result in memory.
        cpu_s: processor time, not wall time.
        open_files: descriptors.
        processes: processes and threads of its user. The kernel counts a user's, not a
            child's, so this holds only where each child has a user of its own (the
            gateway runs as root); elsewhere seccomp refuses new processes.
    """

    memory_bytes: int = 1 << 30
    cpu_s: int = 3600
    open_files: int = 64
    processes: int = 32


def write_order(
    level: Level,
    program: Program,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    socket_dir: PurePosixPath | None,
    uid: int | None,
    limits: ChildLimits,
) -> Order:
    """Say how the program is started at this level.

    Raises:
        GatewayFault: the level needs bubblewrap, which is not in PATH.
    """
    read = [*(real for _, real in program.files), *program.extra]
    argv = [str(program.path), *arguments]
    if level is Level.NAMESPACES:
        # Without /proc the loader does not know $ORIGIN, so it is told where libraries are.
        libraries = ":".join(dict.fromkeys(str(Path(name).parent) for name, _ in program.files))
        loader = [program.interpreter, "--library-path", libraries]
        argv = [*_bubblewrap(program, socket_dir), "--", *loader, *argv]
    return Order(
        program=argv[0],
        arguments=argv,
        environment=dict(environment),
        parent_pid=os.getpid(),
        uid=uid,
        limits=_resource_limits(limits, own_user=uid is not None),
        confine=level is Level.CONFINED,
        hand_filter=level is Level.NAMESPACES,
        read=read,
        execute=[str(program.path), program.interpreter],
    )


def _resource_limits(limits: ChildLimits, *, own_user: bool) -> list[tuple[int, int]]:
    chosen = [
        (resource.RLIMIT_CORE, 0),  # a core file would hold what the child had in memory
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ]
    if own_user:
        chosen.append((resource.RLIMIT_NPROC, limits.processes))
    return chosen


def _bubblewrap(program: Program, socket_dir: PurePosixPath | None) -> list[str]:
    """The words before ``--``: a root of its own that holds the program's files only."""
    found = shutil.which("bwrap")
    if found is None:
        raise GatewayFault(
            "bubblewrap (bwrap) is not in PATH", "Install bubblewrap", rule="sandbox"
        )
    words = [found, "--unshare-all", "--unshare-user", "--die-with-parent", "--cap-drop", "ALL"]
    words += ["--seccomp", str(FILTER_FD)]
    for name, real in (*program.files, *((e, e) for e in program.extra)):
        words += ["--dev-bind" if name.startswith("/dev/") else "--ro-bind", real, name]
    words += ["--ro-bind", str(program.path), str(program.path)]
    if socket_dir is not None:
        # Connecting needs no writable mount, only a writable socket.
        words += ["--ro-bind", str(socket_dir), str(socket_dir)]
    return [*words, "--remount-ro", "/", "--chdir", "/"]

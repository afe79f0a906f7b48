"""Which sandbox levels this machine can do, each found out by doing it."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from gateway.edge.sandbox.launcher import LAUNCHER, REPORT_TIMEOUT_S, Report
from gateway.edge.sandbox.orders import ChildLimits, Level, write_order
from gateway.edge.sandbox.programs import examine
from gateway.edge.sandbox.users import lend_user
from gateway.errors import GatewayFault

__all__ = ["Level", "Trial", "available", "choose", "try_level"]

_REMEDIES = {
    Level.NAMESPACES: (
        "Install bubblewrap and allow user namespaces (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), "
        'or set sandbox.required = "confined"'
    ),
    Level.CONFINED: (
        "Use Linux 5.13 or newer with landlock in its lsm= list, on x86_64 or aarch64, and in a "
        "container a seccomp profile that permits landlock_restrict_self"
    ),
    Level.NONE: "See that the gateway may start processes (and as root, change users)",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of starting a harmless child at one level.

    Attributes:
        works: it ran and ended with 0.
        reason: why not; empty when it did.
    """

    works: bool
    reason: str = ""


@functools.cache
def try_level(level: Level) -> Trial:
    """Start ``true`` at this level, once in the life of this process; never raises."""
    found = shutil.which("true", path=os.defpath)
    if found is None:
        return Trial(False, "there is no `true` to try with")
    try:
        with lend_user() as uid:
            order = write_order(
                level,
                examine(Path(found)),
                (),
                {},
                socket_dir=None,
                uid=uid,
                limits=ChildLimits(),
            )
            null = os.open(os.devnull, os.O_RDWR)
            try:
                report = LAUNCHER.send(order, [null, null, null])
            finally:
                os.close(null)
            return _await_trial(report)
    except GatewayFault as fault:
        return Trial(False, fault.reason)


def _await_trial(report: Report) -> Trial:
    try:
        ended = report.read_all(REPORT_TIMEOUT_S, go_on=True)
    finally:
        report.close()
    code: int | None = None
    if report.pid is not None:
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(report.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(report.pid, 0)[1])
    if not ended:
        return Trial(False, "the trial did not end in time")
    if report.failure is not None:
        return Trial(False, report.failure)
    return Trial(True) if code == 0 else Trial(False, f"the trial ended with {code}")


def available() -> tuple[Level, ...]:
    """The levels that work here, best first; each was tried with a real child."""
    return tuple(level for level in Level if try_level(level).works)


def choose(required: str) -> Level:
    """The best level that works.

    Args:
        required: the least that is accepted, by configuration.

    Raises:
        GatewayFault: the best that works is below what is required, or none does.
    """
    least = Level(required)
    for level in Level:
        if try_level(level).works:
            return level
        if level is least:
            raise GatewayFault(
                f"The sandbox level `{least}` does not work here ({try_level(least).reason})",
                _REMEDIES[least],
                rule="sandbox",
            )
    raise GatewayFault("No child can be started", _REMEDIES[Level.NONE], rule="sandbox")

"""What a hostile child gets at each level, from a gateway of this user and of ``nobody``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.edge.confinement import ROOT, run_as_nobody
from tests.edge.hostile_child import ATTEMPTS

_OWN_GUARD = "connect to its own guard"

# What even the level for development keeps, whoever the gateway is.
_ALWAYS_STOPPED = {
    "read /proc/<gateway>/environ",
    "read /proc/<gateway>/mem",
    "ptrace the gateway",
    "process_vm_readv the gateway",
    "connect to another session's guard",
    "find more in the environment",
    "find an open descriptor",
}
# What it keeps besides where each child has a user of its own.
_STOPPED_BY_USER = {
    "read the gateway's key file",
    "signal the gateway",
    "signal another child",
    "prlimit the gateway",
    "find another session's folder",
}


def _through(levels: dict[str, Any], level: str) -> set[str]:
    entry = levels[level]
    if not entry["works"]:
        pytest.skip(f"NOT CHECKED: level {level} does not work here: {entry['reason']}")
    assert {line["attempt"] for line in entry["attempts"]} == set(ATTEMPTS)
    return {line["attempt"] for line in entry["attempts"] if line["through"]}


@pytest.fixture(scope="module")
def as_this_user() -> dict[str, Any]:
    """The levels, tried by a gateway of the user who runs the tests."""
    command = [sys.executable, "-m", "tests.edge.confinement", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["interpreter"], "no Python 3.11 that the child's user can execute"
    levels: dict[str, Any] = told["levels"]
    return levels


@pytest.fixture(scope="module")
def as_nobody() -> dict[str, Any]:
    """The levels, tried by a gateway of an ordinary user; only root can become one."""
    if os.geteuid() != 0:
        pytest.skip("not root: the other tests are those of an ordinary user")
    told: Any = run_as_nobody()
    if told is None:
        pytest.skip("NOT CHECKED as nobody: no Python 3.11 that every user can execute")
    levels: dict[str, Any] = told["levels"]
    return levels


@pytest.mark.parametrize("level", ["namespaces", "confined"])
def test_only_its_own_guard_is_reached(as_this_user: dict[str, Any], level: str) -> None:
    assert _through(as_this_user, level) == {_OWN_GUARD}


@pytest.mark.parametrize("level", ["namespaces", "confined"])
def test_only_its_own_guard_is_reached_as_nobody(as_nobody: dict[str, Any], level: str) -> None:
    assert _through(as_nobody, level) == {_OWN_GUARD}


def test_the_level_for_development_keeps_what_it_says(as_this_user: dict[str, Any]) -> None:
    kept = _ALWAYS_STOPPED | (_STOPPED_BY_USER if os.geteuid() == 0 else set())
    assert not _through(as_this_user, "none") & kept


def test_the_level_for_development_keeps_what_it_says_as_nobody(as_nobody: dict[str, Any]) -> None:
    through = _through(as_nobody, "none")
    assert not through & _ALWAYS_STOPPED
    # The attempts can get through: where nothing stops them, they do.
    assert {"fork", "execute /bin/sh", "TCP to loopback", "read the gateway's key file"} <= through


def test_without_bubblewrap_the_next_level_holds(as_nobody: dict[str, Any]) -> None:
    told: Any = run_as_nobody(path="/nonexistent")
    assert not told["levels"]["namespaces"]["works"]
    assert "bubblewrap" in told["levels"]["namespaces"]["reason"]
    assert _through(told["levels"], "confined") == {_OWN_GUARD}

"""What a hostile child gets of its terminal and another's, under this user and ``nobody``."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from typing import Any

import pytest

from tests.edge.confinement import ROOT, find_interpreter, passable
from tests.edge.hostile_terminal import ATTEMPTS

Report = dict[str, list[dict[str, Any]]]

_MODULE = "tests.edge.terminal_attempts"

# What is stopped even where nothing confines, by how the terminal was opened.
_ALWAYS_STOPPED = {
    "type into its terminal",
    "type with a long request",
    "paste into its terminal",
    "take its terminal",
    "take its terminal as a new leader",
    "open /dev/tty",
    "read from its terminal",
    "open its terminal by name",
    "write on another's terminal",
    "read what another draws",
    "find an open descriptor",
}


def _through(report: Report, level: str) -> set[str]:
    if level not in report:
        pytest.skip(f"NOT CHECKED: level {level} does not work here")
    assert [line["attempt"] for line in report[level]] == list(ATTEMPTS)
    return {line["attempt"] for line in report[level] if line["through"]}


@pytest.fixture(scope="module")
def as_this_user() -> Report:
    """The attempts against a gateway of the user who runs the tests."""
    done = subprocess.run(
        [sys.executable, "-m", _MODULE], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    told: Report = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def as_nobody() -> Report:
    """The attempts against a gateway of an ordinary user: all its children are one user's."""
    if os.geteuid() != 0:
        pytest.skip("not root: the other tests are those of an ordinary user")
    interpreter = find_interpreter()
    if interpreter is None or not passable(ROOT / "gateway"):
        pytest.skip("NOT CHECKED as nobody: no Python 3.11 that every user can execute")
    done = subprocess.run(
        [interpreter.path, "-B", "-m", _MODULE],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        capture_output=True,
        user="nobody",
        group=pwd.getpwnam("nobody").pw_gid,
        extra_groups=[],
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told: Report = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("level", ["namespaces", "confined"])
def test_a_terminal_is_only_for_drawing_on(as_this_user: Report, level: str) -> None:
    assert not _through(as_this_user, level)


@pytest.mark.parametrize("level", ["namespaces", "confined"])
def test_a_terminal_is_only_for_drawing_on_as_nobody(as_nobody: Report, level: str) -> None:
    assert not _through(as_nobody, level)


def test_without_confinement_nothing_can_be_typed_or_read(as_this_user: Report) -> None:
    assert not _through(as_this_user, "none") & _ALWAYS_STOPPED


def test_without_confinement_nothing_can_be_typed_or_read_as_nobody(as_nobody: Report) -> None:
    through = _through(as_nobody, "none")
    assert not through & _ALWAYS_STOPPED
    # The attempts can get through: where nothing stops them, they do.
    assert {"change its terminal's modes", "make a terminal", "list network interfaces"} <= through

"""Parser bombs: denied with a reason, in time; the gateway and other sessions live on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.bombs import DEADLY, EXEC, LEGAL, MAJOR, SCRIPTS, measure, wide
from tests.e2e.scene import Scene

# The decision's own limit is 2 s (limits.decide_timeout_ms); the rest is ssh on a busy machine.
ANSWER_S = 15.0
TARGET = f"db{MAJOR}@etl"
WORKERS = 2


@contextmanager
def living(stage: Scene) -> Iterator[None]:
    """The same gateway process before and after, and it still answers."""
    assert stage.process is not None
    pid = stage.process.pid
    yield
    assert stage.process.poll() is None
    assert stage.process.pid == pid
    done = stage.ssh(TARGET, "select count(*) from claims")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def open_wide() -> Iterator[Scene]:
    """A gateway whose limits let bombs reach the workers."""
    with wide() as stage:
        yield stage


def refused(code: int, stderr: bytes, *, may_run: bool = False) -> None:
    """64 or 77 with one refusal as JSON that says what to do."""
    if may_run and code in (0, 1, 75):
        return
    assert code in (64, 77), (code, stderr)
    (told,) = [json.loads(line) for line in stderr.decode().splitlines()]
    assert told["type"] == "refusal"
    assert told["rule"]
    assert told["reason"]
    assert told["exit_code"] == code


@pytest.mark.parametrize("name", EXEC)
def test_a_bomb_as_one_command(gate: Scene, name: str) -> None:
    before_s = time.monotonic()
    with living(gate):
        done = gate.ssh(TARGET, EXEC[name], env={"TOLLHOUSE_JSON": "1"})
        assert time.monotonic() - before_s < ANSWER_S
    refused(done.returncode, done.stderr, may_run=name in LEGAL)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_bomb_as_a_script(gate: Scene, name: str) -> None:
    before_s = time.monotonic()
    with living(gate):
        done = gate.ssh(TARGET, script=SCRIPTS[name], env={"TOLLHOUSE_JSON": "1"}, options=["-T"])
        assert time.monotonic() - before_s < ANSWER_S
    refused(done.returncode, done.stderr)
    assert done.stdout == b""


@pytest.mark.parametrize("name", DEADLY)
def test_a_bomb_that_reaches_a_worker_ends_the_worker(open_wide: Scene, name: str) -> None:
    before = workers_of(open_wide)
    before_s = time.monotonic()
    with living(open_wide):
        done = open_wide.ssh(
            TARGET, script=DEADLY[name], env={"TOLLHOUSE_JSON": "1"}, options=["-T"]
        )
        assert time.monotonic() - before_s < ANSWER_S
    refused(done.returncode, done.stderr)
    assert json.loads(done.stderr)["rule"] == "sql.too-costly"
    after = workers_of(open_wide)
    assert len(before & after) == len(before) - 1


def workers_of(stage: Scene) -> set[int]:
    """Process ids of the gateway's parsers."""
    assert stage.process is not None
    deadline_s = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline_s:
        children = Path(f"/proc/{stage.process.pid}/task/{stage.process.pid}/children")
        found = {
            int(pid)
            for pid in children.read_text().split()
            if b"judge_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        }
        if len(found) == WORKERS:
            return found
        time.sleep(0.05)
    raise AssertionError("the workers were not replaced")


def test_another_session_beside_a_bomber(
    open_wide: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    # Every command of the quiet session succeeds, or latencies_ms raises; speed is only shown.
    with living(open_wide):
        measured = measure(open_wide, rounds=6, turns=1)
    with capsys.disabled():
        print("", *measured.lines(), sep="\n  ")
    assert len(measured.alone_ms) == len(measured.beside_ms) == 6
    assert set(measured.bomb_codes) == {77}


def test_a_bomb_is_in_the_record(gate: Scene) -> None:
    bomb = EXEC["10,000 operators"]
    gate.ssh(TARGET, bomb)
    config = ("--json", "--config", str(gate.config))
    rows = json.loads(gate.tollhouse("sessions", "list", "--limit", "1", *config).stdout)
    shown = gate.tollhouse("sessions", "show", rows[0]["id"], *config)
    bodies = {leaf["type"]: leaf["body"] for leaf in json.loads(shown.stdout)["leaves"]}
    assert bodies["command.decided"]["verdict"] == "deny"
    assert bodies["command.decided"]["bytes"] == len(bomb)
    assert bodies["session.close"]["reason"] == "refused"

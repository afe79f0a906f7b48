"""The record of a real gateway: replayed by asciinema, and changed in every way there is."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recorder.cast import parse_event
from recorder.report import CastReport, State, StoreReport
from recorder.salts import salts_path
from recorder.verify import verify_cast, verify_store
from recorder.writer import CastWriter
from tests.e2e.scene import CANARIES, Scene, scene
from tests.servers import throwaway

SELECT = "select id, last_name, ssn from patients order by id"
TIMEOUT_S = 60
MAJOR = 16
TARGET = f"db{MAJOR}@etl"
ASCIINEMA = Path(sys.executable).parent / "asciinema"


@dataclass
class Recorded:
    """A gateway's state after it stopped, and its key.

    Attributes:
        cast: of the session that ran SELECT.
        output: what that session's client received.
    """

    stage: Scene
    state: Path
    vkey: str
    cast: Path
    output: str

    def copy(self, folder: Path) -> Path:
        """A state folder to be changed."""
        return Path(shutil.copytree(self.state, folder / "state"))

    def verified(self, folder: Path) -> StoreReport:
        return verify_store(folder, self.vkey)

    def cast_in(self, folder: Path) -> Path:
        return folder / "casts" / self.cast.name

    def session(self) -> str:
        return self.cast.stem


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with throwaway(MAJOR) as server, scene(own_servers={MAJOR: server}) as stage:
        done = stage.ssh(TARGET, SELECT)
        assert done.returncode == 0, done.stderr
        (cast,) = stage.casts()
        assert stage.ssh(TARGET, "drop table patients").returncode == 77
        assert stage.ssh(TARGET, script="select 1;\nselect count(*) from claims;\n").returncode == 0
        assert stage.stop() == 0
        yield Recorded(stage, stage.state, stage.vkey, cast, done.stdout.decode())


def terminal(command: list[str]) -> tuple[int, bytes]:
    """Run a program on a terminal of 80 columns; its exit code and what it drew."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        command, stdin=secondary, stdout=secondary, stderr=secondary,
        start_new_session=True, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(secondary)
    drawn = b""
    try:
        while piece := os.read(primary, 65_536):
            drawn += piece
    except OSError:  # Linux answers EIO once the last holder of the terminal is gone
        pass
    finally:
        os.close(primary)
    return process.wait(TIMEOUT_S), drawn


def shows_the_session(drawn: bytes, output: str) -> None:
    # A recording says CRLF, and a terminal's own line discipline adds a CR again.
    text = drawn.decode().replace("\r", "")
    assert output in text
    assert "[SSN]" in text
    assert not [name for name, canary in CANARIES.items() if canary in text]


def test_asciinema_cat(recorded: Recorded) -> None:
    done = subprocess.run(
        [ASCIINEMA, "cat", recorded.cast], capture_output=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    shows_the_session(done.stdout, recorded.output)


def test_asciinema_play_on_a_terminal(recorded: Recorded) -> None:
    code, drawn = terminal([str(ASCIINEMA), "play", "-s", "100", "-i", "0.1", str(recorded.cast)])
    assert code == 0, drawn
    shows_the_session(drawn, recorded.output)


def test_sessions_list_show_and_replay(recorded: Recorded) -> None:
    config = ("--config", str(recorded.stage.config))
    listed = recorded.stage.tollhouse("sessions", "list", *config, "--json")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert len(rows) == 3
    assert {row["identity_name"] for row in rows} == {"etl"}
    assert recorded.session() in {row["id"] for row in rows}
    shown = recorded.stage.tollhouse("sessions", "show", recorded.session(), *config)
    assert shown.returncode == 0, shown.stderr
    for type_ in (
        "session.open",
        "command.decided",
        "request.sent",
        "command.finished",
        "session.close",
    ):
        assert f" {type_}\n" in shown.stdout
    assert SELECT in shown.stdout
    replayed = recorded.stage.tollhouse("sessions", "replay", recorded.session(), *config, "--cat")
    assert replayed.returncode == 0, replayed.stderr
    shows_the_session(replayed.stdout.encode(), recorded.output)
    assert not [canary for canary in CANARIES.values() if canary in shown.stdout + listed.stdout]


def test_as_it_is_it_is_intact_and_complete(recorded: Recorded) -> None:
    done = recorded.stage.verify("--complete")
    assert done.returncode == 0, done.stdout
    assert "verdict: intact, complete" in done.stdout
    alone = recorded.stage.tollhouse("verify", str(recorded.cast))
    assert alone.returncode == 0, alone.stdout


# Changes of one cast, each seen by the cast alone


@dataclass
class Page:
    """A copy of a cast and of its salts, to be written over again and again."""

    path: Path
    data: bytes

    def change(self, data: bytes) -> CastReport:
        assert data != self.data
        self.path.write_bytes(data)
        return verify_cast(self.path)

    def lines(self) -> list[bytes]:
        return self.data.splitlines(keepends=True)


@pytest.fixture
def page(recorded: Recorded, tmp_path: Path) -> Page:
    for path in (recorded.cast, salts_path(recorded.cast)):
        shutil.copy(path, tmp_path)
    return Page(tmp_path / recorded.cast.name, recorded.cast.read_bytes())


def names(report: CastReport, line: int) -> None:
    """The report is of a broken record and names this line first."""
    assert report.state is State.NOT_INTACT
    assert report.problem is not None
    assert report.problem.line == line, report.problem


def test_every_changed_byte_names_its_line(page: Page) -> None:
    assert verify_cast(page.path).state is State.INTACT
    checked = 0
    for at, byte in enumerate(page.data):
        line = page.data.count(b"\n", 0, at) + 1
        changed = page.data[:at] + bytes([byte ^ 1]) + page.data[at + 1 :]
        report = page.change(changed)
        assert report.state is State.NOT_INTACT, at
        assert report.problem is not None
        # Without its line feed a line runs on into the next; the first of both is named.
        assert report.problem.line == line, (at, report.problem)
        checked += 1
    assert checked == len(page.data) > 500


def test_every_deleted_line_is_named(page: Page) -> None:
    lines = page.lines()
    for index in range(len(lines) - 1):
        names(page.change(b"".join(lines[:index] + lines[index + 1 :])), index + 1)


def test_every_moved_line_is_named(page: Page) -> None:
    lines = page.lines()
    for index in range(len(lines) - 1):
        moved = [*lines]
        moved[index], moved[index + 1] = moved[index + 1], moved[index]
        names(page.change(b"".join(moved)), index + 1)


def test_every_added_line_is_named(page: Page) -> None:
    lines = page.lines()
    for index in range(1, len(lines) + 1):
        copied = lines[index - 1]
        added = b'[0.000001,"o","a row more\\r\\n"]\n'
        for line in (copied, added):
            names(page.change(b"".join([*lines[:index], line, *lines[index:]])), index + 1)


@pytest.mark.parametrize("what", ["byte", "deleted", "moved", "added"])
def test_the_command_line_says_the_same(recorded: Recorded, page: Page, what: str) -> None:
    lines = page.lines()
    last = len(lines) - 2
    changes: dict[str, Callable[[], tuple[list[bytes], int]]] = {
        "byte": lambda: (
            [*lines[:last], lines[last].replace(b"[SSN]", b"[TSN]"), *lines[last + 1 :]],
            last + 1,
        ),
        "deleted": lambda: (lines[:2] + lines[3:], 3),
        "moved": lambda: ([lines[0], lines[2], lines[1], *lines[3:]], 2),
        "added": lambda: ([*lines, lines[-1]], len(lines) + 1),
    }
    changed, line = changes[what]()
    page.path.write_bytes(b"".join(changed))
    done = recorded.stage.tollhouse("verify", str(page.path))
    assert done.returncode == 1, done.stdout
    assert f"line {line}: " in done.stdout


# Changes that a cast alone cannot show: the ledger does


def test_a_recomputed_chain_passes_alone_and_fails_against_the_ledger(
    recorded: Recorded, tmp_path: Path
) -> None:
    state = recorded.copy(tmp_path)
    cast = recorded.cast_in(state)
    header, *lines = cast.read_bytes().splitlines(keepends=True)
    for path in (cast, salts_path(cast)):
        path.unlink()
    genesis = bytes.fromhex(json.loads(header)["x_chain"]["genesis"])
    writer = CastWriter.create(
        cast.parent, cast.stem, started=datetime.now(UTC), genesis=genesis, seed=os.urandom(32)
    )
    for number, line in enumerate(lines, 2):
        event = parse_event(line, number)
        if event.code == "h":
            writer.head()
        else:
            text = event.data.replace("(2 rows)", "(9 rows)")
            writer.write(event.code, text, event.time_us / 1_000_000)
    writer.close()
    assert b"(9 rows)" in cast.read_bytes()
    assert verify_cast(cast).state is State.INTACT
    report = recorded.verified(state)
    assert report.state is State.NOT_INTACT
    (bad,) = [s.cast for s in report.sessions if s.cast and s.cast.problem]
    assert bad.problem is not None
    assert "recomputed" in bad.problem.reason
    assert bad.session == recorded.session()


def test_a_cut_at_each_head_passes_alone_and_fails_against_the_ledger(
    recorded: Recorded, tmp_path: Path
) -> None:
    state = recorded.copy(tmp_path)
    cast = recorded.cast_in(state)
    lines = cast.read_bytes().splitlines(keepends=True)
    salts = salts_path(cast).read_bytes().splitlines(keepends=True)
    heads = [n for n, line in enumerate(lines[1:], 2) if json.loads(line)[1] == "h"]
    assert len(heads) >= 3
    for head in heads[:-1]:
        cast.write_bytes(b"".join(lines[:head]))
        salts_path(cast).write_bytes(b"".join(salts[:head]))
        assert verify_cast(cast).state is State.INTACT
        report = recorded.verified(state)
        assert report.state is State.NOT_INTACT, head
        (bad,) = [s.cast for s in report.sessions if s.cast and s.cast.problem]
        assert bad.problem is not None
        assert bad.problem.line == head + 1
        assert "cut" in bad.problem.reason


def test_a_session_whose_files_are_gone(recorded: Recorded, tmp_path: Path) -> None:
    state = recorded.copy(tmp_path)
    cast = recorded.cast_in(state)
    cast.unlink()
    salts_path(cast).unlink()
    report = recorded.verified(state)
    assert report.state is State.NOT_INTACT
    assert [problem.reason for problem in report.problems] == ["the cast of a session is gone"]


def execute(state: Path, statement: str, *values: object) -> int:
    """Change the store as somebody who can write to its file."""
    with closing(sqlite3.connect(state / "store.sqlite3", isolation_level=None)) as database:
        return database.execute(statement, values).rowcount


def test_a_session_that_was_dropped_from_the_ledger(recorded: Recorded, tmp_path: Path) -> None:
    state = recorded.copy(tmp_path)
    cast = recorded.cast_in(state)
    cast.unlink()
    salts_path(cast).unlink()
    assert execute(state, "DELETE FROM leaf WHERE session = ?", recorded.session()) > 3
    execute(state, "DELETE FROM session WHERE id = ?", recorded.session())
    report = recorded.verified(state)
    assert report.state is State.NOT_INTACT
    assert any("missing" in problem.reason for problem in report.problems)


def test_a_tail_of_leaves_that_was_cut(recorded: Recorded, tmp_path: Path) -> None:
    state = recorded.copy(tmp_path)
    assert execute(state, "DELETE FROM leaf WHERE idx = (SELECT max(idx) FROM leaf)") == 1
    report = recorded.verified(state)
    assert report.state is State.NOT_INTACT
    assert any("cut" in problem.reason for problem in report.problems)


def test_a_changed_body_names_its_leaf(recorded: Recorded, tmp_path: Path) -> None:
    state = recorded.copy(tmp_path)
    changed = execute(
        state,
        "UPDATE leaf SET body = CAST(replace(CAST(body AS TEXT), 'no-ddl', 'no-dml') AS BLOB)"
        " WHERE type = 'command.decided' AND CAST(body AS TEXT) LIKE '%no-ddl%'",
    )
    assert changed == 1
    report = recorded.verified(state)
    assert report.state is State.NOT_INTACT
    (problem,) = [each for each in report.problems if "body" in each.reason]
    assert problem.leaf is not None
    done = recorded.stage.tollhouse("verify", "--vkey", recorded.vkey, str(state))
    assert done.returncode == 1
    assert f"leaf {problem.leaf}: " in done.stdout


def test_another_log_key_is_not_believed(recorded: Recorded, tmp_path: Path) -> None:
    state = recorded.copy(tmp_path)
    other = recorded.vkey[:-4] + ("AAA=" if recorded.vkey[-4:] != "AAA=" else "BBB=")
    done = recorded.stage.tollhouse("verify", "--vkey", other, str(state))
    assert done.returncode in (1, 2)

"""A gateway that is killed, a server that dies, a client that leaves."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import WAIT_S, begin, below, family, until
from tests.e2e.scene import Scene, scene
from tests.servers import MAJORS, Server, throwaway

MAJOR = MAJORS[-1]
TARGET = f"db{MAJOR}"
GONE_WITHIN_S = 5.0

# psql draws a table once it has it whole; COPY it passes on as it comes.
STREAM = (
    "copy (select i, pg_sleep(0.002), repeat('{mark}', 20) "
    "from generate_series(1, 100000) as g(i)) to stdout"
)
RUNNING = (
    "from pg_stat_activity where state = 'active' and usename = 'th_reader' "
    "and query like '%{mark}%'"
)


@pytest.fixture(scope="module")
def own() -> Iterator[Scene]:
    """An installation with a server of its own; every test leaves it serving."""
    with throwaway(MAJOR) as server, scene(own_servers={MAJOR: server}) as made:
        assert made.ssh(f"{TARGET}@etl", "select 1").returncode == 0
        yield made


def _server(own: Scene) -> Server:
    return own.servers[MAJOR]


class Streaming:
    """A client in the middle of its output.

    Attributes:
        mark: stands in every row and in the statement.
        client: stock ssh.
        received: what it printed so far.
    """

    def __init__(self, own: Scene) -> None:
        self.mark = secrets.token_hex(8)
        self.client = begin(own, f"{TARGET}@etl", STREAM.format(mark=self.mark))
        self.received = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.client.stdout is not None
        while data := os.read(self.client.stdout.fileno(), 65_536):
            self.received += data

    def end(self) -> tuple[int, str]:
        """Wait for its end; exit code and stderr."""
        assert self.client.stdout is not None
        assert self.client.stderr is not None
        code = self.client.wait(WAIT_S)
        self._reader.join(WAIT_S)
        told = self.client.stderr.read().decode()
        self.client.stdout.close()
        self.client.stderr.close()
        return code, told


@contextmanager
def _streaming(own: Scene) -> Iterator[Streaming]:
    started = Streaming(own)
    try:
        until("some output", lambda: len(started.received) > 20_000)
        yield started
    finally:
        if started.client.returncode is None:
            started.client.kill()
            started.end()


def _idle(own: Scene, mark: str) -> bool:
    return _server(own).sql("select count(*) " + RUNNING.format(mark=mark)) == "0"


def _output_of(cast: Path) -> bytes:
    """What a recording says that the client saw."""
    events = [json.loads(line) for line in cast.read_text().splitlines()[1:]]
    return "".join(data for _, code, data in events if code == "o").replace("\r\n", "\n").encode()


def _report(own: Scene, session: str) -> dict[str, Any]:
    """What ``verify --json`` says of one session."""
    (store,) = json.loads(own.verify("--json").stdout)["stores"]
    (found,) = [each for each in store["sessions"] if each["session"] == session]
    report: dict[str, Any] = found
    return report


def test_the_gateway_is_killed_in_mid_output(own: Scene) -> None:
    before = set(own.casts())
    assert own.process is not None
    with _streaming(own) as stream:
        (cast,) = set(own.casts()) - before
        # Late in the second between two heads, so that there is something unproven.
        heads = _heads(cast)
        until("a head", lambda: _heads(cast) > heads)
        until("output after it", lambda: not _ends_in_head(cast))
        descendants = below(own.process.pid)
        own.kill()
        took_s = until(
            "the statement and the children to end",
            lambda: _idle(own, stream.mark) and not any(map(_alive, descendants)),
        )
        code, _ = stream.end()
    assert took_s < GONE_WITHIN_S
    assert code == 255
    # Recorded first, then sent: also where the gateway had no time for anything.
    assert stream.received
    assert _output_of(cast).startswith(bytes(stream.received))

    own.start()
    told = own.verify()
    assert told.returncode == 0, told.stdout
    assert "verdict: intact, not complete" in told.stdout
    session = cast.stem
    part = told.stdout.partition(f"session {session}: ")[2]
    assert part.startswith("never closed")
    report = _report(own, session)
    lines = cast.read_bytes().count(b"\n")
    proven = max(n for n, line in enumerate(cast.read_text().splitlines(), 1) if _is_head(line))
    assert report["closed"] is False
    assert report["cast"]["state"] == "intact"
    assert (report["cast"]["lines"], report["cast"]["proven_lines"]) == (lines, proven)
    assert lines > proven > 3
    assert f"{proven} lines proven, {lines - proven} unproven after the last head" in part
    assert own.verify("--complete").returncode == 1
    assert own.ssh(f"{TARGET}@etl", "select 1").returncode == 0
    # The intent was durable before the first byte: the ledger has the command of this session.
    # A literal beside no relation is not shown; the rest of the command is.
    assert "repeat('[PHI]', 20)" in _intents(own, session)


def _is_head(line: str) -> bool:
    event = json.loads(line)
    return isinstance(event, list) and event[1] == "h"


def _complete_lines(cast: Path) -> list[str]:
    return cast.read_text().rpartition("\n")[0].splitlines()


def _heads(cast: Path) -> int:
    return sum(_is_head(line) for line in _complete_lines(cast))


def _ends_in_head(cast: Path) -> bool:
    return _is_head(_complete_lines(cast)[-1])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def _intents(own: Scene, session: str) -> str:
    """The commands that the ledger says were decided in a session."""
    connection = sqlite3.connect(f"file:{own.state / 'store.sqlite3'}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "select body from leaf where type = 'command.decided' and session = ?", (session,)
        ).fetchall()
    finally:
        connection.close()
    return "\n".join(row[0] if isinstance(row[0], str) else row[0].decode() for row in rows)


@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_the_server_dies_in_mid_output(own: Scene, how: str) -> None:
    before = set(own.casts())
    server = _server(own)
    with _streaming(own) as stream:
        running = RUNNING.format(mark=stream.mark)
        if how == "terminated":
            assert server.sql("select pg_terminate_backend(pid) " + running) == "t"
        else:
            os.kill(int(server.sql("select pid " + running)), signal.SIGKILL)
        code, told = stream.end()
    assert code == 69
    # psql's own words come first; the gateway's refusal wins over psql's own exit code, 2.
    assert "tollhouse: target unavailable [target.gone]: the target closed the connection" in told
    assert ("(SQLSTATE 57P01)" in told) is (how == "terminated")
    assert "What to do: " in told
    (cast,) = set(own.casts()) - before
    assert _output_of(cast).startswith(bytes(stream.received))
    assert _report(own, cast.stem)["complete"] is True
    until("the children to end", lambda: not family(own), GONE_WITHIN_S)
    until("the server", lambda: _answers(server))
    assert own.ssh(f"{TARGET}@etl", "select 1").returncode == 0


def _answers(server: Server) -> bool:
    """Whether it is back; it restarts by itself after a backend was killed."""
    try:
        return server.sql("select 1") == "1"
    except AssertionError:
        return False


LEAVING = {
    "killed": signal.SIGKILL,
    "interrupted": signal.SIGINT,
}


@pytest.mark.parametrize("how", LEAVING)
def test_a_client_that_leaves_takes_its_statement_with_it(own: Scene, how: str) -> None:
    before = set(own.casts())
    with _streaming(own) as stream:
        assert not _idle(own, stream.mark)
        assert family(own)
        stream.client.send_signal(LEAVING[how])
        took_s = until("the statement to end", lambda: _idle(own, stream.mark))
        took_s += until("the children to end", lambda: not family(own))
    assert took_s < GONE_WITHIN_S
    (cast,) = set(own.casts()) - before
    until("the record to be closed", lambda: _report(own, cast.stem)["closed"], GONE_WITHIN_S)
    assert _report(own, cast.stem)["complete"] is True
    assert _output_of(cast).startswith(bytes(stream.received))


def test_a_client_that_leaves_before_its_first_row(own: Scene) -> None:
    mark = secrets.token_hex(8)
    client = begin(own, f"{TARGET}@etl", f"select pg_sleep(60), '{mark}'")
    until("the statement to run", lambda: not _idle(own, mark))
    client.kill()
    client.communicate(timeout=WAIT_S)
    took_s = until("the statement to end", lambda: _idle(own, mark))
    took_s += until("the children to end", lambda: not family(own))
    assert took_s < GONE_WITHIN_S


def test_sigterm_closes_running_sessions_in_order(own: Scene) -> None:
    before = set(own.casts())
    with _streaming(own) as stream:
        started_s = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - started_s < 10
        assert _idle(own, stream.mark)
    (cast,) = set(own.casts()) - before
    assert _report(own, cast.stem)["complete"] is True
    own.start()
    assert own.ssh(f"{TARGET}@etl", "select 1").returncode == 0

"""The prompt, as a person at a terminal meets it: stock ssh, real psql, real servers."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.core.mask import mask_text
from gateway.sql.shown import shown
from tests.e2e.attacks import KNOWN
from tests.e2e.planted import QUERIES, traces_in
from tests.e2e.processes import psqls, until
from tests.e2e.prompt_walk import SIZES, walk
from tests.e2e.scene import CANARIES, DATABASE, Scene
from tests.e2e.terminal import HAS_TMUX, Terminal, terminal
from tests.servers import MAJORS, Server

_BACKENDS = r"SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'th\_%'"
ANY = f"db{MAJORS[0]}@etl"
_ENTRY = re.compile(rb"LOG:  (?:statement|execute [^:]*): ((?:.*\n)(?:\t.*\n)*)")
_VICTIM = """
DO $$ BEGIN CREATE ROLE th_victims; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT th_victims TO th_reader, th_writer;
DROP TABLE IF EXISTS victim;
CREATE TABLE victim (id serial PRIMARY KEY, label text);
INSERT INTO victim (label) VALUES ('one'), ('two');
ALTER TABLE victim OWNER TO th_victims;
"""


def _newest(gate: Scene) -> Path:
    return gate.casts()[-1]


def _events(cast: Path) -> list[tuple[str, str]]:
    return [(code, data) for _, code, data in map(json.loads, cast.read_text().splitlines()[1:])]


@pytest.mark.skipif(not HAS_TMUX, reason="NOT CHECKED: tmux is not installed")
@pytest.mark.parametrize(("cols", "rows"), SIZES)
def test_a_walk_in_tmux(gate: Scene, cols: int, rows: int) -> None:
    seen = walk(gate, cols, rows)
    assert not re.search(r"[^\x20-\x7e\n…×]", seen), "a stray character"


def test_keys_go_to_their_own_session(gate: Scene) -> None:
    """prompt_toolkit finds "the" application in a context variable: each needs its own."""
    with (
        terminal(gate, ANY) as one,
        terminal(gate, f"db{MAJORS[-1]}@agent") as other,
    ):
        one.wait_for_prompt()
        other.wait_for_prompt()
        for mine, yours in zip("select 11111 as one", "select 22222 as two", strict=True):
            one.type(mine)
            other.type(yours)
        one.wait_for("select 11111 as one")
        other.wait_for("select 22222 as two")
        one.type(";\r")
        other.type(";\r")
        assert "22222" not in one.wait_for("(1 row)")
        assert "11111" not in other.wait_for("(1 row)")
        one.wait_for_prompt()
        other.wait_for_prompt()


@pytest.mark.parametrize("keys", ["\x04", "\\q\r", "exit\r", "quit;\r"])
def test_ways_out(gate: Scene, keys: str) -> None:
    with terminal(gate, ANY) as here:
        here.wait_for_prompt()
        here.run("select 1;")
        here.type(keys)
        assert here.code() == 0
    assert gate.verify().returncode == 0


def test_a_dumb_terminal_gets_text_only(gate: Scene) -> None:
    with terminal(gate, ANY, term="dumb") as here:
        here.wait_for_prompt()
        here.type("select id,\r")
        here.wait_for("...")
        text = here.run("ssx\x7fn from patients;")
        assert "[SSN]" in text
        here.type("sel\x03")
        here.wait_for("^C")
        here.wait_for_prompt()
        here.type("\x04")
        assert here.code() == 0
    assert b"\x1b" not in here.received
    assert ("i", "select id,\r\nssn from patients;\r\n") in _events(_newest(gate))


def test_the_editor_has_no_doors(gate: Scene) -> None:
    """The system prompt, the editor and suspending stay shut; the keys run nothing."""
    with terminal(gate, ANY) as here:
        for keys in ("\x1b!", "\x18\x05", "\x1a", "\x1bOQ", "\x1b[15~", "\x18\x18", "\x1bv", "v"):
            here.wait_for_prompt()
            here.type(keys)
            here.type("touch /tmp/tollhouse-victim")
            here.wait_for("tollhouse-victim")
            here.type("\x03")
        here.wait_for_prompt()
        here.type("select 40 + 2 as answer;\r")
        here.wait_for("42\n(1 row)")
        assert not Path("/tmp/tollhouse-victim").exists()
        stopped = Path(f"/proc/{here.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        assert not stopped


def test_a_held_line_in_a_transaction_is_refused_with_advice(gate: Scene) -> None:
    with terminal(gate, ANY, cols=120) as here:
        here.wait_for_prompt()
        here.run("begin;", "*")
        text = here.run("select id from patients where zip = '94110';", "*")
        assert "What to do: " in text
        assert "Ticket" not in text
        here.run("rollback;")


def test_a_window_that_changes_without_end(gate: Scene) -> None:
    with terminal(gate, ANY) as here:
        here.wait_for_prompt()
        here.type("select g, repeat('y', 60) as y from generate_series(1, 3000) g;\r")
        for cols in (20, 300, 40, 81, 23, 120, 80):
            here.resize(cols, 10 + cols % 17)
            here.read(0.02)
        here.until("the end", lambda _: b"(3000 rows)" in here.received)
        here.wait_for_prompt()
        here.type("\x04")
        assert here.code() == 0
    sizes = [data for code, data in _events(_newest(gate)) if code == "r"]
    assert sizes[-1] == "80x22"


class Log:
    """What a server was told, from its own log."""

    def __init__(self, server: Server) -> None:
        self._log = server.root / "log"
        self._start = self._log.stat().st_size

    def heard(self) -> list[str]:
        """The statements since this was made."""
        with self._log.open("rb") as log:
            log.seek(self._start)
            found = _ENTRY.findall(log.read())
        return [entry.replace(b"\n\t", b"\n").decode().strip() for entry in found]


CONTROLS = (
    "DROP TABLE victim\x15;",
    "DROP TABLE victim;\x7f\x7f;",
    "SELECT 'x -- \x15DROP TABLE victim;",
    "SELECT 'x' \x17; DROP TABLE victim;",
    "SELECT 1\x04; DROP TABLE victim;",
    "SELECT '\x03DROP TABLE victim;",
    "SELECT 1;\x00DROP TABLE victim;",
    "SELECT '\x16\x03'; DROP TABLE victim;",
    "\x1b[200~SELECT 1;\rDROP TABLE victim;\x1b[201~",
    "\x1b[200~SELECT 'a\x1b[201~'; DROP TABLE victim; --'",
    "\x1b[200~SELECT 1 \x15\x03\x04;\x1b[201~ DROP TABLE victim;",
    "SELECT 1; \x12DROP\rDROP TABLE victim;",
    "\x1b<DROP TABLE victim;",
    "\x19DROP TABLE victim;",
)
"""Keys that edit, end or quote, and pastes that pretend to have ended."""


@pytest.mark.parametrize("major", MAJORS)
def test_nothing_undecided_runs(gate: Scene, major: int) -> None:
    server = gate.servers[major]
    server.sql(_VICTIM, database=DATABASE)
    log = Log(server)
    lines = [attack.raw.decode("utf-8", "replace") for attack in KNOWN]
    with terminal(gate, f"db{major}@etl", cols=200, rows=50) as here:
        here.wait_for_prompt()
        for number, line in enumerate((*lines, *CONTROLS)):
            here.type(line.replace("\n", "\r") + "\r")
            for _ in range(2):  # the first may stop a statement, the second clears the line
                here.read(0.1)
                here.type("\x03")
            here.wait_for_prompt()
            here.type(f"select 'th-still-here', {number + 7000};\r")
            here.wait_for(f" {number + 7000}\n(1 row)")
            here.wait_for_prompt()
    heard = log.heard()
    assert server.sql("SELECT count(*), min(label) FROM victim", database=DATABASE) == "2|one"
    server.sql("DROP TABLE victim", database=DATABASE)
    events = _events(_newest(gate))
    allowed = Counter(
        typed.replace("\r\n", "\n").strip()
        for (code, typed), (_, note) in pairwise(events)
        if code == "i" and json.loads(note)["verdict"] == "allow"
    )
    ran = [entry for entry in heard if "victim" in entry or "th-still" in entry]
    assert sum("th-still-here" in entry for entry in ran) == len(lines) + len(CONTROLS)
    assert not [entry for entry in ran if re.match("(?i)(drop|delete|truncate)", entry)]
    # Each ran as often as the record says that it was allowed, literals masked as there.
    masked = Counter(mask_text(shown(entry.encode(), touches_phi=True)) for entry in ran)
    assert masked <= allowed


PLANTED = (
    *(query.sql + ";" for query in QUERIES if query.end == "runs" and "planted_" not in query.sql),
    "SELECT repeat('=', 70) || id AS pad, p.* FROM patients p;",
    "COPY patients TO STDOUT;",
    "COPY (SELECT ssn, last_name FROM patients) TO STDOUT (FORMAT csv, HEADER);",
)
_OWN_SECRETS = re.compile("|".join(map(re.escape, CANARIES.values())))
WIDTHS = (20, 40, 80, 120, 300)


def _planted(widths: tuple[int, ...]) -> list[tuple[int, str]]:
    """What the user typed holds no canary: the echo would be the user's own."""
    queries = [query for query in PLANTED if not _OWN_SECRETS.search(query)]
    return [(width, query) for width in widths for query in queries]


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_planted_stays_hidden(gate: Scene, width: int) -> None:
    queries = [query for _, query in _planted((width,))]
    with terminal(gate, f"db{MAJORS[WIDTHS.index(width) % len(MAJORS)]}@etl", cols=width) as here:
        here.wait_for_prompt()
        for query in queries:
            here.run(query)
        here.type("\x04")
        assert here.code() == 0
    cast = _newest(gate)
    played = subprocess.run(
        [str(Path(sys.executable).with_name("asciinema")), "cat", str(cast)],
        capture_output=True,
        check=True,
        env={**os.environ, "LANG": "C.UTF-8"},
    ).stdout
    seen = here.history()
    assert "[SSN]" in seen
    assert b"[SSN]" in played
    flat = seen.replace("\n", "").encode()
    for data in (here.received, cast.read_bytes(), played, seen.encode(), flat):
        assert traces_in(data) == {}


def test_what_is_typed_is_recorded_masked(gate: Scene) -> None:
    """The echo is the user's own; the record never holds it."""
    secret = f"select id from patients where ssn = '{CANARIES['ssn']}' and last_name = "
    secret += f"'{CANARIES['last']}';"
    with terminal(gate, ANY, cols=120) as here:
        here.wait_for_prompt()
        for key in secret:
            here.type(key)
            here.read(0.003)
        here.type("\r")
        here.wait_for("Ticket T-")
        here.wait_for_prompt()
        here.type("\x1b[A")
        here.type("\x03")
        here.wait_for_prompt()
        here.type("\x04")
        assert here.code() == 0
    assert CANARIES["last"].encode() in re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", here.received)
    events = _events(_newest(gate))
    assert [data for code, data in events if code == "i"] == [
        "select id from patients where ssn = '[PHI]' and last_name = '[PHI]';\r\n"
    ]
    output = "".join(data for code, data in events if code == "o")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    assert "where ssn = '[PHI]' and last_name = '[PHI]';" in plain
    assert traces_in(plain.encode()) == {}


class Baseline:
    """What a gateway holds while nobody is there."""

    def __init__(self, gate: Scene) -> None:
        self._gate = gate
        self._before = self._held()

    def _held(self) -> Counter[str]:
        """Counts of descriptors by kind, sockets' folders, upstream backends and psqls."""
        assert self._gate.process is not None
        held: Counter[str] = Counter(psql=len(psqls(self._gate)))
        for descriptor in Path(f"/proc/{self._gate.process.pid}/fd").iterdir():
            with suppress(OSError):
                name = str(descriptor.readlink()).partition(":")[0]
                if "store.sqlite3" not in name:
                    # The store's pool grows up to a bound and SQLite closes late.
                    held["fd " + name] += 1
        held["folder"] = sum(1 for place in Path("/tmp").glob("th-*") for _ in place.iterdir())
        for each in self._gate.servers.values():
            held["backend"] += int(each.sql(_BACKENDS))
        return held

    def returns(self) -> None:
        """Wait until nothing is held that was not held before."""
        try:
            until("everything given back", lambda: not self._held() - self._before, 20)
        except AssertionError:
            raise AssertionError(f"still held: {self._held() - self._before}") from None


@pytest.fixture
def baseline(gate: Scene) -> Baseline:
    """What is opened once and kept (workers, catalogs) is open already."""
    _together(gate, 9)
    time.sleep(1)
    return Baseline(gate)


def _destinations(count: int) -> list[str]:
    whos = ("etl", "etl2", "agent")
    return [f"db{MAJORS[n % len(MAJORS)]}@{whos[n // 3 % 3]}" for n in range(count)]


def _together(gate: Scene, count: int) -> None:
    with ExitStack() as stack:
        here: list[Terminal] = []
        places = _destinations(count)
        while places:
            # The lobby lets in 64 at a time of one address.
            wave = [stack.enter_context(terminal(gate, each)) for each in places[:30]]
            for each in wave:
                each.wait_for_prompt(timeout_s=60)
            here += wave
            del places[:30]
        for number, each in enumerate(here):
            each.type(f"select {number} + 5000 as mine;\r")
        for number, each in enumerate(here):
            each.wait_for(f"{number + 5000}\n(1 row)", timeout_s=60)
            each.wait_for_prompt()
        for each in here:
            each.type("\x04")
        assert [each.code() for each in here] == [0] * count


def _abort(gate: Scene, count: int, seed: int) -> None:
    chance = random.Random(seed)
    at_a_time = 10
    places = _destinations(count)
    for start in range(0, count, at_a_time):
        with ExitStack() as stack:
            here = [
                stack.enter_context(terminal(gate, each))
                for each in places[start : start + at_a_time]
            ]
            for each in here:
                _use_until_killed(each, chance)


def _use_until_killed(here: Terminal, chance: random.Random) -> None:
    what = chance.choice(("login", "typing", "sleep", "bulk", "transaction", "paste"))
    if what != "login":
        here.wait_for_prompt(timeout_s=60)
    if what == "typing":
        here.type("select 1,\r  cla\t")
    elif what == "sleep":
        here.type("select pg_sleep(60);\r")
    elif what == "bulk":
        here.type("select repeat('z', 200) from generate_series(1, 50000);\r")
    elif what == "transaction":
        here.type("begin;\rselect 1;\r")
    elif what == "paste":
        here.type("\x1b[200~select 1\r+ 2")
    here.read(chance.random() / 10)
    here.kill()


def test_sessions_leave_nothing_behind(gate: Scene, baseline: Baseline) -> None:
    _together(gate, 9)
    baseline.returns()
    _abort(gate, 12, seed=20261123)
    baseline.returns()
    assert gate.ssh(ANY, "select 1").returncode == 0


@pytest.mark.long
def test_a_hundred_sessions_leave_nothing_behind(gate: Scene, baseline: Baseline) -> None:
    _together(gate, 100)
    baseline.returns()
    _abort(gate, 100, seed=1)
    baseline.returns()
    assert gate.ssh(ANY, "select 1").returncode == 0
    assert gate.verify().returncode == 0

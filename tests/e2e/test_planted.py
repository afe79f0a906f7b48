"""What was planted in the databases leaves no trace: not at a client, not in the record.

Each query of ``planted_queries.txt`` runs alone and within scripts, in every format, on
every server; then all bytes that clients received and all that the gateway kept are
searched for each canary and for what simple functions make of it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.mux import Connection, connection
from tests.e2e.planted import QUERIES, TRACES, Query, traces_in
from tests.e2e.scene import CANARIES, DATABASE, Scene
from tests.servers import MAJORS, server

MARKER = "th_planted_marker"
"""A column's name that clients type, no secret: the search looks where records lie."""

_JSON = {"TOLLHOUSE_JSON": "1"}
_CODES = {"runs": (0, 1), "held": (75,), "refused": (64, 77)}
_CLEAN_UP = """
DROP TABLE planted_checked, planted_parted, planted_noisy;
DROP FUNCTION planted_shout, planted_tell; DROP VIEW planted_nested;
DROP MATERIALIZED VIEW planted_frozen; DROP TYPE planted_hue;
"""
_RESTORE = f"""
UPDATE patients SET last_name = '{CANARIES["last"]}' WHERE id = 1;
INSERT INTO notes VALUES (1, 1, '{CANARIES["note"]}') ON CONFLICT DO NOTHING;
INSERT INTO leftovers VALUES (1, '{CANARIES["unknown"]}', '{{"k": "{CANARIES["json"]}"}}',
    '{CANARIES["birth"]}', 7) ON CONFLICT DO NOTHING;
"""


@pytest.fixture(scope="module")
def schema(gate: Scene) -> Iterator[None]:
    text = (Path(__file__).parent / "planted_schema.sql").read_text()
    for each in gate.servers.values():
        each.sql(text, database=DATABASE)
    yield
    for each in gate.servers.values():
        each.sql(_CLEAN_UP, database=DATABASE)


Lines = Mapping[tuple[int, str], Connection]


@pytest.fixture(scope="module")
def lines(gate: Scene, schema: None) -> Iterator[Lines]:
    """An open connection for each server and identity."""
    for identity in ("etl2", "agent"):
        gate.log_in(identity)
    with ExitStack() as stack:
        yield {
            (major, identity): stack.enter_context(connection(gate, f"db{major}@{identity}"))
            for major in MAJORS
            for identity in ("etl2", "agent")
        }


@dataclass(frozen=True)
class Play:
    """One script with a grant: who, where, and how psql drew it."""

    major: int
    identity: str
    flags: str
    env: Mapping[str, str]
    done: subprocess.CompletedProcess[bytes]
    queries: tuple[Query, ...]


_PLAIN: tuple[str, str, Mapping[str, str]] = ("etl2", "", {})
_DRAWN: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("etl2", "psql --csv -f -", {}),
    ("agent", "psql -x -f -", {}),
    ("agent", "psql -A -t -f -", _JSON),
)


@pytest.fixture(scope="module")
def plays(gate: Scene, lines: Lines) -> list[Play]:
    """All queries that can run, as granted scripts: plainly and in one more way a server."""
    return [
        _play(gate, lines[major, identity], flags, env)
        for major, drawn in zip(MAJORS, _DRAWN, strict=False)
        for identity, flags, env in (_PLAIN, drawn)
    ]


def _play(gate: Scene, line: Connection, flags: str, env: Mapping[str, str]) -> Play:
    target, _, identity = line.destination.partition("@")
    queries = tuple(
        query
        for query in QUERIES
        if query.end != "refused" and not (query.etl_only and identity == "agent")
    )
    script = f"SELECT 1 AS {MARKER};\n" + "".join(f"{query.sql}\n;\n" for query in queries)
    command = [flags] if flags else []
    reason = {"TOLLHOUSE_REASON": f"asked by {CANARIES['email']} for {CANARIES['ssn']}"}
    held = line.run(*command, script=script, env={**env, **reason})
    assert held.returncode == 75, held.stderr.decode()
    _approve(gate, held, f"they called from {CANARIES['phone']}")
    done = line.run(*command, script=script, env=env)
    major = int(target.removeprefix("db"))
    gate.servers[major].sql(_RESTORE, database=DATABASE)
    return Play(major, identity, flags, env, done, queries)


def _approve(gate: Scene, held: subprocess.CompletedProcess[bytes], reason: str) -> None:
    voted = gate.ssh("gateway@approver", "approve", _ticket(held), "--reason", f"'{reason}'")
    assert voted.returncode == 0, voted.stderr.decode()


def _ticket(held: subprocess.CompletedProcess[bytes]) -> str:
    found = re.search(rb"\bT-\d+", held.stderr)
    assert found is not None, held.stderr
    return found[0].decode()


def _output(done: subprocess.CompletedProcess[bytes]) -> bytes:
    return done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(QUERIES)), ids=lambda n: QUERIES[n].sql[:60])
def test_a_query_alone(gate: Scene, lines: Lines, number: int) -> None:
    query = QUERIES[number]
    env = _JSON if number % 2 else {}
    done = lines[MAJORS[number % len(MAJORS)], "etl2"].run(query.sql, env=env)
    assert done.returncode in _CODES[query.end], (done.returncode, done.stderr.decode())
    assert traces_in(_output(done)) == {}
    if env:
        assert all("type" in json.loads(line) for line in done.stderr.splitlines())
    if query.kind == "steered":
        shown = gate.ssh("gateway@approver", "show", _ticket(done))
        assert traces_in(_output(shown)) == {}
        # A literal, or a name that is no plain one, may be a value: the approver sees neither.
        assert (b"[PHI]" in shown.stdout) == bool(re.search("['\"$]", query.sql))


def test_a_reader_may_not_change(lines: Lines) -> None:
    for query in (each for each in QUERIES if each.etl_only):
        done = lines[MAJORS[0], "agent"].run(query.sql)
        assert done.returncode == 77, query.sql
        assert traces_in(_output(done)) == {}


def test_scripts_with_a_grant_run_and_show_nothing(gate: Scene, plays: list[Play]) -> None:
    for play in plays:
        assert play.done.returncode == 0, play.done.stderr.decode()
        assert traces_in(_output(play.done)) == {}, (play.major, play.identity, play.flags)
        failing = sum("errors" in query.kind for query in play.queries)
        assert play.done.stderr.count(b"ERROR") >= failing - 2
        assert play.done.stdout.count(b"[PHI]") >= len(play.queries)
        assert (MARKER.encode() in play.done.stdout) == ("-t" not in play.flags)
    for major, each in gate.servers.items():
        log = each.log()
        mine = [play for play in plays if play.major == major]
        for query in mine[0].queries:
            times = sum(query in play.queries for play in mine)
            last = query.sql.rsplit("; ", 1)[-1]  # a script sends each statement by itself
            assert log.count(last) >= times, (major, query.sql)


def test_the_granted_changes_were_made(plays: list[Play]) -> None:
    for play in (play for play in plays if play.identity == "etl2" and not play.flags):
        for tag in (b"UPDATE 1", b"DELETE 1"):
            assert re.search(rb"^%s$" % tag, play.done.stdout, re.MULTILINE), play.major


def test_nothing_was_kept(gate: Scene, plays: list[Play]) -> None:
    assert plays
    casts = b"".join(path.read_bytes() for path in gate.casts())
    store = b"".join(path.read_bytes() for path in gate.state.glob("*") if path.is_file())
    for name, kept in (("casts", casts), ("store", store)):
        assert kept.count(MARKER.encode()) >= len(plays), name
        assert b"[PHI]" in kept, name
    assert traces_in(gate.kept_bytes()) == {}


def test_no_client_received_any(gate: Scene, plays: list[Play]) -> None:
    assert plays
    received = b"\n".join(gate.client_bytes)
    assert MARKER.encode() in received
    assert traces_in(received) == {}


_DISGUISE = (
    "{0}",
    "upper({0})",
    "reverse({0})",
    "md5({0})",
    "encode(convert_to({0}, 'UTF8'), 'base64')",
    "encode(convert_to({0}, 'UTF8'), 'hex')",
)
_PLACES = {
    "ssn": "ssn",
    "ssn2": "ssn",
    "first": "first_name",
    "last": "last_name",
    "last2": "last_name",
    "birth": "birth_date::text",
    "email": "email",
    "phone": "phone",
    "note": "note_text",
    "unknown": "quux",
    "json": "payload->>'k'",
}


@pytest.mark.parametrize("disguise", _DISGUISE)
def test_control_past_the_gateway_each_is_found(gate: Scene, disguise: str) -> None:
    for name, place in _PLACES.items():
        output = server(MAJORS[0]).sql(
            f"SELECT {disguise.format(place)} FROM patients p LEFT JOIN visits v "
            "ON v.patient_id = p.id LEFT JOIN notes n ON n.visit_id = v.id LEFT JOIN leftovers l "
            "ON l.id = p.id",
            database=DATABASE,
        )
        assert name in traces_in(output.encode()), (name, disguise)


def test_control_parts_are_found(gate: Scene) -> None:
    output = server(MAJORS[0]).sql(
        "SELECT substr(last_name, 3, 7), right(ssn, 6), to_char(birth_date, 'MM/DD/YYYY'), "
        "split_part(email, '@', 1), left(first_name, 6) FROM patients WHERE id = 1",
        database=DATABASE,
    )
    assert traces_in(output.encode()).keys() == {"last", "ssn", "birth", "email", "first"}
    assert set(TRACES.values()) == set(CANARIES)

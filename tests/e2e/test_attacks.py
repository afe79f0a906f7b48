"""Everything that ever fooled a parser, against the gate, real psql and real servers.

The victim belongs to a role that both of the gateway's logins are members of: a
DROP that came through would work. What the server was told is read in its own log.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncssh
import pytest

from tests.e2e.attacks import ARGV, FILE, FOOLS_PSQL, KNOWN, OWN, Attack, End
from tests.e2e.mux import Connection, connection
from tests.e2e.scene import DATABASE, Scene
from tests.servers import MAJORS, Server, server

_VICTIM = """
DO $$ BEGIN CREATE ROLE th_victims; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT th_victims TO th_reader, th_writer;
DROP TABLE IF EXISTS victim;
CREATE TABLE victim (id serial PRIMARY KEY, label text);
INSERT INTO victim (label) VALUES ('one'), ('two');
ALTER TABLE victim OWNER TO th_victims;
"""
_BEFORE, _AFTER = b"SELECT 'th-before';\n", b"\nSELECT 'th-after';\n"

_REFUSED = re.compile(
    rb"tollhouse: (?:denied|cannot read this command) \[[a-z0-9.-]+\]: \S.{8,}\n"
    rb"  What to do: \S.{4,}\n"
)
_HELD = re.compile(
    rb"tollhouse: held \[[a-z0-9.-]+\]: \S.{8,}\n  Ticket (T-\d+) needs approval by .+\n  \S.+\n"
)
_ENTRY = re.compile(rb"LOG:  (?:statement|execute [^:]*): ((?:.*\n)(?:\t.*\n)*)")


class Stand:
    """One target with its victim, and an open connection to it.

    Attributes:
        server: the real one.
        line: the connection, as the ETL job.
    """

    def __init__(self, line: Connection, target: Server) -> None:
        self.line = line
        self.server = target
        self._log = target.root / "log"
        self._read_bytes = 0
        self.heard()

    def heard(self) -> list[bytes]:
        """The statements that the server logged since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            new = log.read()
        self._read_bytes += len(new)
        return [entry.replace(b"\n\t", b"\n").strip() for entry in _ENTRY.findall(new)]

    def victim(self) -> str:
        """The victim, asked past the gateway; its answer is not counted as heard."""
        found = self.server.sql("SELECT count(*), min(label) FROM victim", database=DATABASE)
        self.heard()
        return found

    def works(self) -> None:
        """The next command on the connection answers, and it is the connection of before."""
        done = self.line.run("SELECT 40 + 2 AS answer")
        assert (done.returncode, b"42" in done.stdout, done.stderr) == (0, True, b"")
        assert self.line.is_open()
        self.heard()


Stands = dict[int, Stand]


@pytest.fixture(scope="module")
def stands(gate: Scene) -> Iterator[Stands]:
    gate.log_in("etl")
    with ExitStack() as stack:
        made: Stands = {}
        for major, each in gate.servers.items():
            each.sql(_VICTIM, database=DATABASE)
            line = stack.enter_context(connection(gate, f"db{major}@etl"))
            made[major] = Stand(line, each)
        yield made
        for stand in made.values():
            stand.server.sql("DROP TABLE victim", database=DATABASE)


def _single(stand: Stand, attack: Attack) -> subprocess.CompletedProcess[bytes]:
    return stand.line.run(attack.raw.decode("utf-8", "surrogateescape"))


def _script(stand: Stand, attack: Attack) -> subprocess.CompletedProcess[bytes]:
    return stand.line.run(script=_BEFORE + attack.raw + _AFTER)


def _check(
    stand: Stand, attack: Attack, end: End, done: subprocess.CompletedProcess[bytes]
) -> None:
    heard = [entry for entry in stand.heard() if b"victim" in entry or b"'th-" in entry]
    if end == "harmless":
        # One statement, byte for byte what was typed, and the server took it as one.
        assert done.returncode == 0, done.stderr.decode()
        mine = [entry for entry in heard if b"'th-" not in entry]
        assert mine == [attack.raw.strip()]
        assert done.stdout.count(b" row)\n") == (3 if len(heard) == 3 else 1)
    else:
        pattern, codes = (_HELD, (75,)) if end == "held" else (_REFUSED, (64, 77))
        assert done.returncode in codes, (done.returncode, done.stderr)
        assert pattern.fullmatch(done.stderr), done.stderr
        assert done.stdout == b""
        assert heard == []
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _text(done))
    assert not Path(FILE).exists()


def _text(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode()


_FORMS: tuple[tuple[str, Callable[[Stand, Attack], subprocess.CompletedProcess[bytes]]], ...] = (
    ("single", _single),
    ("script", _script),
)


def _strike(stand: Stand, attack: Attack, *, then_works: bool) -> None:
    for form, send in _FORMS:
        end: End = getattr(attack, form)
        if end == "absent":
            continue
        _check(stand, attack, end, send(stand, attack))
        if then_works:
            stand.works()


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("attack", KNOWN, ids=lambda attack: attack.name)
def test_known_attacks_change_nothing(
    gate: Scene, stands: Stands, attack: Attack, major: int
) -> None:
    stand = stands[major]
    _strike(stand, attack, then_works=True)
    fresh = gate.ssh(f"db{major}@etl", "SELECT 40 + 2 AS answer")
    assert (fresh.returncode, b"42" in fresh.stdout) == (0, True), fresh.stderr
    assert stand.victim() == "2|one"


@pytest.mark.parametrize(
    ("major", "attack"),
    [
        pytest.param(MAJORS[number % len(MAJORS)], attack, id=f"{attack.name}")
        for number, attack in enumerate(OWN)
    ],
)
def test_own_attacks_change_nothing(stands: Stands, attack: Attack, major: int) -> None:
    _strike(stands[major], attack, then_works=False)


@pytest.mark.parametrize("number", range(len(ARGV)), ids=lambda number: ARGV[number][:40])
def test_flags_of_psql_open_nothing(stands: Stands, number: int) -> None:
    stand = stands[MAJORS[number % len(MAJORS)]]
    attack = Attack("argv", ARGV[number])
    _check(stand, attack, "refused", _single(stand, attack))


@pytest.mark.parametrize("major", MAJORS)
def test_the_victims_and_the_connections_outlive_them_all(stands: Stands, major: int) -> None:
    stands[major].works()
    assert stands[major].victim() == "2|one"


@pytest.mark.parametrize("major", MAJORS)
def test_a_grant_does_not_wake_what_was_held(gate: Scene, stands: Stands, major: int) -> None:
    """psql's own variables and a quote in a name, approved and run: the server says no."""
    (attack,) = [each for each in FOOLS_PSQL if each.single == "held"]
    for form, send in _FORMS:
        found = _HELD.fullmatch(send(stands[major], attack).stderr)
        assert found is not None, form
        voted = gate.ssh("gateway@approver", "approve", found[1].decode(), "--reason", "test")
        assert voted.returncode == 0, voted.stderr
        stands[major].heard()
        done = send(stands[major], attack)
        assert done.returncode == (1 if form == "single" else 0)
        assert b"ERROR" in done.stderr
        heard = [entry for entry in stands[major].heard() if b"victim" in entry]
        assert heard == [attack.raw if form == "single" else attack.raw.splitlines()[0]]
    assert stands[major].victim() == "2|one"


def test_the_desk_wants_utf_8(gate: Scene) -> None:
    done = gate.ssh("gateway@etl", b"whoami \xff".decode("utf-8", "surrogateescape"))
    assert done.returncode == 64
    assert _REFUSED.fullmatch(done.stderr), done.stderr


@pytest.mark.parametrize("nul", ["SELECT 1;\0DROP TABLE victim", "psql -c 'SELECT 1\0 victim'"])
async def test_a_nul_in_a_command(gate: Scene, stands: Stands, nul: str) -> None:
    """No argv can hold one, so that stock ssh cannot send it; another client can."""
    major = MAJORS[0]
    place = gate.folder / "logins" / "etl"
    async with asyncssh.connect(
        "localhost",
        gate.ssh_port,
        username=f"db{major}",
        config=None,
        agent_path=None,
        known_hosts=str(place / "known_hosts"),
        client_keys=[(str(place / "id_ed25519"), str(place / "id_ed25519-cert.pub"))],
    ) as client:
        done = await client.run(nul, encoding=None)
    assert isinstance(done.stdout, bytes)
    assert isinstance(done.stderr, bytes)
    code = done.returncode if done.returncode is not None else -1
    result = subprocess.CompletedProcess([], code, done.stdout, done.stderr)
    _check(stands[major], Attack("nul", nul), "refused", result)


@pytest.fixture(scope="module")
def bare() -> str:
    """A database that no gateway guards, on each server."""
    for major in MAJORS:
        server(major).create_database("bare", "CREATE TABLE codes (code text)")
    return "bare"


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("attack", FOOLS_PSQL, ids=lambda attack: attack.name)
def test_control_psql_alone_drops_the_victim(
    stands: Stands, bare: str, attack: Attack, major: int
) -> None:
    """The attacks are real: fed to psql with the same rights, each takes the table away."""
    target = stands[major].server
    target.sql(_VICTIM, database=bare)
    connect = ["-h", str(target.socket_dir), "-p", str(target.port), "-U", "th_writer", "-d", bare]
    subprocess.run(
        [str(target.psql), "-X", "-P", "pager=off", *connect],
        input=attack.raw + b"\n",
        capture_output=True,
        check=True,
        env={"LANG": "C.UTF-8"},
    )
    assert target.sql("SELECT to_regclass('victim') IS NULL", database=bare) == "t"

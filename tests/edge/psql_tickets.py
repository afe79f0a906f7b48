"""Experiment (a) as a transcript: each real psql fed tickets through the guard.

Run ``python -m tests.edge.psql_tickets > docs/runs/psql-tickets.txt``; ADR 0001 rests on
what it prints. Each entry shows the decided text, what psql printed up to the nonce, and
what the guard told its owner.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import time

from gateway.core.plan import ResultPlan
from gateway.guards.pgwire.outputs import UnitDone
from tests.edge.guarded_psql import GuardedPsql, copy, guarded_psql, rows, tag, ticket_for
from tests.servers import ABSENT, MAJORS, Server, server, throwaway

SCHEMA = """
DROP TABLE IF EXISTS people;
CREATE TABLE people (id int PRIMARY KEY, ssn text UNIQUE, name text);
INSERT INTO people VALUES (1, '123-45-6789', 'Zebedee'), (2, NULL, NULL);
"""
PEOPLE = "SELECT id + 0 AS id, ssn, name FROM people"
PLAN = rows(False, "ssn", None, phi=True)
UNITS: tuple[tuple[str, tuple[ResultPlan, ...]], ...] = (
    ("SELECT 1 AS one, 'two' AS two", (rows(False, False),)),
    (PEOPLE, (PLAN,)),
    ("SELECT 1/0", (rows(False),)),
    ("SELEC 1", ()),
    ("INSERT INTO people VALUES (3, '123-45-6789', 'x')", (tag(phi=True),)),
    ("SELECT 1; SELECT ssn FROM people LIMIT 1; SELECT 3", (rows(False), rows("ssn"), rows(False))),
    ("BEGIN", (tag(),)),
    ("SELECT nosuch", (rows(False),)),
    ("SELECT 1", (rows(False),)),
    ("ROLLBACK", (tag(),)),
    (";", ()),
    ("-- only a comment", ()),
    ("COPY people TO STDOUT", (copy(None, "ssn", None),)),
    ("COPY people FROM STDIN", (tag(phi=True),)),
    ("DO $$ BEGIN RAISE NOTICE 'hello'; END $$", (tag(),)),
    (r"SELECT ':HOST', E'a\'b', 'c\' AS d \;", (rows(False, False, False),)),
)


def say(text: str) -> None:
    """One line of the transcript."""
    print(text, flush=True)


async def play(psql: GuardedPsql, text: str, *results: ResultPlan) -> None:
    """Run one unit and show it."""
    say(f"> {text}")
    out = await psql.run(text, *results)
    for line in out.splitlines():
        say(f"  | {line}" if line else "  |")
    done = [e for e in psql.events if isinstance(e, UnitDone)][-1]
    error = f"{done.error.sqlstate} {done.error.condition}" if done.error else "none"
    say(f"  nonce reached; error {error}; transaction {done.status}")


async def one_version(pg: Server) -> None:
    """Everything on one server with its own psql."""
    pg.sql(SCHEMA)
    async with guarded_psql(pg) as psql:
        for text, results in UNITS:
            await play(psql, text, *results)
        ticket = ticket_for("SELECT pg_sleep(60)", rows(False))
        await psql.start(ticket)
        await psql.wait_for_start(ticket)
        await asyncio.sleep(0.1)
        before = time.perf_counter()
        await psql.guard.cancel()
        await psql.output_of(ticket)
        say("> SELECT pg_sleep(60), cancelled after 0.1 s")
        say(f"  nonce reached {1000 * (time.perf_counter() - before):.1f} ms after the cancel")
        costs = []
        for _ in range(200):
            before = time.perf_counter()
            await psql.run("SELECT 1", rows(False))
            costs.append(1000 * (time.perf_counter() - before))
        say(f"a unit from feed to nonce: median {sorted(costs)[100]:.2f} ms of 200")
        code, stderr = await psql.finish()
        say(f"psql ended with {code}; its stderr:")
        for line in stderr.splitlines():
            say(f"  ! {line}")
    for flags in (["--csv"], ["-x"]):
        async with guarded_psql(pg, flags) as psql:
            say(f"with {' '.join(flags)}")
            await play(psql, PEOPLE, PLAN)


async def server_death(major: int) -> None:
    """Kill one postmaster in the middle of a COPY."""
    with throwaway(major) as pg:
        async with guarded_psql(pg) as psql:
            text = "COPY (SELECT repeat('x', 500), generate_series(1, 100000000)) TO STDOUT"
            await psql.start(ticket_for(text, copy(False, False)))
            assert psql.process.stdout is not None
            await psql.process.stdout.readexactly(1_000_000)
            os.kill(pg.pid, signal.SIGQUIT)
            while await psql.process.stdout.read(1 << 20):
                pass
            code, stderr = await psql.finish()
            reason = await psql.guard.wait_closed()
        say("the server killed after 1 MB of a COPY:")
        say(f"  psql ended with {code}; the guard says: {reason}")
        for line in stderr.splitlines():
            say(f"  ! {line}")


async def main() -> None:
    """The whole transcript."""
    say("command: python -m tests.edge.psql_tickets")
    say(f"start:   {dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}")
    for major in MAJORS:
        pg = server(major)
        say(f"\n=== psql and server {pg.sql('SHOW server_version')}")
        await one_version(pg)
        await server_death(major)
    say("")
    for major in ABSENT:
        say(f"NOT CHECKED: PostgreSQL {major} is not installed")
    say(f"end:     {dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}")
    say("result:  every unit reached its nonce")


if __name__ == "__main__":
    asyncio.run(main())

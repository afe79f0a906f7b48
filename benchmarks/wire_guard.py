"""What the wire guard costs: 200,000 rows to psql, through it and directly, in pairs.

Run ``python -m benchmarks.wire_guard``. Each round runs direct, untainted and two columns
masked one after the other; the figure is the median of the rounds' ratios to direct.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from tests.edge.guarded_psql import ENVIRONMENT, guarded_psql, rows, ticket_for
from tests.servers import MAJORS, Server, server

ROWS = 200_000
ROUNDS = 5
TABLE = f"""
CREATE TABLE IF NOT EXISTS bulk AS
SELECT n AS id, 'Given' || n AS first, 'Family' || n % 977 AS last, '123-45-6789'::text AS ssn,
       'user' || n || '@example.org' AS email, n % 1000 AS amount
FROM generate_series(1, {ROWS}) AS n
"""
SQL = "SELECT id + 0, first || '', last || '', ssn || '', email || '', amount + 0 FROM bulk"


async def through_psql_alone(pg: Server) -> float:
    """Seconds for psql without a guard, from its statement to its last row."""
    process = await asyncio.create_subprocess_exec(
        pg.psql,
        *("-XAt", "-h", str(pg.socket_dir), "-p", str(pg.port), "-U", "postgres"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"select 'ready';\n")
    await process.stdout.readline()
    before = time.perf_counter()
    process.stdin.write(f"{SQL};\nselect 'done';\n".encode())
    process.stdin.close()
    while await process.stdout.read(1 << 20):
        pass
    taken = time.perf_counter() - before
    await process.wait()
    return taken


async def through_the_guard(pg: Server, *kinds: str | bool | None) -> float:
    """Seconds for the same psql behind the guard."""
    async with guarded_psql(pg, ["-At"]) as psql:
        await psql.run("select 'ready'", rows(False))
        ticket = ticket_for(SQL, rows(*kinds))
        before = time.perf_counter()
        await psql.start(ticket)
        assert psql.process.stdin is not None
        psql.process.stdin.close()
        assert psql.process.stdout is not None
        while await psql.process.stdout.read(1 << 20):
            pass
        return time.perf_counter() - before


async def main() -> None:
    """Print one line a server version."""
    print(f"{ROWS:,} rows of 6 columns, median of {ROUNDS} paired rounds, ratio to direct")
    shown, masked = (False,) * 6, (False, False, False, "ssn", None, False)
    for major in MAJORS:
        pg = server(major)
        pg.sql(TABLE)
        times = [
            (
                await through_psql_alone(pg),
                await through_the_guard(pg, *shown),
                await through_the_guard(pg, *masked),
            )
            for _ in range(ROUNDS)
        ]
        direct = statistics.median(t[0] for t in times)
        plain = statistics.median(t[1] / t[0] for t in times)
        hidden = statistics.median(t[2] / t[0] for t in times)
        print(
            f"PostgreSQL {major}: direct {direct:.2f} s, "
            f"untainted {plain:.2f}x, two columns masked {hidden:.2f}x"
        )


if __name__ == "__main__":
    asyncio.run(main())

"""Real psql 15, 16 and 18 behind the guard, against their own servers."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import re
import resource
import signal
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.core.plan import CopyOut
from gateway.credentials import EnvironmentSource, FileSource
from gateway.edge import upstream as up
from gateway.edge.pgguard import SOCKET_NAME, PgGuard
from gateway.edge.upstream import Upstream
from gateway.errors import GatewayFault, GuardBroken, TargetUnavailable
from gateway.guards.pgwire.guard import GuardSettings
from gateway.guards.pgwire.outputs import (
    CatalogChanged,
    ChildDone,
    ResultDone,
    RowsExceeded,
    ServerGone,
    UnitDone,
    UnitStarted,
)
from gateway.guards.pgwire.rows import MaskedColumn
from gateway.sql.catalog import Catalog, Column, Relation
from tests.edge.guarded_psql import (
    GuardedPsql,
    copy,
    guarded_psql,
    rows,
    tag,
    ticket_for,
    upstream_of,
)
from tests.servers import MAJORS, PASSWORD, Server, server, throwaway
from tests.tls import write_tls_files

SECRETS = ("123-45-6789", "987-65-4321", "Zebedee", "Quillfeather", "1931-02-03")
SCHEMA = """
CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE, name text, born date);
INSERT INTO patients VALUES (1, '123-45-6789', 'Zebedee', '1931-02-03'),
                            (2, '987-65-4321', 'Quillfeather', NULL), (3, NULL, NULL, NULL);
CREATE VIEW people AS SELECT id, name FROM patients;
CREATE TABLE late (id int PRIMARY KEY, ssn text UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO late VALUES (1, '123-45-6789');
"""


@pytest.fixture(scope="module")
def clinic(pg_server: Server) -> Iterator[tuple[Server, Catalog]]:
    """A server with a ``guarded`` database and what the gate knows of it."""
    pg_server.create_database("guarded", SCHEMA)
    yield pg_server, catalog_of(pg_server)
    pg_server.sql("DROP DATABASE guarded WITH (FORCE)")


def catalog_of(pg: Server) -> Catalog:
    def oid(name: str) -> int:
        return int(pg.sql(f"SELECT '{name}'::regclass::oid", database="guarded"))

    shown = Column("id", "integer", 1, "no")
    ssn = Column("ssn", "text", 2, "yes", "ssn")
    name = Column("name", "text", 3, "yes", "name")
    born = Column("born", "date", 4, "yes", "date")
    return Catalog(
        "clinic",
        "clinic",
        pg.major * 10_000,
        (
            Relation("public", "patients", "table", oid("patients"), (shown, ssn, name, born)),
            Relation("public", "late", "table", oid("late"), (shown, ssn)),
            Relation(
                "public",
                "people",
                "view",
                oid("people"),
                (shown, Column("name", "text", 2)),
            ),
        ),
    )


@asynccontextmanager
async def session(
    clinic: tuple[Server, Catalog],
    *flags: str,
    fingerprint_sql: str = "",
    quiet_marker: str | None = None,
) -> AsyncIterator[GuardedPsql]:
    pg, catalog = clinic
    settings = GuardSettings(
        {}, catalog=catalog, fingerprint_sql=fingerprint_sql, quiet_marker=quiet_marker
    )
    async with guarded_psql(pg, flags, database="guarded", settings=settings) as psql:
        yield psql


ALL = "SELECT id, ssn, name, born FROM patients ORDER BY id"
ALL_PLAN = rows(False, "ssn", None, "date", phi=True)


async def test_masked_cells_are_drawn_aligned(clinic: tuple[Server, Catalog]) -> None:
    async with session(clinic) as psql:
        assert await psql.run(ALL, ALL_PLAN) == (
            " id |  ssn  | name  |  born  \n"
            "----+-------+-------+--------\n"
            "  1 | [SSN] | [PHI] | [DATE]\n"
            "  2 | [SSN] | [PHI] | \n"
            "  3 |       | [PHI] | \n"
            "(3 rows)\n\n"
        )
        assert await psql.finish() == (0, "")
        (done,) = (e for e in psql.events if isinstance(e, ResultDone))
        assert (done.tag, done.rows) == ("SELECT 3", 3)
        assert done.masked == (
            MaskedColumn(1, "c1", "ssn", 2),
            MaskedColumn(2, "c2", None, 3),
            MaskedColumn(3, "c3", "date", 1),
        )


async def test_masked_cells_are_drawn_in_csv_and_expanded(clinic: tuple[Server, Catalog]) -> None:
    async with session(clinic, "--csv") as psql:
        out = await psql.run(ALL, ALL_PLAN)
    assert list(csv.reader(io.StringIO(out))) == [
        ["id", "ssn", "name", "born"],
        ["1", "[SSN]", "[PHI]", "[DATE]"],
        ["2", "[SSN]", "[PHI]", ""],
        ["3", "", "[PHI]", ""],
    ]
    async with session(clinic, "-x") as psql:
        out = await psql.run(ALL, ALL_PLAN)
    assert "ssn  | [SSN]\nname | [PHI]\nborn | [DATE]\n" in out


async def test_the_servers_origins_hide_what_a_plan_forgot(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic) as psql:
        forgot = rows(False, False, False, False)
        out = await psql.run(ALL.replace("FROM patients", "FROM patients AS p"), forgot)
        assert not any(secret in out for secret in SECRETS)
        assert "  1 | [PHI] | [PHI] | [PHI]\n" in out
        new = "CREATE TEMP TABLE t AS SELECT ssn AS code FROM patients; SELECT code FROM t"
        assert "[PHI]" in await psql.run(new, tag(), rows(False))
        assert "[PHI]" in await psql.run("SELECT p FROM patients p", rows(False))
        # A view's own column: lineage looked through it, so here the plan counts.
        assert "Zebedee" in await psql.run("SELECT name FROM people", rows(False))


@pytest.mark.parametrize("plan", [rows(False), rows(*[False] * 5), tag()], ids=str)
async def test_a_result_of_another_shape_is_hidden_whole(
    clinic: tuple[Server, Catalog], plan: object
) -> None:
    async with session(clinic) as psql:
        out = await psql.run("SELECT 7001 AS a, 7002 AS b, 'x', 'y'", plan)  # type: ignore[arg-type]
    assert " [PHI] | [PHI] | [PHI]    | [PHI]\n" in out
    assert "7001" not in out


async def test_errors_show_a_caret_only_where_no_phi_is_touched(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic) as psql:
        await psql.run("SELECT 1;\nSELECT 'ü', nosuch FROM late", rows(False), rows(False))
        await psql.run(
            "INSERT INTO patients VALUES (9, '123-45-6789', 'Zebedee', NULL)", tag(phi=True)
        )
        await psql.run("SELECT ssn::int FROM patients", rows(None, phi=True))
        code, stderr = await psql.finish()
    assert code == 0
    assert stderr == (
        'ERROR:  column "nosuch" does not exist\n'
        "LINE 2: SELECT 'ü', nosuch FROM late\n"
        "                    ^\n"
        "ERROR:  the server refused this statement; its message may quote PHI and is withheld "
        "(SQLSTATE 23505 unique_violation)\n"
        "ERROR:  the server refused this statement; its message may quote PHI and is withheld "
        "(SQLSTATE 22P02 invalid_text_representation)\n"
    )


async def test_a_deferred_constraint_does_not_quote_phi_at_commit(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic) as psql:
        await psql.run("BEGIN", tag())
        await psql.run("INSERT INTO late VALUES (2, '123-45-6789')", tag(phi=True))
        assert psql.guard.status == "T"
        await psql.run("COMMIT", tag())
        assert psql.guard.status == "I"
        await psql.run("SELECT 1/0", rows(False))
        _, stderr = await psql.finish()
    assert "123-45-6789" not in stderr
    assert "23505 unique_violation" in stderr
    assert stderr.endswith("ERROR:  division by zero\n")


async def test_notices_pass_or_lose_their_text(clinic: tuple[Server, Catalog]) -> None:
    text = "DO $$ BEGIN RAISE WARNING 'seen \x1b[2J%', 'x' USING ERRCODE = '12345'; END $$"
    async with session(clinic) as psql:
        await psql.run(text, tag())
        await psql.run(text, tag(phi=True))
        _, stderr = await psql.finish()
    assert "WARNING:  seen \\u{1b}[2Jx\n" in stderr
    assert stderr.endswith("is withheld (SQLSTATE XX000 internal_error)\n")
    assert "\x1b" not in stderr


async def test_an_aborted_transaction_reaches_every_nonce(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic, fingerprint_sql="SELECT 'abc'") as psql:
        await psql.run("BEGIN", tag(), catalog="abc")
        await psql.run("SELECT 1/0", rows(False), catalog="abc")
        assert psql.guard.status == "E"
        # No fingerprint can be read in an aborted transaction; nothing can run in it either.
        await psql.run("SELECT 2", rows(False), catalog="abc")
        assert await psql.run("ROLLBACK", tag(), catalog="abc") == "ROLLBACK\n"
        assert "3" in await psql.run("SELECT 3", rows(False), catalog="abc")
        code, stderr = await psql.finish()
    assert code == 0
    assert stderr.count("ERROR:  ") == 2


async def test_units_of_several_statements_and_of_none(clinic: tuple[Server, Catalog]) -> None:
    async with session(clinic, "-At") as psql:
        out = await psql.run(
            "SELECT 1; SELECT ssn FROM patients WHERE id = 1; SELECT 2/0; SELECT 3",
            *(rows(False), rows("ssn", phi=True), rows(False), rows(False)),
        )
        assert out == "1\n[SSN]\n"
        assert await psql.run(";") == ""
        assert await psql.run("-- nothing") == ""
        assert (await psql.run("SELECT", rows())).strip() == ""
    indexes = [e.index for e in psql.events if isinstance(e, ResultDone)]
    assert indexes == [0, 1, 0]


async def test_copy_out_is_masked_in_both_formats(clinic: tuple[Server, Catalog]) -> None:
    kinds = (False, "ssn", None, "date")
    async with session(clinic) as psql:
        out = await psql.run("COPY patients TO STDOUT", copy(*kinds))
        assert out == ("1\t[SSN]\t[PHI]\t[DATE]\n2\t[SSN]\t[PHI]\t\\N\n3\t\\N\t[PHI]\t\\N\n")
        form = CopyOut("csv", delimiter=b"[", null=b"", header=True)
        out = await psql.run(
            "COPY patients TO STDOUT (FORMAT csv, HEADER, DELIMITER '[')", copy(*kinds, form=form)
        )
        assert out.splitlines()[1:] == [
            '1["[SSN]"["[PHI]"["[DATE]"',
            '2["[SSN]"["[PHI]"[',
            '3[["[PHI]"[',
        ]
        # The plan's names are c0…: a header that was not foretold is taken for a row.
        assert out.splitlines()[0] == 'id["[SSN]"["[PHI]"["[DATE]"'
        out = await psql.run(
            "COPY (SELECT 1, E'a\\nb\"c', 'Zebedee') TO STDOUT CSV",
            copy(False, False, None, form=CopyOut("csv", b",", b"")),
        )
        assert out == '1,"a\nb""c",[PHI]\n'
        code, stderr = await psql.finish()
        assert (code, stderr) == (0, "")


async def test_copy_in_is_refused_and_the_session_goes_on(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic) as psql:
        await psql.run("COPY patients FROM STDIN", tag(phi=True))
        assert "4" in await psql.run("SELECT 4", rows(False))
        _, stderr = await psql.finish()
    assert "ERROR:  COPY FROM STDIN does not pass the gate\n" in stderr


async def test_cancel_stops_a_statement_and_psql_goes_on(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic) as psql:
        ticket = ticket_for("SELECT pg_sleep(60)", rows(False))
        await psql.start(ticket)
        await psql.wait_for_start(ticket)
        await asyncio.sleep(0.05)
        before = time.monotonic()
        await psql.guard.cancel()
        await psql.output_of(ticket)
        assert time.monotonic() - before < 5
        assert "5" in await psql.run("SELECT 5", rows(False))
        _, stderr = await psql.finish()
    assert "canceling statement due to user request" in stderr
    done = [e for e in psql.events if isinstance(e, UnitDone)]
    assert done[0].error is not None
    assert done[0].error.sqlstate == "57014"
    assert done[1].error is None


async def test_closing_a_session_cancels_what_runs(clinic: tuple[Server, Catalog]) -> None:
    pg, _ = clinic
    async with session(clinic) as psql:
        ticket = ticket_for("SELECT pg_sleep(61)", rows(False))
        await psql.start(ticket)
        await psql.wait_for_start(ticket)
        await asyncio.sleep(0.05)
    left = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)'"
    left += " AND state = 'active'"
    for _ in range(100):
        if pg.sql(left) == "0":
            break
        await asyncio.sleep(0.02)
    assert pg.sql(left) == "0"


async def test_a_changed_catalog_stops_the_unit(clinic: tuple[Server, Catalog]) -> None:
    pg, _ = clinic
    sql = "SELECT md5(string_agg(relname, ',' ORDER BY relname)) FROM pg_class WHERE oid > 16384"
    before = pg.sql(sql, database="guarded")
    async with session(clinic, fingerprint_sql=sql) as psql:
        assert "6001" in await psql.run("SELECT 6001", rows(False), catalog=before)
        pg.sql("CREATE TABLE newcomer (x text)", database="guarded")
        assert await psql.run("SELECT 6002", rows(False), catalog=before) == ""
        pg.sql("DROP TABLE newcomer", database="guarded")
        _, stderr = await psql.finish()
        assert "definitions changed since this was decided; nothing was sent" in stderr
        assert [type(e) for e in psql.events].count(CatalogChanged) == 1
    assert "statement: SELECT 6002" not in pg.log()


async def test_a_limited_unit_is_rolled_back_above_its_rows(
    clinic: tuple[Server, Catalog],
) -> None:
    pg, _ = clinic
    pg.sql("CREATE TABLE many AS SELECT generate_series(1, 100) AS n", database="guarded")
    try:
        async with session(clinic) as psql:
            assert await psql.run("DELETE FROM many", tag(), max_rows=99) == ""
            assert pg.sql("SELECT count(*) FROM many", database="guarded") == "100"
            out = await psql.run("DELETE FROM many WHERE n <= 10", tag(), max_rows=10)
            assert out == "DELETE 10\n"
            assert pg.sql("SELECT count(*) FROM many", database="guarded") == "90"
            out = await psql.run("DELETE FROM many RETURNING n", rows(None), max_rows=3)
            assert out.count("[PHI]") == 0
            await psql.run("DELETE FROM many WHERE 1/0 = 1", tag(), max_rows=3)
            out = await psql.run("SELECT 8001", rows(False), max_rows=1)
            assert "8001" in out
            _, stderr = await psql.finish()
        assert pg.sql("SELECT count(*) FROM many", database="guarded") == "90"
    finally:
        pg.sql("DROP TABLE many", database="guarded")
    assert "100 rows are more than the 99 that were granted; rolled back" in stderr
    assert [(e.rows, e.max_rows) for e in psql.events if isinstance(e, RowsExceeded)] == [
        (100, 99),
        (90, 3),
    ]


async def test_a_limited_unit_that_fails_at_commit_tells_no_tag(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic) as psql:
        out = await psql.run(
            "INSERT INTO late VALUES (3, '123-45-6789')", tag(phi=True), max_rows=5
        )
        assert out == ""
        _, stderr = await psql.finish()
    assert "23505 unique_violation" in stderr
    assert "123-45-6789" not in stderr


async def test_quiet_tags_are_markers(clinic: tuple[Server, Catalog]) -> None:
    async with session(clinic, quiet_marker="Q0123456789abcdef") as psql:
        out = await psql.run("CREATE TEMP TABLE q (a int); SELECT 1 AS a", tag(), rows(False))
    assert out == "Q0123456789abcdef\n a \n---\n 1\n(1 row)\n\n"


async def test_control_characters_of_a_cell_are_shown_not_sent(
    clinic: tuple[Server, Catalog],
) -> None:
    async with session(clinic, "-At") as psql:
        out = await psql.run(
            "SELECT E'a\\x1b[2Jb\\u202Ec\\u0085', E'tab\\tok' AS \"n\x1b\"", rows(False, False)
        )
        assert out == "a\\u{1b}[2Jb\\u{202e}c\\u{85}|tab\tok\n"


async def test_the_servers_death_in_mid_output_is_told() -> None:
    for major in MAJORS:
        with throwaway(major) as pg:
            async with guarded_psql(pg, ["-At"]) as psql:
                ticket = ticket_for(
                    "COPY (SELECT repeat('x', 500), generate_series(1, 100000000)) TO STDOUT",
                    copy(False, False),
                )
                await psql.start(ticket)
                assert psql.process.stdout is not None
                await psql.process.stdout.readexactly(1_000_000)
                os.kill(pg.pid, signal.SIGQUIT)
                await asyncio.wait_for(_drain(psql.process.stdout), 30)
                code, stderr = await psql.finish()
                reason = await asyncio.wait_for(psql.guard.wait_closed(), 5)
            assert code == 2
            assert "FATAL" in stderr
            assert isinstance(reason, TargetUnavailable)
            assert any(isinstance(e, ServerGone) for e in psql.events)


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 20):
        pass


async def test_a_large_result_needs_little_memory(clinic: tuple[Server, Catalog]) -> None:
    sql = "SELECT n, 'row ' || n, n * 2, '123-45-6789', md5(n::text), 'x'"
    sql += " FROM generate_series(1, 200000) AS n"
    async with guarded_psql(clinic[0], ["-At"], limit_bytes=65_536) as psql:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ticket = ticket_for(sql, rows(False, False, False, "ssn", None, False))
        await psql.start(ticket)
        assert psql.process.stdout is not None
        await asyncio.sleep(0.5)  # psql's pipe is full: everybody waits for us
        lines = 0
        while (line := await psql.process.stdout.readline()) != ticket.nonce.encode() + b"\n":
            lines += 1
            if lines == 200_000:
                assert line == b"200000|row 200000|400000|[SSN]|[PHI]|x\n"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert lines == 200_000
    assert grown < 8 * 1024, f"{grown} kB more"


async def test_psql_stops_a_script_where_it_is_told_to(clinic: tuple[Server, Catalog]) -> None:
    async with session(clinic, "-v", "ON_ERROR_STOP=1") as psql:
        first, second = ticket_for("SELECT 1/0", rows(False)), ticket_for("SELECT 1", rows(False))
        await psql.start(first)
        with contextlib.suppress(ConnectionError):
            await psql.start(second)
        code, _ = await psql.finish()
        assert await psql.guard.wait_closed() is None
    assert code == 3
    assert psql.events[-1] == ChildDone()
    assert sum(isinstance(e, UnitStarted) for e in psql.events) == 1


@pytest.mark.parametrize(
    "line",
    [
        "select 1;",
        "DROP TABLE patients;",
        "select 'T0';",
        "select 'S{id}';",
        "select 'T{id}' ;",
        "select 'T{id}'\\; drop table patients;",
        "begin\\; select 'T{id}';",
    ],
)
async def test_any_other_query_ends_the_session(clinic: tuple[Server, Catalog], line: str) -> None:
    pg, _ = clinic
    async with session(clinic) as psql:
        ticket = ticket_for("SELECT 'never runs'", rows(False))
        psql.guard.queue(ticket)
        await psql.feed(line.replace("{id}", ticket.id).encode() + b"\n")
        reason = await asyncio.wait_for(psql.guard.wait_closed(), 10)
        code, _ = await psql.finish()
    assert isinstance(reason, GuardBroken)
    assert code == 2
    assert "never runs" not in pg.log()
    assert pg.sql("SELECT count(*) FROM patients", database="guarded") == "3"


async def test_a_ticket_runs_once(clinic: tuple[Server, Catalog]) -> None:
    async with session(clinic) as psql:
        ticket = ticket_for("SELECT 1", rows(False))
        psql.guard.queue(ticket)
        await psql.feed(ticket.ticket + b"\n" + ticket.ticket + b"\n")
        assert isinstance(await asyncio.wait_for(psql.guard.wait_closed(), 10), GuardBroken)
        assert sum(isinstance(e, UnitStarted) for e in psql.events) == 1


async def test_a_pinned_setting_that_changes_ends_the_session(
    clinic: tuple[Server, Catalog],
) -> None:
    pg, _ = clinic
    names = ["standard_conforming_strings = off", "client_encoding = 'LATIN1'"]
    names += ["default_transaction_read_only = on"]
    names += ["search_path = public"] if pg.major == 18 else []
    for setting in names:
        async with session(clinic) as psql:
            await psql.start(ticket_for(f"SET {setting}", tag()))
            reason = await asyncio.wait_for(psql.guard.wait_closed(), 10)
        assert isinstance(reason, GuardBroken), setting


async def test_a_binary_answer_ends_the_session(clinic: tuple[Server, Catalog]) -> None:
    for text, plan in (
        ("COPY (SELECT 1) TO STDOUT (FORMAT binary)", copy(False)),
        ("BEGIN; DECLARE c BINARY CURSOR FOR SELECT 1; FETCH c", rows(False)),
    ):
        async with session(clinic) as psql:
            await psql.start(ticket_for(text, *([tag(), tag()] if "FETCH" in text else []), plan))
            reason = await asyncio.wait_for(psql.guard.wait_closed(), 10)
        assert isinstance(reason, GuardBroken)
        assert reason.rule == "pgwire.binary"


async def test_the_session_is_pinned(clinic: tuple[Server, Catalog]) -> None:
    pg, catalog = clinic
    upstream = upstream_of(pg, "guarded", read_only=True)
    async with guarded_psql(
        pg, ["-At"], settings=GuardSettings({}, catalog=catalog), upstream=upstream
    ) as psql:
        out = await psql.run(
            "SELECT current_setting('search_path'), current_setting('application_name'), "
            "current_setting('statement_timeout'), current_setting('transaction_read_only')",
            rows(*[False] * 4),
        )
        assert out == "pg_catalog, public, pg_temp|tollhouse|5min|on\n"


# The socket


async def _open_guard(pg: Server, folder: Path) -> PgGuard:
    return await PgGuard.open(
        upstream_of(pg), folder, GuardSettings({}), on_event=lambda event: None
    )


async def test_the_socket_serves_one_connection_of_the_child(pg16: Server) -> None:
    known: set[int] = set()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "session"
        async with await _open_guard(pg16, folder) as guard:
            guard.admit(lambda pid, uid: pid in known and uid == os.geteuid())
            path = folder / SOCKET_NAME
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            reader, writer = await asyncio.open_unix_connection(str(path))
            assert await reader.read() == b""  # not the child: turned away
            writer.close()
            known.add(os.getpid())
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(bytes.fromhex("00000008 04d2162f"))
            assert await reader.readexactly(1) == b"N"
            assert not path.exists()
            with pytest.raises(OSError, match=re.escape(str(path)[:20]) + "|No such file"):
                await asyncio.open_unix_connection(str(path))
            writer.close()


async def test_a_guard_that_nobody_reaches_leaves_nothing(pg16: Server) -> None:
    with tempfile.TemporaryDirectory() as root:
        guard = await _open_guard(pg16, Path(root) / "s")
        await guard.close()
        await guard.close()
        assert list((Path(root) / "s").iterdir()) == []
        with pytest.raises(GatewayFault, match="too long"):
            await _open_guard(pg16, Path(root) / ("x" * 120))


async def test_an_owner_that_fails_ends_the_session(pg16: Server) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("the recorder is gone: 123-45-6789")

    with tempfile.TemporaryDirectory() as root:
        async with await PgGuard.open(
            upstream_of(pg16),
            Path(root) / "s",
            GuardSettings({}),
            on_event=fail,
        ) as guard:
            guard.admit(lambda pid, uid: True)
            reader, writer = await asyncio.open_unix_connection(str(Path(root) / "s" / SOCKET_NAME))
            writer.write(bytes.fromhex("00000009 00030000 00"))
            assert await asyncio.wait_for(reader.read(), 5) != b"unreachable"
            reason = await guard.wait_closed()
            assert isinstance(reason, GatewayFault)
            assert "123-45-6789" not in str(reason)
            writer.close()


# The login


async def test_scram_over_verified_tls_and_on_the_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg = server(MAJORS[0])
    pg.add_login("scram_login")
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    on_socket = Upstream(
        user="scram_login",
        database="postgres",
        password=FileSource(secret),
        socket_dir=pg.socket_dir,
        port=pg.port,
    )
    assert await up.query(on_socket, "SELECT current_user, NULL") == [("scram_login", None)]
    monkeypatch.setenv("TEST_DB_PASSWORD", PASSWORD)
    over_tcp = Upstream(
        user="scram_login",
        database="postgres",
        password=EnvironmentSource("TEST_DB_PASSWORD"),
        host="localhost" if pg.tls else "127.0.0.1",
        port=pg.port,
        tls="verify-full" if pg.tls else "disable",
        ca_file=pg.tls.ca if pg.tls else None,
    )
    ssl_in_use = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await up.query(over_tcp, ssl_in_use) == [("true" if pg.tls else "false",)]
    monkeypatch.setenv("TEST_DB_PASSWORD", "wrong " + PASSWORD)
    with pytest.raises(TargetUnavailable, match="28P01 invalid_password") as refused:
        await up.query(over_tcp, "SELECT 1")
    assert PASSWORD not in str(refused.value)


async def test_a_server_that_wants_the_password_itself_is_refused(
    tmp_path: Path,
) -> None:
    pg = server(MAJORS[0])
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    for login, encryption, word in (
        ("md5_login", "md5", "MD5"),
        ("plain_login", "", "a cleartext password"),
    ):
        pg.add_login(login, encryption=encryption)
        upstream = Upstream(
            user=login,
            database="postgres",
            password=FileSource(secret),
            socket_dir=pg.socket_dir,
            port=pg.port,
        )
        with pytest.raises(TargetUnavailable, match=word):
            await up.connect(upstream)


@pytest.mark.skipif(15 not in MAJORS, reason="needs Debian's PostgreSQL 15; conftest reports it")
async def test_the_certificate_is_verified(tmp_path: Path) -> None:
    pg = server(15)
    assert pg.tls is not None
    other = write_tls_files(tmp_path).ca
    base = upstream_of(pg)
    for ca, host in ((other, "localhost"), (pg.tls.ca, "127.0.0.2"), (None, "localhost")):
        upstream = Upstream(
            user=base.user,
            database=base.database,
            password=base.password,
            host=host,
            port=pg.port,
            ca_file=ca,
        )
        with pytest.raises(TargetUnavailable):
            await up.connect(upstream)

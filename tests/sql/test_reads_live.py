"""What is judged a read must run where the server itself forbids writing."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.servers import Server
from tests.sql.gate import judged
from tests.sql.statement_corpus import CORPUS

_SCHEMA = """
CREATE SCHEMA other;
CREATE TABLE patients (id int, mrn text, first_name text, last_name text, ssn text,
    birth_date text, email text, phone text, address text, zip text);
CREATE TABLE visits (id int, patient_id int, visited_at text, reason_code text);
CREATE TABLE claims (id int, patient_id int, amount int, status text);
CREATE TABLE other.claims (id int);
CREATE TABLE guarded (id int);
CREATE VIEW names AS SELECT first_name AS x FROM patients;
CREATE VIEW busy AS SELECT query AS x FROM pg_stat_activity;
CREATE TYPE mytype AS ENUM ('x');
"""
_READ_ONLY = "ERROR:  25006"  # read_only_sql_transaction


@pytest.fixture(scope="module")
def database(pg_server: Server) -> str:
    return pg_server.create_database("reads", _SCHEMA)


def errors(server: Server, database: str, statements: list[str]) -> list[str]:
    """The SQLSTATE line of each statement, run alone in a read-only transaction."""
    script = "\\set VERBOSITY sqlstate\nSET statement_timeout = '5s';\n" + "".join(
        f"BEGIN READ ONLY;\n\\warn --\n{sql};\nROLLBACK;\n" for sql in statements
    )
    done = subprocess.run(
        [
            *(str(server.psql), "-Xq", "-h", str(server.socket_dir), "-p", str(server.port)),
            *("-U", "postgres", "-d", database, "-f", "-"),
        ],
        input=script.encode(),
        capture_output=True,
        check=False,
        timeout=120,
        env={"LANG": "C.UTF-8", "PATH": os.defpath},
    )
    return done.stderr.decode().split("--\n")[1:]


def test_no_read_needs_to_write(pg_server: Server, database: str) -> None:
    reads = [row.sql for row in CORPUS if row.login == "R" and not row.rule]
    assert all(not judged(sql).writes for sql in reads)
    found = errors(pg_server, database, reads)
    assert len(found) == len(reads)
    refused = [sql for sql, error in zip(reads, found, strict=True) if _READ_ONLY in error]
    assert refused == []


def test_the_server_does_refuse_writes(pg_server: Server, database: str) -> None:
    writes = ["insert into claims values (1)", "create table t ()", "select 1 into x"]
    assert all(_READ_ONLY in error for error in errors(pg_server, database, writes))

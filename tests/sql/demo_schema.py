"""The demo's schema with a canary in every PHI cell, and its catalog.

A canary is a value that occurs nowhere else, so that a cell that shows it, or a
piece of it, however turned, has leaked it.
"""

from __future__ import annotations

import base64
import hashlib
import json

from gateway.sql.catalog import Catalog
from gateway.sql.catalog_queries import CATALOG, build_catalog
from tests.servers import Server

DDL = """
CREATE TABLE patients (id integer, mrn text, first_name text, last_name text, ssn text,
    birth_date date, email text, phone text, address text, zip text);
CREATE TABLE visits (id integer, patient_id integer, visited_at timestamptz, reason_code text);
CREATE TABLE claims (id integer, patient_id integer, amount numeric(10,2), status text);
CREATE TABLE notes (id integer, visit_id integer, note_text text);
CREATE TABLE extras (id integer, code integer, blob text, tags text[], doc jsonb);
"""

VIEWS = """
CREATE VIEW people AS SELECT id, ssn AS number, upper(last_name) AS surname_shown FROM patients;
CREATE VIEW nested AS SELECT p.id, p.number, c.amount, c.status AS state
    FROM people p JOIN claims c ON c.patient_id = p.id;
CREATE VIEW filtered AS SELECT id, zip FROM patients WHERE ssn IS NOT NULL;
CREATE MATERIALIZED VIEW stored AS SELECT id, email AS contact, length(ssn) AS size FROM patients;
CREATE VIEW totals AS
    SELECT status, count(*) AS n, sum(amount) AS total FROM claims GROUP BY status;
CREATE VIEW reused (id, a) AS SELECT number, id FROM people;
"""

FUNCTIONS = """
CREATE FUNCTION secret_of(integer) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT ssn FROM public.patients WHERE id = $1';
"""

OVERRIDES = {
    "claims.*": "no",
    "visits.*": "no",
    "public.visits.visited_at": "date",
    "patients.id": "no",
    "notes.id": "no",
    "notes.visit_id": "no",
}

PATIENTS = (
    ("1", "KQZ70911", "Wrenqux", "Zolphqar", "917365482", "1903-07-21", "vexqam@zubq.test"),
    ("2", "KQZ81733", "Ygdravix", "Mokthwez", "986274531", "1907-11-28", "jixwop@qyth.test"),
    ("3", "KQZ95866", "Thuqorn", "Fyzzbekt", "952846173", "1909-09-23", "dwomzek@xuq.test"),
)
REST = (
    ("8087779301", "Xyloqueb Hwytza", "98376"),
    ("8086662914", "Vraktuzi Njeqwo", "97465"),
    ("8084448257", "Uqmazthy Pzorxe", "96587"),
)
NOTES = ("Gwyzquat hexthroz", "Bluvmakh zyqwort", "Kraxwend ophjyqz")
VISITED = ("1911-12-24 19:47:58+00", "1912-10-27 17:38:49+00", "1913-08-26 18:56:47+00")
BLOBS = ("Hjuqwax zolmf", "Dvykezq wurth", "Lpozvug qexam")


def rows() -> str:
    """The INSERT statements."""
    lines = []
    for n in range(3):
        cells = ", ".join(f"'{v}'" for v in (*PATIENTS[n], *REST[n]))
        blob = BLOBS[n]
        doc = json.dumps({"k": blob})
        lines += [
            f"INSERT INTO patients VALUES ({cells});",
            f"INSERT INTO visits VALUES ({n + 1}, {n + 1}, '{VISITED[n]}', 'R{n}');",
            f"INSERT INTO notes VALUES ({n + 1}, {n + 1}, '{NOTES[n]}');",
            f"INSERT INTO extras VALUES ({n + 1}, {n}, '{blob}', '{{{blob}}}', '{doc}');",
        ]
        for m, status in enumerate(("open", "paid")):
            cells = f"{n * 2 + m + 1}, {n + 1}, {n * 10 + m}.50, '{status}'"
            lines.append(f"INSERT INTO claims VALUES ({cells});")
    return "\n".join(lines)


def make_database(server: Server, name: str) -> str:
    """Make the database on a real server."""
    return server.create_database(
        name, DDL + rows() + VIEWS + FUNCTIONS + "REFRESH MATERIALIZED VIEW stored;"
    )


def read_catalog(server: Server, database: str, user: str = "postgres") -> Catalog:
    """Read the catalog as the gateway does."""
    text = server.sql(
        "SET search_path = pg_catalog, public, pg_temp;"
        f"SELECT json_agg(json_build_array(part, body)) FROM ({CATALOG}) AS rows",
        database=database,
        user=user,
    )
    return build_catalog([(p, b) for p, b in json.loads(text)], "claims-db", database, OVERRIDES)


def _canaries() -> list[str]:
    cells = [cell for row in (*PATIENTS, *REST) for cell in row if len(cell) > 3]
    return [*cells, *NOTES, *BLOBS, *(v[:19] for v in VISITED)]


_PIECE = 4


def _pieces(text: str, size: int = _PIECE) -> set[str]:
    folded = text.casefold()
    return {folded[i : i + size] for i in range(len(folded) - size + 1)}


def _marks() -> tuple[set[str], set[str]]:
    short: set[str] = set()
    long: set[str] = set()
    for canary in _canaries():
        for word in (canary, *canary.split()):
            for turned in (word, word[::-1]):
                short |= _pieces(turned)
        for word in (canary, canary.upper(), canary.lower()):
            raw = word.encode()
            long |= _pieces(hashlib.md5(raw).hexdigest(), 8)
            long |= _pieces(hashlib.sha256(raw).hexdigest(), 8)
            long |= _pieces(base64.b64encode(raw).decode(), 8)
            long |= _pieces(raw.hex(), 8)
    return short, long


_SHORT, _LONG = _marks()


def leaks(cell: str) -> bool:
    """Whether a cell shows four characters of a canary, turned or hashed."""
    return bool(_pieces(cell) & _SHORT or _pieces(cell, 8) & _LONG)

"""A catalog read from each real server, kept while its fingerprint holds."""

from __future__ import annotations

from gateway.edge.catalogs import CatalogReader
from gateway.edge.upstream import query
from gateway.sql.catalog_queries import FINGERPRINT
from tests.edge.guarded_psql import upstream_of
from tests.servers import Server


async def test_a_live_catalog_is_read_with_its_fingerprint(pg_server: Server) -> None:
    schema = (
        "CREATE TABLE patients (id int, ssn text); CREATE VIEW v AS SELECT ssn AS s FROM patients"
    )
    database = pg_server.create_database("catalogued", schema)
    upstream = upstream_of(pg_server, database, read_only=True)
    overrides = {"public.patients.ssn": "ssn", "public.patients.id": "no"}
    reader = CatalogReader(upstream, "clinic", overrides)
    catalog = await reader.current()
    assert catalog.server_version // 10_000 == pg_server.major
    assert catalog.search_path == ("pg_catalog", "public", "pg_temp")
    patients = catalog.resolve(None, "patients")
    assert patients is not None
    assert [(c.name, c.phi) for c in patients.columns] == [("id", "no"), ("ssn", "yes")]
    assert await query(upstream, FINGERPRINT) == [(catalog.fingerprint,)]
    assert await reader.current() is catalog
    pg_server.sql("ALTER TABLE patients ADD note text", database=database)
    changed = await reader.current()
    assert changed.fingerprint != catalog.fingerprint
    assert changed.resolve(None, "patients") != patients
    # The kept connection is cut off; the next question makes a new one.
    pg_server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )
    assert await reader.current() == changed
    await reader.close()
    pg_server.sql(f"DROP DATABASE {database} WITH (FORCE)")

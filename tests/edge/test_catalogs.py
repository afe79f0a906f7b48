"""A catalog read from each real server, and the guard's fingerprint beside it."""

from __future__ import annotations

from gateway.edge.catalogs import load_catalog
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
    catalog = await load_catalog(upstream, "clinic", overrides)
    assert catalog.server_version // 10_000 == pg_server.major
    assert catalog.search_path == ("pg_catalog", "public", "pg_temp")
    patients = catalog.resolve(None, "patients")
    assert patients is not None
    assert [(c.name, c.phi) for c in patients.columns] == [("id", "no"), ("ssn", "yes")]
    assert await query(upstream, FINGERPRINT) == [(catalog.fingerprint,)]
    pg_server.sql("ALTER TABLE patients ADD note text", database=database)
    assert await query(upstream, FINGERPRINT) != [(catalog.fingerprint,)]
    pg_server.sql(f"DROP DATABASE {database} WITH (FORCE)")

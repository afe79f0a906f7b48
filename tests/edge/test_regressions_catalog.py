"""The kept catalog connection: a client that leaves in mid-question spoils nothing."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.credentials import NoPassword
from gateway.edge.catalogs import CatalogReader
from gateway.edge.upstream import Upstream
from tests.servers import Server, server

DATABASE = "catalog_regressions"


def reader_of(target: Server) -> CatalogReader:
    """A reader of the test's own database."""
    upstream = Upstream(
        user="postgres",
        database=DATABASE,
        password=NoPassword(),
        socket_dir=target.socket_dir,
        port=target.port,
    )
    return CatalogReader(upstream, "claims-db", {})


@pytest.mark.asyncio
async def test_a_question_that_was_given_up_answers_no_other() -> None:
    target = server(16)
    target.create_database(DATABASE, "CREATE TABLE one (id integer)")
    reader = reader_of(target)
    before = await reader.current()
    # Given up after every number of turns of the loop, so at every await of the question.
    for turns in range(12):
        asked = asyncio.ensure_future(reader.current())
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
    target.sql("CREATE TABLE two (id integer)", database=DATABASE)
    after = await reader.current()
    await reader.close()
    assert after.fingerprint != before.fingerprint
    assert ("public", "two") in after.by_name

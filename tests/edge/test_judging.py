"""Judging: which login, which fields a grant is bound to, and several texts as one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config import GatewayConfig, load
from gateway.core.events import Judgement, Line
from gateway.core.identity import Identity
from gateway.core.policy import Policies
from gateway.edge.judging import Judges, masking_hash, sql_limits
from gateway.edge.workers import Workers
from gateway.errors import BadCommand, Denied, TargetUnavailable
from gateway.policies import shipped
from gateway.sql.catalog import Catalog
from tests.deployment import deploy
from tests.sql.gate import CATALOG

pytestmark = pytest.mark.asyncio(loop_scope="module")

ETL = Identity("etl", "i", "etl", "machine", ("etl",), ("claims-db",), (), ("i|boss",))
POLICIES = Policies.load(shipped())


class Fixed:
    """The catalog of the tests, or a target that does not answer."""

    def __init__(self, catalog: Catalog | None = CATALOG) -> None:
        self.catalog = catalog

    async def current(self, target: str) -> Catalog:
        if self.catalog is None:
            raise TargetUnavailable("no answer", rule="target.connect")
        return self.catalog


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers() -> AsyncIterator[Workers]:
    pool = Workers(count=1, timeout_ms=20_000)
    await pool.start()
    yield pool
    await pool.stop()


@pytest.fixture
def read_only(tmp_path: Path) -> GatewayConfig:
    return deploy(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def config(read_only: GatewayConfig, tmp_path: Path) -> GatewayConfig:
    file = tmp_path / "gate" / "gateway.toml"
    reader = 'reader = { user = "reader" }'
    file.write_text(file.read_text().replace(reader, reader + '\nwriter = { user = "writer" }'))
    return load(file)


async def judge(config: GatewayConfig, workers: Workers, line: Line | bytes) -> Judgement:
    judges = Judges(config, POLICIES, workers, Fixed())
    if isinstance(line, bytes):
        line = Line(line, "single")
    return await judges.judge(line, "claims-db", ETL)


async def test_a_read_goes_through_the_reader(config: GatewayConfig, workers: Workers) -> None:
    found = await judge(config, workers, b"select id from claims")
    assert (found.login, found.fields.upstream_role) == ("reader", "reader")
    assert found.verdict.verdict == "allow"


async def test_a_write_goes_through_the_writer(config: GatewayConfig, workers: Workers) -> None:
    found = await judge(config, workers, b"delete from claims where id = 1")
    assert (found.login, found.fields.upstream_role) == ("writer", "writer")
    assert found.verdict.verdict == "ask"


async def test_a_target_without_a_writer_is_for_reading(
    read_only: GatewayConfig, workers: Workers
) -> None:
    with pytest.raises(Denied) as caught:
        await judge(read_only, workers, b"delete from claims where id = 1")
    assert caught.value.rule == "target.read-only"
    found = await judge(read_only, workers, b"select id from claims")
    assert found.verdict.verdict == "allow"
    # What the policies refuse anyway is refused by their rule.
    assert (await judge(read_only, workers, b"drop table claims")).verdict.verdict == "deny"


async def test_several_texts_are_one_line(config: GatewayConfig, workers: Workers) -> None:
    parts = (b"select id from claims", b"delete from claims where id = 1")
    line = Line(b"\n".join(parts), "single", parts=parts)
    found = await judge(config, workers, line)
    assert [unit.text for unit in found.parsed.units] == list(parts)
    assert [action.verb for action in found.parsed.actions] == ["select", "delete"]
    assert (found.parsed.writes, found.login) == (True, "writer")
    assert found.verdict.verdict == "ask"
    assert found.fields.text == line.text
    assert found.parsed.shown.count("\n") == 1


async def test_one_refused_text_refuses_all(config: GatewayConfig, workers: Workers) -> None:
    parts = (b"select id from claims", b"drop table claims")
    found = await judge(config, workers, Line(b"\n".join(parts), "single", parts=parts))
    assert found.verdict.verdict == "deny"
    bad = (b"select 1", b"selec 2")
    with pytest.raises(BadCommand):
        await judge(config, workers, Line(b"\n".join(bad), "single", parts=bad))


async def test_a_grant_is_bound_to_what_was_used(config: GatewayConfig, workers: Workers) -> None:
    found = await judge(config, workers, b"select id from claims")
    fields = found.fields
    assert (fields.target, fields.database, fields.identity_id) == ("claims-db", "claims", ETL.id)
    assert fields.policy_version == POLICIES.version
    assert fields.catalog == CATALOG.fingerprint
    assert fields.masking == masking_hash(config, config.target[0])


async def test_the_masking_hash_follows_the_classification(config: GatewayConfig) -> None:
    target = config.target[0]
    changed = target.model_copy(update={"classification": {"public.claims.status": "no"}})
    assert masking_hash(config, target) != masking_hash(config, changed)
    assert len(masking_hash(config, target)) == 64


async def test_the_configured_limits_are_the_gates(
    config: GatewayConfig, workers: Workers, tmp_path: Path
) -> None:
    file = tmp_path / "gate" / "gateway.toml"
    file.write_text(file.read_text() + "[limits]\nstatement_bytes = 256\nstatements = 1\n")
    tight = load(file)
    assert (sql_limits(tight).statement_bytes, sql_limits(tight).statements) == (256, 1)
    with pytest.raises((BadCommand, Denied)):
        await judge(tight, workers, b"select 1" + b" " * 300)
    with pytest.raises((BadCommand, Denied)):
        await judge(tight, workers, b"select 1; select 2")


async def test_no_catalog_no_judgement(config: GatewayConfig, workers: Workers) -> None:
    judges = Judges(config, POLICIES, workers, Fixed(None))
    with pytest.raises(TargetUnavailable):
        await judges.judge(Line(b"select 1", "single"), "claims-db", ETL)

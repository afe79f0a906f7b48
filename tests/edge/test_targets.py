"""The configured targets: how each login reaches a real server, and its catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import GatewayConfig, Login, load
from gateway.credentials import EnvironmentSource, FileSource, NoPassword
from gateway.edge.targets import Targets, password_source
from gateway.errors import Denied, TargetUnavailable
from tests.deployment import deploy
from tests.servers import Server

SCHEMA = "CREATE TABLE claims (id integer, status text);"
DATABASE = "targets"


def configured(folder: Path, server: Server, extra: str = "") -> GatewayConfig:
    """A deployment whose one target is this server."""
    deploy(folder, "http://127.0.0.1:9")
    file = folder / "gate" / "gateway.toml"
    where = f'socket_dir = "{server.socket_dir}"\nport = {server.port}\n'
    text = file.read_text()
    text = text.replace('host = "127.0.0.1"\ndatabase = "claims"\ntls = "disable"\n', where)
    text = text.replace('reader = { user = "reader" }\n', f'database = "{DATABASE}"\n{extra}')
    file.write_text(text)
    return load(file)


@pytest.fixture
def database(pg16: Server) -> Server:
    pg16.create_database(DATABASE, SCHEMA)
    pg16.add_login("th_reader")
    return pg16


async def test_the_reader_reads_and_is_told_so(tmp_path: Path, database: Server) -> None:
    config = configured(tmp_path, database, 'reader = { user = "th_reader" }\n')
    targets = Targets(config)
    try:
        found = targets.upstream(config.target[0], "reader")
        assert (found.user, found.database, found.read_only) == ("th_reader", DATABASE, True)
        assert found.search_path[0] == "pg_catalog"
        assert found.statement_timeout_ms > 0
        catalog = await targets.current("claims-db")
        assert catalog.resolve(None, "claims") is not None
        assert await targets.current("claims-db") == catalog
        database.sql("CREATE TABLE later (id integer)", database=DATABASE)
        changed = await targets.current("claims-db")
        assert changed.fingerprint != catalog.fingerprint
        assert changed.resolve(None, "later") is not None
    finally:
        await targets.close()


async def test_without_a_writer_nothing_writes(tmp_path: Path, database: Server) -> None:
    config = configured(tmp_path, database, 'reader = { user = "th_reader" }\n')
    with pytest.raises(Denied) as caught:
        Targets(config).upstream(config.target[0], "writer")
    assert caught.value.rule == "target.read-only"


async def test_the_writer_may_write(tmp_path: Path, database: Server) -> None:
    logins = 'reader = { user = "th_reader" }\nwriter = { user = "th_writer" }\n'
    config = configured(tmp_path, database, logins)
    found = Targets(config).upstream(config.target[0], "writer")
    assert (found.user, found.read_only) == ("th_writer", False)


async def test_a_login_that_the_server_refuses_is_unavailable(
    tmp_path: Path, database: Server
) -> None:
    config = configured(tmp_path, database, 'reader = { user = "no_such_role" }\n')
    targets = Targets(config)
    with pytest.raises(TargetUnavailable) as caught:
        await targets.current("claims-db")
    assert caught.value.advice
    await targets.close()
    await targets.close()


def test_where_a_password_lies(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    file.chmod(0o600)
    named = Login.model_construct(user="u", password_file=file, password_env=None)
    assert isinstance(password_source(named), FileSource)
    from_environment = Login.model_construct(user="u", password_file=None, password_env="X")
    assert isinstance(password_source(from_environment), EnvironmentSource)
    assert isinstance(
        password_source(Login.model_construct(user="u", password_file=None, password_env=None)),
        NoPassword,
    )

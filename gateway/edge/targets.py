"""The targets: how to reach each, and what its catalog says now."""

from __future__ import annotations

from typing import Literal

from gateway.config import GatewayConfig, Login, Target
from gateway.credentials import EnvironmentSource, FileSource, NoPassword, PasswordSource
from gateway.edge.catalogs import CatalogReader
from gateway.edge.upstream import Upstream
from gateway.errors import Denied
from gateway.sql.catalog import Catalog


class Targets:
    """The configured targets.

    Args:
        config: names and logins; passwords are read when a connection is made.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._targets = {target.name: target for target in config.target}
        self._readers: dict[str, CatalogReader] = {}

    def upstream(self, target: Target, login: Literal["reader", "writer"]) -> Upstream:
        """How to reach a target with one of its logins.

        Raises:
            Denied: it has no writer login.
        """
        account = target.reader if login == "reader" else target.writer
        if account is None:
            raise Denied(f"{target.name} is configured for reading only", rule="target.read-only")
        return Upstream(
            user=account.user,
            database=target.database,
            password=password_source(account),
            host=target.host,
            port=target.port,
            socket_dir=target.socket_dir,
            tls=target.tls,
            ca_file=target.ca_file,
            search_path=target.pinned_search_path,
            statement_timeout_ms=int(target.statement_timeout.total_seconds() * 1000),
            read_only=login == "reader",
        )

    async def current(self, target: str) -> Catalog:
        """The catalog as the target's own fingerprint says it is now.

        Raises:
            TargetUnavailable: the target cannot be asked.
        """
        reader = self._readers.get(target)
        if reader is None:
            configured = self._targets[target]
            upstream = self.upstream(configured, "reader")
            reader = CatalogReader(upstream, target, configured.classification)
            self._readers[target] = reader
        return await reader.current()

    async def close(self) -> None:
        """Let go of the connections."""
        for reader in self._readers.values():
            await reader.close()
        self._readers.clear()


def password_source(login: Login) -> PasswordSource:
    """Where a login's password lies; a login may have none."""
    if login.password_file is not None:
        return FileSource(login.password_file)
    if login.password_env is not None:
        return EnvironmentSource(login.password_env)
    return NoPassword()

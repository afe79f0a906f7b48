"""Fixtures that several rooms share: real PostgreSQL servers."""

from __future__ import annotations

import pytest

from tests.servers import ABSENT, MAJORS, Server, server


@pytest.fixture(params=MAJORS, scope="session", ids=lambda major: f"pg{major}")
def pg_server(request: pytest.FixtureRequest) -> Server:
    """A real server, once for each major version that this machine has."""
    return server(request.param)


@pytest.fixture(scope="session")
def pg16() -> Server:
    """The one version that is always there, for tests to which the version is nothing."""
    return server(16)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say last which checks were not made for want of a server."""
    for major in ABSENT:
        what = " (nor TLS and SCRAM over TCP)" if major == 15 else ""
        terminalreporter.write_line(f"NOT CHECKED: PostgreSQL {major} is not installed{what}")

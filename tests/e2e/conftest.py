"""One installation for all end-to-end tests that leave it whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.scene import Scene, scene


@pytest.fixture(scope="session")
def gate() -> Iterator[Scene]:
    """A gateway that serves, shared; tests that break one make their own with ``scene()``."""
    with scene() as made:
        yield made

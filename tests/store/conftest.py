"""A store in a folder of its own, and a way to its rows behind its back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store import Store
from tests.store.scene import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store of a test lies."""
    return tmp_path / "state"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[Store]:
    """An open, empty store."""
    opened = await open_store(folder)
    yield opened
    await opened.close()

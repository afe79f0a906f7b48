"""The store's own search for a ticket compares what is asked for, as the clerk's does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.scene import leaves, open_store
from tests.tickets import APPROVAL, NOW, ask, request


@pytest.mark.asyncio
async def test_a_line_that_asks_for_more_gets_a_ticket_of_its_own(tmp_path: Path) -> None:
    held = request(b"delete from claims where id = 1")
    stricter = replace(held, verdict=ask(replace(APPROVAL, quorum=2)))
    store = await open_store(tmp_path)
    requested = leaves("approval.requested")
    first = await store.request_ticket(held, NOW, requested)
    again = await store.request_ticket(held, NOW, requested)
    second = await store.request_ticket(stricter, NOW, requested)
    await store.close()
    assert again.id == first.id
    assert second.id != first.id
    assert second.approvals[0].quorum == 2

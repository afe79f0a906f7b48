"""Exceptions that nobody foresaw: their kind and place are logged, their text never."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from gateway.edge.internal import loop_fault
from tests.edge.house import PLANTED


@pytest.mark.asyncio
async def test_a_task_that_nobody_waits_for_tells_its_kind_only(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_exception_handler(loop_fault)

    async def fail() -> None:
        raise ValueError(f"invalid input: {PLANTED}")

    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    await asyncio.sleep(0.01)
    told = "".join(capfd.readouterr()) + caplog.text
    assert "ValueError" in told
    assert "fail" in told
    assert PLANTED not in told

"""Killable workers: what breaks a parser is a denial, and the next line does not notice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.action import Form
from gateway.core.plan import Parsed
from gateway.edge.judge_worker import Bench, frame, read_frame
from gateway.edge.workers import Worker, Workers, _slices_of
from gateway.errors import BadCommand, Denied, GatewayFault
from gateway.sql.limits import SqlLimits
from tests.edge.house import open_descriptors, runs
from tests.sql.gate import CATALOG, judged

LINE = b"select ssn as x, 'M\xc3\xbcller' from patients"
# The gate's own counts are lifted here, so that only the worker stands in the way.
OPEN_GATE = SqlLimits(
    statement_bytes=1 << 24, script_bytes=1 << 24, brackets=1 << 24, comments=1 << 24, nodes=1 << 24
)
CHAINED = b"select 1" + b"+1" * 100_000
QUADRATIC = b"select 1 " + b"/*" * 200_000 + b"*/" * 200_000


@asynccontextmanager
async def pool(count: int = 1, **options: Any) -> AsyncIterator[Workers]:
    """A started pool; its limits are wide, for a busy machine."""
    workers = Workers(count=count, **({"timeout_ms": 20_000} | options))
    await workers.start()
    try:
        yield workers
    finally:
        await workers.stop()


async def parse(
    workers: Workers, text: bytes, form: Form = "single", limits: SqlLimits | None = None
) -> Parsed:
    return await workers.parse(
        text, form=form, target="claims-db", catalog=CATALOG, limits=limits or SqlLimits()
    )


def pid_of(workers: Workers) -> int:
    (worker,) = workers._all
    assert worker._process is not None
    return worker._process.pid


async def test_answers_are_those_of_the_gate_itself() -> None:
    async with pool() as workers:
        assert await parse(workers, LINE) == judged(LINE)
        script = b"begin; select count(*) from claims; commit;"
        assert await parse(workers, script, "script") == judged(script, "script")
        with pytest.raises(BadCommand) as caught:
            await parse(workers, b"selec 1")
        with pytest.raises(BadCommand) as here:
            judged(b"selec 1")
        assert (caught.value.rule, caught.value.reason) == (here.value.rule, here.value.reason)
        with pytest.raises(Denied) as denied:
            await parse(workers, b"select pg_read_file('x')")
        assert denied.value.rule == "sql.function"
        with pytest.raises(BadCommand) as encoding:
            await parse(workers, b"select '\xff'")
        assert encoding.value.rule == "line.encoding"
        assert workers.deaths == 0


async def test_a_changed_catalog_is_sent_again() -> None:
    async with pool() as workers:
        assert await parse(workers, LINE) == judged(LINE)
        other = replace(CATALOG, fingerprint="cd" * 32, relations=CATALOG.relations[1:])
        found = await workers.parse(
            b"select id from claims", form="single", target="claims-db", catalog=other,
            limits=SqlLimits(),
        )  # fmt: skip
        assert found.catalog == "cd" * 32
        with pytest.raises(Denied):
            await workers.parse(
                LINE, form="single", target="claims-db", catalog=other, limits=SqlLimits()
            )


@pytest.mark.parametrize("bomb", [CHAINED, QUADRATIC], ids=["stack", "time"])
async def test_a_bomb_past_the_gates_counts_kills_its_worker_only(bomb: bytes) -> None:
    async with pool(timeout_ms=1_500) as workers:
        before = pid_of(workers)
        with pytest.raises(Denied) as caught:
            await parse(workers, bomb, limits=OPEN_GATE)
        assert caught.value.rule == "sql.too-costly"
        assert "nest" in caught.value.advice
        assert workers.deaths == 1
        workers._timeout_s = 20.0
        assert await parse(workers, LINE) == judged(LINE)
        assert pid_of(workers) != before
        assert not runs(before)


async def test_a_line_that_takes_too_much_memory_is_a_denial() -> None:
    async with pool(memory_mb=300) as workers:
        rows = b", ".join(b"(%d, 'some text to keep')" % n for n in range(200_000))
        with pytest.raises(Denied) as caught:
            await parse(workers, b"insert into claims values " + rows, limits=OPEN_GATE)
        assert caught.value.rule == "sql.too-costly"
        assert await parse(workers, LINE) == judged(LINE)


async def test_a_worker_that_dies_over_a_line_denies_that_line() -> None:
    async with pool() as workers:
        pid = pid_of(workers)
        os.kill(pid, signal.SIGSTOP)
        asking = asyncio.create_task(parse(workers, LINE))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Denied) as caught:
            await asking
        assert caught.value.rule == "sql.too-costly"
        assert await parse(workers, LINE) == judged(LINE)


async def test_a_worker_that_died_idle_does_not_lose_the_next_line() -> None:
    async with pool() as workers:
        (worker,) = workers._all
        assert worker._process is not None
        os.kill(worker._process.pid, signal.SIGKILL)
        await worker._process.wait()
        assert not worker.alive
        assert await parse(workers, LINE) == judged(LINE)
        assert workers.deaths == 0


async def test_a_bomb_beside_a_line_takes_one_worker_of_two() -> None:
    async with pool(count=2, timeout_ms=3_000) as workers:
        bomb = asyncio.create_task(parse(workers, QUADRATIC, limits=OPEN_GATE))
        await asyncio.sleep(0.05)
        assert await parse(workers, LINE) == judged(LINE)
        assert not bomb.done()
        with pytest.raises(Denied):
            await bomb


async def test_a_line_whose_client_left_gives_its_worker_back() -> None:
    async with pool() as workers:
        pid = pid_of(workers)
        os.kill(pid, signal.SIGSTOP)
        asking = asyncio.create_task(parse(workers, LINE))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        # The answer to the line that nobody waits for must not be taken for the next one's.
        assert await parse(workers, b"select id from claims") == judged(b"select id from claims")
        assert pid_of(workers) != pid


async def test_a_worker_that_does_not_come_up_is_a_fault_of_the_gateway() -> None:
    with pytest.raises(GatewayFault) as caught:
        await Worker(10**15).start()  # a limit that no system takes
    assert caught.value.rule == "worker.start"
    assert "decide_memory_mb" in caught.value.advice


async def test_stopping_leaves_no_process_and_no_descriptor() -> None:
    before = open_descriptors()
    async with pool(count=2) as workers:
        pids = [worker._process.pid for worker in workers._all if worker._process is not None]
        assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)
    assert open_descriptors() <= before


def test_a_frame_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "frames"
    messages: list[dict[str, Any]] = [{"text": "\u2028 'x' \x00"}, {"ready": True}]
    file.write_bytes(b"".join(frame(message) for message in messages))
    with file.open("rb") as stream:
        assert [read_frame(stream), read_frame(stream), read_frame(stream)] == [*messages, None]


def test_the_bench_keeps_one_catalog_a_target() -> None:
    bench = Bench()
    with pytest.raises(KeyError):
        bench.answer({"target": "x", "text": "select 1", "form": "single", "limits": {}})


def test_a_worker_cannot_put_another_text_in_the_place_of_the_line() -> None:
    honest = judged(b"select id from patients; select 1", form="script")
    text = b"select id from patients; select 1"
    assert _slices_of(honest, text, "script") == honest
    first, second = honest.units
    for forged in (
        replace(honest, units=(replace(first, text=b"drop table patients"), second)),
        replace(honest, units=(second, first)),
        replace(honest, units=(first, first)),
    ):
        with pytest.raises(GatewayFault, match="another text"):
            _slices_of(forged, text, "script")
    with pytest.raises(GatewayFault, match="another text"):
        _slices_of(replace(honest, units=(first,)), text, "single")

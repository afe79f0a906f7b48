"""Lines that are made to break a parser, and what they cost a session beside them.

At the shipped limits the gate counts and refuses them all before its parser could break.
``wide`` is a gateway whose limits are as loose as the configuration allows, so that bombs
reach a worker and end it.

Run ``python -m tests.e2e.bombs``: it prints one session's latency alone and beside a
continuous bomber, in turns on the same wide gateway (docs/runs/parser-bomb.txt).
"""

from __future__ import annotations

import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.e2e.scene import Scene, scene
from tests.servers import throwaway

# ssh sends a command as one argument, which Linux holds to 128 KiB (MAX_ARG_STRLEN, execve(2)).
ARGUMENT_BYTES = 131_071
MEGABYTE = 1 << 20

EXEC: Mapping[str, str] = {
    "60 KB of parentheses": "select " + "(" * 30_000 + "1" + ")" * 30_000,
    "60 KB of brackets": "select " + "array[" * 8_500 + "1" + "]" * 8_500,
    "60 KB of comments": "select 1 " + "/*" * 15_000 + "*/" * 15_000,
    "comments within every count": "select 1 " + "/*" * 19 + " /**/" * 2_500 + "*/" * 19,
    "10,000 operators": "select 1" + "+1" * 10_000,
    "operators up to the size": "select 1" + "+1" * 8_000,
    "10,000 NOTs": "select " + "not " * 4_000 + "true",
    "deep CASEs": "select " + "case when true then " * 700 + "1" + " end" * 700,
    "deep subqueries": "select * from (" * 95 + "select * from claims" + ") x" * 95,
    "stars of stars": "select " + ", ".join(["p.*"] * 1_600) + " from patients p",
    "joins of one table": "select * from claims c0"
    + "".join(f" join claims c{n} on c{n}.id = c{n - 1}.id" for n in range(1, 300)),
    "chained CTEs": "with a0 as (select * from patients)"
    + "".join(f", a{n} as (select * from a{n - 1} x, a{n - 1} y)" for n in range(1, 60))
    + " select * from a59",
    "a long identifier": "select " + "a" * 15_000 + "! from claims",
    "quotes without an end": "select " + "'" * 9_001,
    "dollar quotes": "select " + "".join(f"$a{n}$" for n in range(3_000)),
    "all an argument holds": "select '" + "x" * (ARGUMENT_BYTES - 100) + "'",
}
"""Each must end in a refusal or, where it is legal SQL, in any answer but a dead gateway."""

SCRIPTS: Mapping[str, str] = {
    "a line of 1 MB": "select '" + "x" * MEGABYTE + "';\n",
    "1 MB of parentheses": "select " + "(" * (MEGABYTE // 2) + "1" + ")" * (MEGABYTE // 2) + ";\n",
    "1 MB of semicolons": ";" * MEGABYTE,
    "250 KB of comments": "select 1 " + "/*" * 62_000 + "*/" * 62_000 + ";\n",
    "250 KB of operators": "select 1" + "+1" * 120_000 + ";\n",
    "60,000 statements": "select 1;" * 28_000,
    "60 KB of nesting": "select " + "(" * 30_000 + "1" + ")" * 30_000 + ";\n",
}

LEGAL = frozenset(
    {"stars of stars", "deep subqueries", "chained CTEs", "comments within every count"}
)
"""The gate may find these legal: they may also run, or be held for people."""

DEADLY: Mapping[str, str] = {
    "1 MB of operators": "select 1" + "+1" * 500_000 + ";\n",
    "1 MB of values": "select * from (values (1)" + ",(1)" * 250_000 + ") v;\n",
}
"""Scripts that cost a worker its life where the limits let them reach it."""

MAJOR = 16
_WIDE = "[limits]\nstatement_bytes = 1048576\nscript_bytes = 4194304\n"


@contextmanager
def wide() -> Iterator[Scene]:
    """A gateway of its own on a server of its own, with the widest limits of size."""
    with (
        throwaway(MAJOR) as server,
        scene(serve=False, own_servers={MAJOR: server}) as stage,
    ):
        text = stage.config.read_text()
        assert "[limits]\n" in text
        stage.config.write_text(text.replace("[limits]\n", _WIDE))
        stage.start()
        yield stage


@dataclass
class Bomber:
    """Sends bombs one after the other until it is told to stop.

    Attributes:
        codes: exit codes in the order in which they came.
    """

    stage: Scene
    identity: str = "etl2"
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            for bomb in DEADLY.values():
                done = self.stage.ssh(f"db{MAJOR}@{self.identity}", script=bomb)
                self.codes.append(done.returncode)
                if self._stop.is_set():
                    return

    def __enter__(self) -> Bomber:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def latencies_ms(stage: Scene, rounds: int) -> list[float]:
    """How long one small command takes through stock ssh, each time with a new connection.

    Raises:
        AssertionError: a command did not succeed.
    """
    found: list[float] = []
    for _ in range(rounds):
        before = time.perf_counter()
        done = stage.ssh(f"db{MAJOR}@etl", "select count(*) from claims")
        found.append((time.perf_counter() - before) * 1_000)
        assert done.returncode == 0, done.stderr
        assert b"     3\n" in done.stdout
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """Latencies in milliseconds: alone, and beside a bomber; and what the bomber got."""

    alone_ms: list[float]
    beside_ms: list[float]
    bomb_codes: list[int]

    def lines(self) -> list[str]:
        """The figures for people."""
        return [
            _figures("control, alone", self.alone_ms),
            _figures("beside a bomber", self.beside_ms),
            (
                f"bombs sent meanwhile: {len(self.bomb_codes)}, "
                f"exit codes {sorted(set(self.bomb_codes))}"
            ),
        ]


def measure(stage: Scene, rounds: int, turns: int = 2) -> Measured:
    """Measure alone and beside a bomber in turns, so that both see the same machine."""
    stage.log_in("etl")
    stage.log_in("etl2")
    latencies_ms(stage, 1)
    alone: list[float] = []
    beside: list[float] = []
    codes: list[int] = []
    for _ in range(turns):
        alone += latencies_ms(stage, rounds)
        with Bomber(stage) as bomber:
            beside += latencies_ms(stage, rounds)
        codes += bomber.codes
    return Measured(alone, beside, codes)


def _figures(name: str, latencies: list[float]) -> str:
    p95 = statistics.quantiles(latencies, n=20)[-1]
    return (
        f"{name:<16} n={len(latencies):<4} median {statistics.median(latencies):7.1f} ms"
        f"   p95 {p95:7.1f} ms"
    )


def main(rounds: int) -> None:
    """Measure on an installation of its own and print the figures."""
    start = datetime.now(UTC)
    with wide() as stage:
        assert stage.process is not None
        pid = stage.process.pid
        measured = measure(stage, rounds)
        alive = stage.process.poll() is None and stage.process.pid == pid
    print(f"command  python -m tests.e2e.bombs {rounds}")
    print(f"start    {start:%Y-%m-%dT%H:%M:%SZ}")
    print(f"end      {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    print(f"python   {platform.python_version()}, {platform.system()} {platform.machine()}")
    print("bomber   one identity, without a pause: " + ", ".join(DEADLY) + ", limits wide open")
    print("what     stock ssh, new connection each time: select count(*) from claims")
    for line in measured.lines():
        print(f"         {line}")
    print(f"result   {'ok: every command succeeded, same gateway process' if alive else 'FAILED'}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)

"""What a session at the prompt costs: memory, and the time from a key press to its echo.

Run ``python -m benchmarks.prompt_sessions [SESSIONS]``. Stock ssh at terminals, a real
gateway and real servers; memory is the gateway's own (its children left out), before and
with the sessions, each of which has run one statement. Key presses go to one session
after the other; the time includes ssh on both ways.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.scene import Scene, scene
from tests.e2e.terminal import Terminal, terminal
from tests.servers import MAJORS

KEYS = 1_000
_WHOS = ("etl", "etl2", "agent")


def resident_kb(gate: Scene) -> int:
    """The gateway's private resident memory, without its children's."""
    assert gate.process is not None
    text = Path(f"/proc/{gate.process.pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def key_press_ms(here: Terminal) -> float:
    """Milliseconds from a key to the first byte of its echo."""
    while here.read(0):
        pass
    before = time.perf_counter()
    here.type("x")
    assert here.read(5)
    return (time.perf_counter() - before) * 1_000


def measure(gate: Scene, count: int) -> None:
    """Print the figures of so many sessions at a time."""
    places = [f"db{MAJORS[n % len(MAJORS)]}@{_WHOS[n // 3 % 3]}" for n in range(count)]
    for place in sorted(set(places)):
        with terminal(gate, place) as here:
            here.wait_for_prompt()
            here.run("select 1;")
    time.sleep(1)
    before_kb = resident_kb(gate)
    with ExitStack() as stack:
        many = [stack.enter_context(terminal(gate, place)) for place in places]
        for each in many:
            each.wait_for_prompt(timeout_s=120)
        idle_kb = resident_kb(gate)
        for each in many:
            each.run("select 1;", timeout_s=120)
        used_kb = resident_kb(gate)
        random.shuffle(many)
        times = sorted(key_press_ms(many[n % count]) for n in range(KEYS))
    print(f"{count} sessions")
    print(f"  memory a session at its prompt      {(idle_kb - before_kb) / count:8.0f} kB")
    print(f"  and after one statement             {(used_kb - before_kb) / count:8.0f} kB")
    print(f"  key press to echo, p50              {statistics.median(times):8.1f} ms")
    print(f"  key press to echo, p99              {times[int(KEYS * 0.99)]:8.1f} ms")


def main() -> None:
    """Print the figures of one session and of many."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 90
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}, {os.cpu_count()} cores", flush=True)
    with scene() as gate:
        for count in (1, many):
            measure(gate, count)


if __name__ == "__main__":
    main()

"""A walk through everything that a person does at the prompt, in tmux.

``python -m tests.e2e.prompt_walk FOLDER`` plays it at 80×24 and 200×50 and writes what
the screens showed to FOLDER/prompt-80x24.txt and FOLDER/prompt-200x50.txt.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.scene import DATABASE, Scene, scene
from tests.e2e.terminal import Window, window
from tests.servers import Server

SIZES = ((80, 24), (200, 50))
MAJOR = 16
_PASTED_LINES = 200
_BULK_ROWS = 20_000
_SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep('"
_SLEEPS += " || '%' AND pid <> pg_backend_pid()"

Note = Callable[[str], None]


def walk(gate: Scene, cols: int, rows: int) -> str:
    """Play every step, checking each; returns the screens, with titles."""
    frames: list[str] = []
    destination = f"db{MAJOR}@etl"
    with window(gate, destination, cols, rows) as here:

        def note(title: str) -> None:
            frames.append(f"## {title}\n\n{here.text()}\n")

        here.wait_for_prompt()
        _enter_lines(here, note)
        _look_wide(here, note)
        _stop_statements(here, note, gate.servers[MAJOR])
        _change(here, note, gate, destination)
        _paste(here, note)
        _resize(here, note, cols, rows)
        here.type("\x04")
        assert here.code() == 0
        note("Ctrl-D")
    return "\n".join(frames)


def _enter_lines(here: Window, note: Note) -> None:
    here.type("select id, status\r")
    here.wait_for("->")
    here.type("from claims order by id;\r")
    here.wait_for_prompt(after="(3 rows)")
    note("a statement of two lines")
    here.type("select id, ssn from pat\t")
    here.wait_for("patient_id")
    note("Tab: what fits, from what this identity may read")
    here.type("\t")
    here.wait_for("from patients")
    here.type(";\r")
    here.wait_for_prompt(after="[SSN]")
    note("the second one taken")
    here.type("\x1b[A")
    here.until("the line before", lambda text: text.endswith("=> select id, ssn from patients;"))
    here.type("\x1b[A")
    here.until("two lines", lambda text: text.endswith("-> from claims order by id;"))
    note("Up, twice: history")
    here.type("\x03")
    here.wait_for_prompt()
    note("Ctrl-C at the prompt")
    here.type("\x0c")
    here.until("a clear screen", lambda text: re.fullmatch(r"db\d+=>", text) is not None)


def _look_wide(here: Window, note: Note) -> None:
    here.type("select * from patients join visits on patients.id = patient_id;\r")
    here.wait_for_prompt(after="(2 rows)")
    note("a wide table")


def _stop_statements(here: Window, note: Note, server: Server) -> None:
    here.type("select pg_sleep(60);\r")
    _wait_for(lambda: server.sql(_SLEEPS, database=DATABASE) == "1")
    here.type("\x03")
    here.wait_for_prompt(after="canceling statement due to user request")
    _wait_for(lambda: server.sql(_SLEEPS, database=DATABASE) == "0")
    note("Ctrl-C in pg_sleep")


def _change(here: Window, note: Note, gate: Scene, destination: str) -> None:
    here.type("\x0cbegin;\r")
    here.wait_for_prompt("*", after="BEGIN")
    here.type("select 1/0;\r")
    here.wait_for_prompt("!", after="division by zero")
    here.type("rollback;\r")
    here.wait_for_prompt(after="ROLLBACK")
    note("a transaction, and an error in it")
    statement = f"delete from claims where id = {1000 + here.cols};"
    here.type(f"\x0cbegin;\r{statement}\r")
    here.wait_for_prompt("*", after="What to do")
    note("a line that needs a grant, in a transaction")
    here.type(f"rollback;\r\x0c{statement}\r")
    held = here.wait_for_prompt(after="Ticket T-")
    note("the same line, held")
    found = re.search(r"T-\d+", held)
    assert found is not None
    voted = gate.ssh("gateway@approver", "approve", found[0], "--reason", "a walk")
    assert voted.returncode == 0, voted.stderr.decode()
    here.type("\x1b[A\r")
    here.wait_for_prompt(after="DELETE 0")
    note("granted by another session: sent again, it runs")


def _paste(here: Window, note: Note) -> None:
    here.type("\x0c")
    here.wait_for_prompt()
    rows = "".join(f"  ({number}),\n" for number in range(1, _PASTED_LINES - 1))
    here.paste(f"select max(n) as pasted from (values\n{rows}  (0)) as v (n)")
    here.until("the pasted lines", lambda text: text.endswith("->   (0)) as v (n)"))
    here.type(";")
    note("200 lines pasted")
    here.type("\r")
    here.wait_for_prompt(after=f"{_PASTED_LINES - 2}\n(1 row)")
    note("and sent")


def _resize(here: Window, note: Note, cols: int, rows: int) -> None:
    here.type(f"\x0cselect g, repeat('x', 30) from generate_series(1, {_BULK_ROWS}) g;\r")
    here.wait_for(" xxx")
    here.resize(cols - 17, rows - 5)
    here.wait_for_prompt(after=f"({_BULK_ROWS} rows)")
    seen = [int(row) for row in re.findall(r"^ +(\d+) \| x+$", here.history(), re.MULTILINE)]
    assert seen[-1000:] == list(range(_BULK_ROWS - 999, _BULK_ROWS + 1))
    here.type("select * from patients where false;\r")
    here.wait_for_prompt(after="(0 rows)")
    note(f"the window made smaller in mid-output, now {cols - 17}×{rows - 5}")


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "the server does not do it"
        time.sleep(0.05)


def main(folder: Path) -> None:
    """Write the transcripts."""
    with scene() as gate:
        for cols, rows in SIZES:
            path = folder / f"prompt-{cols}x{rows}.txt"
            head = f"python -m tests.e2e.prompt_walk: tmux {cols}×{rows}, PostgreSQL {MAJOR}\n\n"
            path.write_text(head + walk(gate, cols, rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

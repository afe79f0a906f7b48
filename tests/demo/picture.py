"""The README's picture of the prompt: ``python -m tests.demo.picture docs/pictures/prompt.svg``.

A real demo, a real ``ssh -tt``; what a terminal of 88×22 shows, drawn by rich.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from gateway.demo.stage import Stage, staged

COLS, ROWS = 88, 22
KEYS = (
    ("select p.id, p.last_name, p.ssn, v.reason_code\rfrom patients p\r", 2.0),
    ("join visits v on v.patient_id = p.id\rorder by v.id limit 3;\r", 4.0),
    ("delete from claims where status = 'denied';\r", 3.0),
    ("drop table patients;\r", 3.0),
)


def screen_of(stage: Stage) -> pyte.Screen:
    """The screen after all keys were typed."""
    screen = pyte.Screen(COLS, ROWS)
    stream = pyte.ByteStream(screen)
    config = str(stage.deployment.ssh_config)
    with subprocess.Popen(
        ["ssh", "-F", config, "-tt", "claims-db@etl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        time.sleep(3)
        for text, wait_s in KEYS:
            for line in text.splitlines(keepends=True):
                process.stdin.write(line.encode())
                process.stdin.flush()
                time.sleep(wait_s / 2)
            stream.feed(process.stdout.read() or b"")
        process.kill()
    return screen


def styled(screen: pyte.Screen) -> Text:
    """The screen's cells with their colours."""
    found = Text()
    for row in range(ROWS):
        for col in range(COLS):
            cell = screen.buffer[row][col]
            colour = None if cell.fg == "default" else cell.fg.replace("bright", "bright_")
            if colour and re.fullmatch(r"[0-9a-f]{6}", colour):
                colour = f"#{colour}"
            found.append(cell.data, Style(color=colour, bold=cell.bold))
        found.append("\n")
    return found


def main() -> None:
    """Draw the picture into the file that is named."""
    with staged(None, lambda _: None) as stage:
        screen = screen_of(stage)
    console = Console(record=True, width=COLS, file=io.StringIO())
    console.print(styled(screen))
    Path(sys.argv[1]).write_text(console.export_svg(title="ssh -t claims-db@gateway"))


if __name__ == "__main__":
    main()

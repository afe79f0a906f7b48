"""``tollhouse approvals``: what it says where it cannot run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import typer
from gateway.cli import approvals
from gateway.errors import TollhouseError
app = typer.Typer()
approvals.register(app)
try:
    app(args=["--host", "gate"], standalone_mode=False)
except TollhouseError as error:
    print(error.rule, error)
    sys.exit(int(error.exit_code))
"""
TERMINAL = "import sys\nsys.stdin.isatty = sys.stderr.isatty = lambda: True\n"
HIDDEN = "import sys\nsys.modules['textual'] = None\n"


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_terminal_it_names_the_way_for_scripts() -> None:
    done = run(PROGRAM)
    assert done.returncode == 64
    assert "ssh gateway@HOST tickets --json" in done.stdout


def test_without_the_extra_it_names_the_line_to_type() -> None:
    done = run(HIDDEN + TERMINAL + PROGRAM)
    assert done.returncode == 70
    assert "pip install 'tollhouse[tui]'" in done.stdout


@pytest.mark.parametrize("module", ["gateway.cli.approvals", "tui.tickets", "tui.framing"])
def test_the_library_is_loaded_only_when_the_queue_opens(module: str) -> None:
    done = run(f"import sys, {module}\nassert 'textual' not in sys.modules")
    assert done.returncode == 0, done.stderr

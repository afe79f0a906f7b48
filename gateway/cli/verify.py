"""``tollhouse verify``: is this record what was recorded? Offline, in the base install."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from recorder.verify import verify_paths


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        epilog="Example: tollhouse verify /var/lib/tollhouse/state --vkey 'gw+0123abcd+AbC…'"
    )(verify)


def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Casts or state folders.")],
    vkey: Annotated[
        str | None, typer.Option(help="The log's key, got from elsewhere than the folder.")
    ] = None,
    complete: Annotated[
        bool, typer.Option(help="Sessions never closed and unproven lines count as not intact.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify casts and state folders; exit 0 intact, 1 not, 2 unreadable."""
    report = verify_paths(paths, vkey, complete)
    print(json.dumps(report.to_json(), ensure_ascii=False) if as_json else report.text())
    raise typer.Exit(report.exit_code)

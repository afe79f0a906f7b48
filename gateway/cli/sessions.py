"""``tollhouse sessions``: what was recorded, for the operator of the gateway."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.errors import BadCommand, TargetUnavailable

Config = Annotated[Path, typer.Option(help="The gateway.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Session = Annotated[str, typer.Argument(help="Id of a session, or the beginning of one.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command(
        "list", epilog="Example: tollhouse sessions list --config gateway.toml --limit 20"
    )(list_)
    group.command(epilog="Example: tollhouse sessions show s-20260715-3f --config gateway.toml")(
        show
    )
    group.command(epilog="Example: tollhouse sessions replay s-20260715-3f --config gateway.toml")(
        replay
    )
    app.add_typer(group, name="sessions", help="List, show and replay recorded sessions.")


def list_(
    config: Config,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """The newest sessions first."""
    from gateway.store.reading import sessions

    found = sessions(_state(config), limit)
    if as_json:
        print(json.dumps(found))
        return
    if not found:
        print("No session yet.")
    for row in found:
        ended = row["reason"] or row["state"]
        print(
            f"{row['id']:<28} {row['opened'][:19]}  {_shown(row['identity_name']):<16} "
            f"{row['target']:<14} {row['client']:<16} {_shown(ended)}"
        )


def show(session: Session, config: Config, as_json: Json = False) -> None:
    """One session: who, what was decided, how it ended."""
    from gateway.store.reading import leaves

    state = _state(config)
    row = _find(state, session)
    found = leaves(state, row["id"])
    if as_json:
        print(json.dumps({"session": row, "leaves": found}))
        return
    for key, value in row.items():
        print(f"{key:<14} {_shown(str(value)) if value is not None else '-'}")
    for leaf in found:
        print(f"\n#{leaf['index']} {leaf['time'][:19]} {leaf['type']}")
        if leaf["body"] is None:
            print("  (erased)")
            continue
        for key, value in leaf["body"].items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"  {key:<12} {_shown(text)}")


def replay(
    session: Session,
    config: Config,
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="How many times faster.")] = 1.0,
    idle: Annotated[float, typer.Option(min=0.1, help="Longest pause, seconds.")] = 2.0,
    cat: Annotated[bool, typer.Option("--cat", help="Print the whole output at once.")] = False,
) -> None:
    """Play a recording in asciinema; its proof is `tollhouse verify`."""
    state = _state(config)
    path = state / "casts" / _find(state, session)["cast"]
    if not path.is_file():
        raise TargetUnavailable(f"{path} is gone", "See `tollhouse verify`", rule="sessions.cast")
    player = _asciinema()
    options = [] if cat else ["-s", str(speed), "-i", str(idle)]
    done = subprocess.run([player, "cat" if cat else "play", *options, str(path)], check=False)
    raise typer.Exit(done.returncode)


def _asciinema() -> str:
    """The player: beside this interpreter first, then on PATH. A process, never imported (GPL)."""
    beside = Path(sys.executable).parent / "asciinema"
    found = str(beside) if beside.is_file() else shutil.which("asciinema")
    if found is None:
        raise TargetUnavailable(
            "asciinema is not installed", "pip install 'tollhouse[replay]'", rule="sessions.replay"
        )
    return found


def _find(state: Path, session: str) -> dict[str, Any]:
    from gateway.store.reading import sessions

    found = [row for row in sessions(state, 10_000) if row["id"].startswith(session)]
    exact = [row for row in found if row["id"] == session] or found
    if len(exact) != 1:
        what = "more than one session begins so" if exact else "there is no such session"
        raise BadCommand(what, "`tollhouse sessions list` shows them", "sessions.id")
    return exact[0]


def _state(config: Path) -> Path:
    from gateway.config import load

    return load(config, files=False).server.state_dir


def _shown(text: str) -> str:
    from gateway.core.display import show as display

    return display(text)

"""``tollhouse demo``: everything on this machine, with the tour or to try by hand."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import BadCommand


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: tollhouse demo --tour")(demo)


def demo(
    tour: Annotated[bool, typer.Option("--tour", help="Play the whole story, then end.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="An empty folder to keep; a temporary one if left out.")
    ] = None,
    ready: Annotated[
        Path | None, typer.Option(help="Write JSON to this file once all listens.")
    ] = None,
) -> None:
    """An embedded PostgreSQL with synthetic PHI, a local issuer and a gateway.

    Needs the extra `demo`. Without --tour it runs until Ctrl-C or SIGTERM.
    """
    from gateway.demo.stage import renewing, staged

    if state is not None:
        state = _empty(state)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _leave(stop))
    try:
        with staged(state, lambda line: print(f"  {line}", file=sys.stderr)) as stage:
            if ready is not None:
                _write_whole(ready, json.dumps(stage.ready()) + "\n")
            if tour:
                from gateway.demo.tour import play

                raise typer.Exit(play(stage))
            with renewing(stage):
                print(_invitation(str(stage.deployment.ssh_config), stage.sandbox))
                sys.stdout.flush()
                stop.wait()
    except _Left:
        raise typer.Exit(0) from None


class _Left(BaseException):
    """SIGTERM or Ctrl-C: the stage is taken down on the way out."""


def _leave(stop: threading.Event) -> None:
    if stop.is_set():
        return
    stop.set()
    raise _Left


def _empty(folder: Path) -> Path:
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadCommand(f"{folder} is not empty", "Name an empty folder", "demo.state")
    return folder


def _invitation(ssh_config: str, sandbox: str) -> str:
    go = f"ssh -F {ssh_config}"
    return f"""
The gateway serves; children run at sandbox level `{sandbox}`. In another terminal:

  {go} claims-db@etl 'select * from patients limit 5'
  {go} claims-db@etl 'drop table patients'
  {go} claims-db@etl "delete from claims where status = 'denied'"
  {go} gateway@approver tickets
  {go} gateway@approver approve T-1 --reason 'checked with billing'
  {go} gateway@agent whoami

Identities: etl, agent, analyst, approver, approver2, owner, auditor. Ctrl-C ends it."""  # noqa: S608  # for people to read


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file sees it whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)

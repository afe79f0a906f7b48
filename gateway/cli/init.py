"""``tollhouse init``: a folder with everything a new gateway needs."""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from gateway.errors import BadCommand

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: tollhouse init /etc/tollhouse --host gateway.example.org")(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    host: Annotated[
        str, typer.Option(help="The name by which clients reach the gateway.")
    ] = "localhost",
    ssh_port: Annotated[int, typer.Option(help="Port of the SSH server.", min=1, max=65535)] = 2222,
    https_port: Annotated[
        int, typer.Option(help="Port of the token exchange.", min=1, max=65535)
    ] = 8443,
) -> None:
    """Make a new deployment: keys, gateway.toml and policies.

    Nothing that exists is overwritten.
    """
    if not _HOST.fullmatch(host):
        raise BadCommand("the host is not a name", "Write it as gateway.example.org", "init")
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise BadCommand(
            f"{folder} exists", "Name a folder that is not there yet", "init"
        ) from None
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise BadCommand(f"{folder} cannot be made ({reason})", "Choose another", "init") from None
    try:
        _fill(folder, host, ssh_port, https_port)
    except BaseException:
        # Half a deployment would look like a whole one; nothing but ours lies in it.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _print_next_steps(folder, host)


def render(host: str, ssh_port: int, https_port: int) -> str:
    """The text of gateway.toml for a host and its ports."""
    template = files("gateway.cli").joinpath("template.toml").read_text(encoding="utf-8")
    return Template(template).substitute(
        host=host, ssh_port=ssh_port, https_port=https_port, url=f"https://{host}:{https_port}"
    )


def _fill(folder: Path, host: str, ssh_port: int, https_port: int) -> None:
    from gateway.edge.keygen import make_keys
    from gateway.files import write_new

    for name in ("keys", "state", "policies"):
        (folder / name).mkdir(mode=0o700)
    make_keys(folder / "keys", folder / "state", host=host, origin=f"{host}/tollhouse")
    for source in files("gateway").joinpath("policies").iterdir():
        if source.name.endswith(".cedar"):
            write_new(folder / "policies" / source.name, source.read_bytes(), 0o644)
    text = render(host, ssh_port, https_port)
    write_new(folder / "gateway.toml", text.encode(), 0o644)


def _print_next_steps(folder: Path, host: str) -> None:
    where = folder.absolute()
    print(f"Made {where}: gateway.toml, keys/, policies/, state/")
    print()
    print("Next:")
    print(f"  1. Change what is marked EXAMPLE in {where / 'gateway.toml'}")
    print(f"  2. tollhouse check --config {where / 'gateway.toml'}")
    print(f"  3. tollhouse serve --config {where / 'gateway.toml'}")
    print()
    print(f"Clients trust its HTTPS by this file: {where / 'keys' / 'tls.pem'}")
    print(f"  tollhouse login --gateway https://{host}:… --ca-file tls.pem --token-file …")
    print(f"Give auditors this file now, by a way of its own: {where / 'state' / 'log.vkey'}")

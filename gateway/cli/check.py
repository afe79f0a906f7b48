"""``tollhouse check``: every fault of configuration, keys and policies at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import ConfigError, Fault

if TYPE_CHECKING:
    from gateway.config import GatewayConfig


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: tollhouse check --config /etc/tollhouse/gateway.toml")(check)


def check(
    config: Annotated[Path, typer.Option(help="The gateway.toml to check.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a configuration, its keys and its policies; exit 0 or 2.

    Every fault is named with its place and its remedy.
    """
    faults = find_faults(config)
    if as_json:
        shown = [{"place": f.place, "reason": f.reason, "remedy": f.remedy} for f in faults]
        print(json.dumps({"ok": not faults, "faults": shown}))
    else:
        for fault in faults:
            print(fault)
        print(f"{len(faults)} fault(s)" if faults else "no faults")
    raise typer.Exit(2 if faults else 0)


def find_faults(path: Path) -> tuple[Fault, ...]:
    """Everything that keeps this configuration from serving, without network."""
    from gateway.config import load

    try:
        config = load(path)
    except ConfigError as error:
        return error.faults
    return (*_key_faults(config), *_policy_faults(config))


def _key_faults(config: GatewayConfig) -> list[Fault]:
    from gateway.edge import keys

    faults: list[Fault] = []
    server, ca = config.server, config.ca
    for file in (server.host_key_file, ca.key_file, ca.host_key_file):
        try:
            keys.load_ssh_key(file)
        except ConfigError as error:
            faults += error.faults
    for file in (config.store.mac_key_file, config.store.seal_key_file):
        try:
            keys.load_symmetric_key(file)
        except ConfigError as error:
            faults += error.faults
    try:
        keys.load_log_key(config.recorder.log_key_file)
    except ConfigError as error:
        faults += error.faults
    try:
        keys.tls_context(server.tls_cert_file, server.tls_key_file)
    except ConfigError as error:
        faults += error.faults
    return faults


def _policy_faults(config: GatewayConfig) -> tuple[Fault, ...]:
    from gateway.core.policy import Policies
    from gateway.files import read_policies

    try:
        Policies.load(read_policies(config.policy.dir))
    except ConfigError as error:
        return error.faults
    return ()

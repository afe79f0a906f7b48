"""``tollhouse targets``: what is behind the gate, and what its columns hold."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import BadCommand

if TYPE_CHECKING:
    from gateway.config import GatewayConfig, Target
    from gateway.sql.catalog import Catalog

Config = Annotated[Path, typer.Option(help="The gateway.toml.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the target.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list", epilog="Example: tollhouse targets list --config gateway.toml")(list_)
    group.command(epilog="Example: tollhouse targets test claims-db --config gateway.toml")(test)
    group.command(
        epilog="Example: tollhouse targets classify claims-db --config gateway.toml > columns.toml"
    )(classify)
    app.add_typer(group, name="targets", help="List and try targets, and classify their columns.")


def list_(config: Config, as_json: Json = False) -> None:
    """The configured targets."""
    from gateway.config import load

    rows = [
        {
            "name": target.name,
            "type": target.type,
            "where": target.host or str(target.socket_dir),
            "database": target.database,
            "tls": target.tls,
            "writes": target.writer is not None,
        }
        for target in load(config, files=False).target
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        access = "read and write" if row["writes"] else "read only"
        print(f"{row['name']:<20} {row['type']:<6} {row['where']}/{row['database']}  {access}")


def test(name: Name, config: Config, as_json: Json = False) -> None:
    """Log in with each login, and read the catalog."""
    from gateway.config import load

    loaded = load(config)
    target = _target(loaded, name)
    found = asyncio.run(_test(loaded, target))
    if as_json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:<14} {value}")


def classify(name: Name, config: Config) -> None:
    """Propose phi = yes or no for each column, by names and types, as TOML.

    Review it, keep it in git, and name it as the target's classification_file.
    What stays out of it stays masked, unless it is a number or a truth value.
    """
    from gateway.config import load
    from gateway.core.phi import ColumnFacts, propose

    loaded = load(config)
    target = _target(loaded, name)
    catalog = asyncio.run(_catalog(loaded, target))
    facts = [
        ColumnFacts(relation.schema, relation.name, column.name, column.type)
        for relation in catalog.relations
        if relation.kind not in ("sequence", "index", "composite")
        for column in relation.columns
    ]
    print(f"# Proposed for {target.name}, database {target.database}; every line wants a review.")
    for proposal in propose(facts):
        key = json.dumps(proposal.column)
        if proposal.phi == "unclassified":
            print(f'# {key} = "?"  # {proposal.why}')
        else:
            value = "no" if proposal.phi == "no" else (proposal.kind or "other")
            print(f"{key} = {json.dumps(value)}  # {proposal.why}")


async def _test(config: GatewayConfig, target: Target) -> dict[str, object]:
    from gateway.edge import upstream as up
    from gateway.edge.targets import Targets

    targets = Targets(config)
    try:
        found: dict[str, object] = {"target": target.name}
        for login in ("reader", "writer") if target.writer else ("reader",):
            connection = await up.connect(targets.upstream(target, login))
            found[login] = "logs in"
            await connection.close()
        catalog = await targets.current(target.name)
        columns = [column for relation in catalog.relations for column in relation.columns]
        found["server_version"] = catalog.server_version
        found["relations"] = len(catalog.relations)
        found["columns"] = len(columns)
        found["phi"] = sum(column.phi == "yes" for column in columns)
        found["unclassified"] = sum(column.phi == "unclassified" for column in columns)
        return found
    finally:
        await targets.close()


async def _catalog(config: GatewayConfig, target: Target) -> Catalog:
    from gateway.edge.targets import Targets

    targets = Targets(config)
    try:
        return await targets.current(target.name)
    finally:
        await targets.close()


def _target(config: GatewayConfig, name: str) -> Target:
    target = config.find_target(name)
    if target is None:
        known = ", ".join(t.name for t in config.target)
        raise BadCommand("there is no such target", f"Known: {known}", "targets.name")
    return target

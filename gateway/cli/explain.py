"""``tollhouse explain``: the verdict on a command, without running anything."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.errors import BadCommand, Denied, TargetUnavailable

if TYPE_CHECKING:
    from gateway.config import GatewayConfig, Target
    from gateway.core.events import Judgement
    from gateway.core.identity import Identity
    from gateway.edge.judging import Judges
    from gateway.sql.catalog import Catalog


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        epilog="Example: tollhouse explain --config gateway.toml --claims etl.json "
        '--target claims-db --catalog schema.sql -- "select ssn from patients"'
    )(explain)


def explain(
    config: Annotated[Path, typer.Option(help="The gateway.toml.")],
    claims: Annotated[Path, typer.Option(help="Claims of a token, as JSON; nothing is verified.")],
    target: Annotated[str, typer.Option(help="Name of the target.")],
    catalog: Annotated[
        Path | None, typer.Option(help="DDL of the database; the live target if left out.")
    ] = None,
    batch: Annotated[
        bool, typer.Option(help='Read {"command": …} lines from stdin, write one verdict a line.')
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    command: Annotated[
        list[str] | None, typer.Argument(help="As it would be given to ssh.")
    ] = None,
) -> None:
    """Say what would happen to a command, and why; exit 0 for any verdict."""
    from gateway.config import load

    if batch == bool(command):
        raise BadCommand("give one command, or --batch", "See tollhouse explain --help", "explain")
    loaded = load(config, files=False)
    chosen = loaded.find_target(target)
    if chosen is None:
        known = ", ".join(t.name for t in loaded.target)
        raise BadCommand("there is no such target", f"Known: {known}", "explain.target")
    identity = read_identity(loaded, claims)
    lines: Iterable[str] = (
        sys.stdin if batch else [json.dumps({"command": " ".join(command or [])})]
    )
    show = as_json or batch
    bad = asyncio.run(_explain(loaded, chosen, identity, catalog, lines, as_json=show))
    raise typer.Exit(2 if bad else 0)


def read_identity(config: GatewayConfig, claims: Path) -> Identity:
    """The identity that these claims would become.

    Raises:
        BadCommand: the file holds no claims.
        TokenRefused: they map to no role.
    """
    from gateway.core.roles import map_identity
    from gateway.core.token import Claims

    try:
        values = json.loads(claims.read_bytes())
        found = Claims(str(values["iss"]), str(values["sub"]), int(values.get("exp", 0)), values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BadCommand(
            f"{claims} holds no claims",
            'Write a JSON object with "iss" and "sub"',
            "explain.claims",
        ) from None
    return map_identity(found, config.role_rules)


async def _explain(
    config: GatewayConfig,
    target: Target,
    identity: Identity,
    ddl: Path | None,
    lines: Iterable[str],
    *,
    as_json: bool,
) -> bool:
    """Judge every line; whether one was no line at all."""
    from gateway.core.policy import Policies
    from gateway.edge.judging import Judges
    from gateway.edge.targets import Targets
    from gateway.edge.workers import Workers
    from gateway.files import read_policies

    policies = Policies.load(read_policies(config.policy.dir))
    limits = config.limits
    workers = Workers(
        count=1, memory_mb=limits.decide_memory_mb, timeout_ms=limits.decide_timeout_ms
    )
    live = Targets(config)
    catalogs = live if ddl is None else _Written(config, target, ddl)
    bad = False
    try:
        await catalogs.current(target.name)
        await workers.start()
        judges = Judges(config, policies, workers, catalogs)
        for line in lines:
            answer = await _answer(judges, target, identity, line)
            bad = bad or "error" in answer
            print(json.dumps(answer, ensure_ascii=False) if as_json else _words(answer), flush=True)
    finally:
        await workers.stop()
        await live.close()
    return bad


class _Written:
    """A catalog from DDL."""

    def __init__(self, config: GatewayConfig, target: Target, ddl: Path) -> None:
        from gateway.sql.ddl import catalog_from_ddl

        try:
            text = ddl.read_bytes()
        except OSError as error:
            raise TargetUnavailable(
                f"{ddl} cannot be read ({(error.strerror or 'error').lower()})",
                "Name a file of CREATE TABLE, VIEW, FUNCTION and COMMENT ON COLUMN",
                rule="explain.catalog",
            ) from None
        self._catalog = catalog_from_ddl(
            text, target.name, target.database, dict(target.classification)
        )

    async def current(self, target: str) -> Catalog:
        """The one catalog that there is."""
        return self._catalog


async def _answer(judges: Judges, target: Target, identity: Identity, line: str) -> dict[str, Any]:
    from gateway.core.policy import verdict_json
    from gateway.core.verdict import Verdict
    from gateway.edge.sessions import line_of

    try:
        command = json.loads(line)["command"]
    except (ValueError, KeyError, TypeError):
        command = None
    if not isinstance(command, str):
        return {"error": 'This line is not {"command": "…"}'}
    try:
        if target.name not in identity.targets:
            raise Denied(
                f"No role of {identity.name} opens {target.name}",
                "Add the target to a role in gateway.toml",
                "role.target",
            )
        judgement = await judges.judge(line_of(command), target.name, identity)
    except (BadCommand, Denied) as error:
        verdict = Verdict("deny", error.rule, error.reason, error.advice)
        return verdict_json(verdict, None, (), []) | {"advice": error.advice}
    return _judged(judgement)


def _judged(judgement: Judgement) -> dict[str, Any]:
    from gateway.core.notice import masked_columns
    from gateway.core.policy import verdict_json

    verdict = judgement.verdict
    columns = masked_columns(judgement)
    found = verdict_json(verdict, None, judgement.parsed.actions, columns)
    return found | {"advice": verdict.advice}


def _words(answer: dict[str, Any]) -> str:
    from gateway.core.display import show

    if "error" in answer:
        return f"error: {answer['error']}"
    rows = [f"{answer['verdict']} [{answer['rule']}]: {show(answer['reason'])}"]
    if answer["advice"]:
        rows.append(f"  What to do: {show(answer['advice'])}")
    rows += [f"  {action['verb']} {show(action['object'])}" for action in answer["actions"]]
    rows += [
        f"  masked: {show(column['name'])} ({show(column['why'])})"
        for column in answer["masked_columns"]
    ]
    return "\n".join(rows)

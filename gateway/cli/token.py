"""``tollhouse token explain``: what a token would open here, and why not."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.errors import BadCommand, ConfigError, ExitCode, LoginRefused, TargetUnavailable

if TYPE_CHECKING:
    from gateway.config import GatewayConfig
    from gateway.core.token import Claims, Jwks

_MAX_LINE_CHARS = 65_536


def register(app: typer.Typer) -> None:
    """Add the verb group."""
    group = typer.Typer(name="token", help="Look at tokens.", no_args_is_help=True)
    group.callback()(_group)
    group.command(
        epilog="Example: tollhouse token explain --config gateway.toml --jwks keys.json - < token"
    )(explain)
    app.add_typer(group)


def _group() -> None:
    """Look at tokens."""


def explain(
    config: Annotated[Path, typer.Option(help="The gateway.toml to judge by.")],
    given: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token; - reads it from stdin.")
    ] = "-",
    jwks: Annotated[
        Path | None, typer.Option(help="JWK set to verify with, instead of asking the issuer.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Judge as of this time (RFC 3339), instead of now.")
    ] = None,
    batch: Annotated[
        bool, typer.Option(help='Read {"token": …} lines from stdin, write a verdict a line.')
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a token verifies, who it is here, and what its certificate would hold."""
    from gateway.config import load

    judge = _Judge(load(config, files=False), _read_jwks(jwks), _read_time(at))
    if batch:
        raise typer.Exit(_explain_lines(judge))
    text = sys.stdin.read(_MAX_LINE_CHARS + 1) if given == "-" else given
    verdict = judge.explain(text.strip())
    if as_json:
        print(json.dumps(verdict))
    else:
        _print(verdict)
    raise typer.Exit(_exit_code(verdict))


def _read_jwks(path: Path | None) -> Jwks | None:
    if path is None:
        return None
    try:
        found = json.loads(path.read_bytes())
        keys = found["keys"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise BadCommand("the JWK set cannot be read", 'It is a file {"keys": […]}', "token.jwks")
    return keys


def _read_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadCommand("--at is not a time", "Write it as 2026-07-01T08:00:00Z", "token.at")
    return time


def _exit_code(verdict: dict[str, Any]) -> int:
    if "identity" in verdict:
        return ExitCode.OK
    unavailable = verdict["rule"] == "issuer.unavailable"
    return ExitCode.TARGET_UNAVAILABLE if unavailable else ExitCode.DENIED


class _Judge:
    """Explains tokens by one configuration, at one time or at each moment.

    Args:
        config: issuers and roles.
        jwks: keys to use for every issuer; None asks the issuers.
        at: the time to judge by; None for now.
    """

    def __init__(self, config: GatewayConfig, jwks: Jwks | None, at: datetime | None) -> None:
        from gateway.edge.issuers import Issuers

        self._config = config
        self._jwks = jwks
        self._at = at
        self._issuers = Issuers.of(config)
        self._origin = _origin(config)

    def explain(self, token: str) -> dict[str, Any]:
        """One verdict: ``{"verified": bool, …}`` with the identity or the refusal."""
        from gateway.core.certificate import terms_for
        from gateway.core.roles import map_identity

        now = self._at or datetime.now(UTC)
        try:
            claims = self._verify(token, now)
        except (LoginRefused, TargetUnavailable) as refusal:
            return {"verified": False, **_refusal(refusal)}
        known = {"verified": True, "issuer": claims.issuer, "subject": claims.subject}
        try:
            identity = map_identity(claims, self._config.role_rules)
            # Without the CA's key the origin is not known; it stands as zeros.
            terms = terms_for(
                identity, self._origin or "00000000", 1, now, self._config.ca.certificate_ttl
            )
        except LoginRefused as refusal:
            return {**known, **_refusal(refusal)}
        return {
            **known,
            "identity": identity.name,
            "kind": identity.kind,
            "roles": list(identity.roles),
            "targets": list(identity.targets),
            "groups": list(identity.groups),
            "accountable": list(identity.accountable),
            "annotations": dict(identity.annotations),
            "certificate": {
                "principals": list(terms.principals),
                "valid_before": terms.valid_before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "ttl_s": int(self._config.ca.certificate_ttl.total_seconds()),
                "extensions": ["permit-pty"],
                "origin": self._origin,
            },
        }

    def _verify(self, token: str, now: datetime) -> Claims:
        import asyncio

        from gateway.core.token import peek, verify

        if self._jwks is None:
            return asyncio.run(self._issuers.verify(token, now))
        return verify(token, self._jwks, self._issuers.rules_for(peek(token).issuer), now)


def _refusal(refusal: LoginRefused | TargetUnavailable) -> dict[str, str]:
    return {"rule": refusal.rule, "reason": refusal.reason, "advice": refusal.advice}


def _origin(config: GatewayConfig) -> str | None:
    """The origin in principals, where this machine has the CA's key."""
    from gateway.core.certificate import origin
    from gateway.edge.keys import load_ssh_key

    try:
        return origin(load_ssh_key(config.ca.key_file).public_data)
    except ConfigError:
        return None


def _explain_lines(judge: _Judge) -> int:
    bad = False
    for line in sys.stdin:
        if not line.strip():
            continue
        token = _token_of(line.strip())
        if token is None:
            bad = True
            print(json.dumps({"error": 'the line is not {"token": "…"}'}), flush=True)
        else:
            print(json.dumps(judge.explain(token)), flush=True)
    return int(ExitCode.UNREADABLE) if bad else 0


def _token_of(line: str) -> str | None:
    """The token of ``{"token": …}``; a bare token is taken as it is."""
    if not line.startswith("{"):
        return line if line.isascii() and '"' not in line and " " not in line else None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    token = found.get("token") if isinstance(found, dict) else None
    return token if isinstance(token, str) else None


def _print(verdict: dict[str, Any]) -> None:
    from gateway.core.display import show

    def listed(values: Sequence[str]) -> str:
        return ", ".join(show(value) for value in values) or "none"

    if verdict["verified"]:
        print(f"verified: {show(verdict['subject'])} of {show(verdict['issuer'])}")
    if "identity" not in verdict:
        word = "no role" if verdict["verified"] else "not verified"
        print(f"{word} [{verdict['rule']}]: {show(verdict['reason'])}. {show(verdict['advice'])}")
        return
    certificate = verdict["certificate"]
    print(f"identity: {show(verdict['identity'])} ({verdict['kind']})")
    print(f"roles: {listed(verdict['roles'])}")
    print(f"targets: {listed(verdict['targets'])}")
    print(f"groups: {listed(verdict['groups'])}")
    print(f"accountable: {listed(verdict['accountable'])}")
    print(f"certificate: {listed(certificate['principals'])}")
    print(f"  until {certificate['valid_before']}, permit-pty only")

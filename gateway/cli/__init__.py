"""The command line: one file a verb group, each of which parses, calls and prints.

Only what the base install has is imported here and at the top of a verb's file;
what the extra ``gateway`` brings is imported when a verb that needs it runs.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from gateway.cli import (
    approvals,
    check,
    demo,
    explain,
    init,
    login,
    serve,
    sessions,
    targets,
    token,
    verify,
)
from gateway.errors import ConfigError, ExitCode, TollhouseError
from gateway.version import VERSION

_INTERRUPTED = 130
_OURS = frozenset({"gateway", "recorder", "tui"})


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tollhouse {VERSION}")
        raise typer.Exit


def _tollhouse(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """The SSH gateway for machines that reach protected health information."""


def build() -> typer.Typer:
    """The application with every verb; tests and documentation build it too."""
    app = typer.Typer(
        name="tollhouse",
        callback=_tollhouse,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    register: tuple[Callable[[typer.Typer], None], ...] = (
        demo.register,
        init.register,
        serve.register,
        check.register,
        targets.register,
        login.register,
        explain.register,
        token.register,
        sessions.register,
        approvals.register,
        verify.register,
    )
    for add in register:
        add(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and tell its exit code; nothing escapes as a traceback.

    A TollhouseError is told on stderr, as one JSON line where ``--json`` was
    given, and ends with its own code.
    """
    try:
        build()(args=list(arguments), prog_name="tollhouse")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except TollhouseError as error:
        _tell(error, as_json=_wants_json(arguments))
        return int(error.exit_code)
    except ModuleNotFoundError as error:
        missing = _missing(error)
        _tell(missing, as_json=_wants_json(arguments))
        return int(missing.exit_code)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # The last stop: told, never passed on.
        _tell(_fault(error), as_json=_wants_json(arguments))
        return int(ExitCode.GATEWAY_FAULT)
    return 0


def main() -> None:
    """The program ``tollhouse``."""
    raise SystemExit(run(sys.argv[1:]))


def error_json(error: TollhouseError) -> dict[str, object]:
    """An error as ``--json`` prints it.

    ``{"error": {"rule", "reason", "advice"}}``, and for a configuration
    ``"faults": [{"place", "reason", "remedy"}]`` beside it.
    """
    shown: dict[str, object] = {
        "error": {"rule": error.rule, "reason": error.reason, "advice": error.advice}
    }
    if isinstance(error, ConfigError):
        shown["faults"] = [
            {"place": fault.place, "reason": fault.reason, "remedy": fault.remedy}
            for fault in error.faults
        ]
    return shown


def _wants_json(arguments: Sequence[str]) -> bool:
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in ours


def _tell(error: TollhouseError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(error_json(error)), file=sys.stderr)
    else:
        print(f"tollhouse: {error}", file=sys.stderr)


def _missing(error: ModuleNotFoundError) -> TollhouseError:
    name = (error.name or "").partition(".")[0]
    if name in _OURS:
        return _fault(error)
    return TollhouseError(
        f"this verb needs the library {name}, which the client alone does not have",
        "Install it: pip install 'tollhouse[gateway]'",
        rule="install",
    )


def _fault(error: Exception) -> TollhouseError:
    """An error that nobody foresaw: its kind, and with TOLLHOUSE_DEBUG its places.

    Its text is left out: it may quote a command, a cell or a secret.
    """
    advice = "Set TOLLHOUSE_DEBUG=1 to see where, and report it"
    if os.environ.get("TOLLHOUSE_DEBUG"):
        frames = traceback.extract_tb(error.__traceback__)
        advice = "; ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return TollhouseError(f"an internal fault ({type(error).__name__})", advice, rule="internal")

"""``python -m recorder verify PATH...``: the verifier without the gateway."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from recorder.verify import verify_paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 intact, 1 not, 2 unreadable or misused.

    Args:
        arguments: without the program's name; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    report = verify_paths(options.paths, options.vkey, options.complete)
    text = json.dumps(report.to_json()) + "\n" if options.json else report.text()
    # A name that the terminal cannot show must not turn into an exit code.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recorder", description="Verify Tollhouse's record.")
    verify = parser.add_subparsers(required=True, metavar="verify").add_parser(
        "verify", help="verify casts and state folders, offline"
    )
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    verify.add_argument("--vkey", help="the log's verification key, got from somewhere else")
    verify.add_argument(
        "--complete", action="store_true", help="exit 1 also for what is intact but not complete"
    )
    verify.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The table of statements.txt: each with what it must be judged to do."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One statement; ``rule`` is set for a refusal."""

    login: str
    verbs: tuple[str, ...]
    sql: str
    rule: str = ""


def _row(line: str) -> Row:
    head, _, sql = line.partition("|")
    login, *verbs = head.split()
    text, _, rule = sql.strip().partition(" !sql.")
    return Row(login, tuple(verbs), text.strip(), f"sql.{rule}" if rule else "")


_LINES = Path(__file__).with_name("statements.txt").read_text(encoding="utf-8").splitlines()

CORPUS = tuple(_row(line) for line in _LINES if line and not line.startswith("#"))

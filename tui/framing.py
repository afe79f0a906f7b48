"""The frames of the inside socket: one JSON object a line, a question, then its answer.

::

    queue → gateway   {"verb": "tickets|approve|deny", "arguments": [string, …]}
    gateway → queue   {"fields": {…}}  or  {"error": {"rule", "reason", "advice"}}

Verbs, arguments and fields are those of ``ssh gateway@…`` (docs/formats.md), so
that whoever answers the desk answers here. Pure: both ends bring their own I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import ExitCode, TollhouseError
from tui.tickets import Refused

VERBS: Final = frozenset({"tickets", "approve", "deny"})
"""All that the queue may ask; a session's end of the socket refuses any other."""

REQUEST_LIMIT_BYTES: Final = 64 * 1024
ANSWER_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""500 open tickets of 16 KB, each character escaped, and some room."""


class BadFrame(TollhouseError):
    """The other end said something that is no frame; the socket is to be closed."""

    exit_code = ExitCode.GATEWAY_FAULT

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "Open the queue again", "queue.frame")


@dataclass(frozen=True, slots=True)
class Question:
    """One verb of the desk and its arguments, as words."""

    verb: str
    arguments: tuple[str, ...]


class Lines:
    """Cuts a stream of bytes into lines, however it was split.

    Args:
        limit_bytes: longest line, its line feed not counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their line feeds.

        Raises:
            BadFrame: a line is over the limit; feed no more.
        """
        # Only what is new can hold the next line feed: a long line costs its length once.
        start = len(self._rest)
        self._rest += data
        found: list[bytes] = []
        begin = 0
        while (end := self._rest.find(b"\n", max(start, begin))) >= 0:
            self._check(end - begin)
            found.append(bytes(self._rest[begin:end]))
            begin = end + 1
        del self._rest[:begin]
        self._check(len(self._rest))
        return found

    def _check(self, length_bytes: int) -> None:
        if length_bytes > self._limit_bytes:
            raise BadFrame("a frame is too long")


def write_question(question: Question) -> bytes:
    """One line for the gateway."""
    return _line({"verb": question.verb, "arguments": list(question.arguments)})


def read_question(line: bytes) -> Question:
    """The gateway's reading of one line.

    Raises:
        BadFrame: no question, or a verb that the queue may not ask.
    """
    fields = _object(line)
    verb, arguments = fields.get("verb"), fields.get("arguments")
    if not isinstance(verb, str) or verb not in VERBS:
        raise BadFrame("a frame asks for a verb that the queue does not have")
    if not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        raise BadFrame("a frame's arguments are not a list of strings")
    return Question(verb, tuple(arguments))


def write_fields(fields: Mapping[str, Any]) -> bytes:
    """The gateway's answer: the fields that ``--json`` would print."""
    return _line({"fields": dict(fields)})


def write_error(error: TollhouseError) -> bytes:
    """The gateway's refusal."""
    shown = {"rule": error.rule, "reason": error.reason, "advice": error.advice}
    return _line({"error": shown})


def read_answer(line: bytes) -> Mapping[str, Any]:
    """The queue's reading of an answer: its fields.

    Raises:
        Refused: the answer is an error.
        BadFrame: it is neither.
    """
    answer = _object(line)
    fields, error = answer.get("fields"), answer.get("error")
    if isinstance(fields, dict) and error is None:
        return fields
    if isinstance(error, dict) and fields is None:
        raise read_refusal(error)
    raise BadFrame("a frame is neither fields nor an error")


def read_refusal(fields: Mapping[str, Any]) -> Refused:
    """A refusal from its JSON; what is missing or no string is left empty."""
    rule, reason, advice = (
        value if isinstance(value := fields.get(name), str) else ""
        for name in ("rule", "reason", "advice")
    )
    return Refused(reason or "the gateway gave no reason", advice, rule or "queue.refused")


def _line(fields: Mapping[str, Any]) -> bytes:
    # ASCII: a lone surrogate or a line separator in a command cannot break the frame.
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise BadFrame("a frame is not JSON") from None
    if not isinstance(fields, dict):
        raise BadFrame("a frame is not a JSON object")
    return fields

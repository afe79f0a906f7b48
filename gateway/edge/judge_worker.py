"""The process in which lines are parsed: it may crash, hang or run out of memory.

Run as ``python -m gateway.edge.judge_worker MEMORY_MB``. Reads frames from stdin
and answers each on stdout: a frame is four bytes of length, big endian, and JSON.
It holds no key, opens no file and no socket; the policies speak outside of it.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from gateway.core.action import Form
from gateway.core.plan import Parsed
from gateway.errors import BadCommand, TollhouseError
from gateway.sql import judge
from gateway.sql.catalog import Catalog
from gateway.sql.limits import SqlLimits

LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 64 * 1024 * 1024

CATALOG: TypeAdapter[Catalog] = TypeAdapter(Catalog)
PARSED: TypeAdapter[Parsed] = TypeAdapter(Parsed)
LIMITS: TypeAdapter[SqlLimits] = TypeAdapter(SqlLimits)
MESSAGE: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message, or None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return MESSAGE.validate_json(stream.read(LENGTH.unpack(head)[0]))


def frame(message: dict[str, Any]) -> bytes:
    """One message as it goes over the pipe."""
    body = MESSAGE.dump_json(message)
    return LENGTH.pack(len(body)) + body


class Bench:
    """What the worker keeps between requests: one catalog a target."""

    def __init__(self) -> None:
        self.catalogs: dict[str, Catalog] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Judge one line.

        Args:
            request: ``{"target", "text", "form", "limits", "catalog"?}``; the catalog is
                sent when it is new to this worker.

        Returns:
            ``{"parsed"}``, or ``{"error", "advice", "rule", "bad_command"}``.
        """
        if request.get("catalog") is not None:
            self.catalogs[request["target"]] = CATALOG.validate_python(request["catalog"])
        form: Form = request["form"]
        try:
            parsed = judge.judge(
                request["text"].encode(),
                form=form,
                catalog=self.catalogs[request["target"]],
                limits=LIMITS.validate_python(request["limits"]),
            )
        except TollhouseError as error:
            return {
                "error": error.reason,
                "advice": error.advice,
                "rule": error.rule,
                "bad_command": isinstance(error, BadCommand),
            }
        return {"parsed": PARSED.dump_python(parsed, mode="json")}


def main() -> int:
    """Serve until stdin ends; a MemoryError or a crash ends the process."""
    memory_bytes = int(sys.argv[1]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    # Tracebacks would quote the user's text: a crash is told by the exit alone.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    bench = Bench()
    sink.write(frame({"ready": True}))
    sink.flush()
    while (request := read_frame(source)) is not None:
        sink.write(frame(bench.answer(request)))
        sink.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Connectors: how one kind of target is launched, split, parsed and guarded.

A connector is pure: it says what to start and what a line means; the edge starts
it. With the second connector they get an interface and an entry point, so that
others can add theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """A child to start, before the sandbox is wrapped around it.

    Attributes:
        program: name of the client, looked up by the edge (``psql``).
        arguments: without the program; never a secret.
        environment: the whole environment of the child.
        socket_dir: the folder of the guard's socket, the only thing outside the
            system's libraries that the child may reach.
        first_input: bytes that are written before anything else.
    """

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    socket_dir: PurePosixPath | None = None
    first_input: bytes = b""

"""Passwords from a file or the environment, in a wrapper that no log can print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gateway.errors import ConfigError, TargetUnavailable
from gateway.files import read_secret


class Secret:
    """A text that shows itself only when it is asked to.

    ``repr``, ``str`` and formatting give a constant; it neither pickles nor compares, so
    that it cannot travel or be guessed by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself; for the login alone."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a secret does not leave its process")


@dataclass(frozen=True, slots=True)
class FileSource:
    """The first line of a file that only its owner can reach.

    Attributes:
        path: read anew for each login, so that a rotated password needs no restart.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """A variable of the gateway's environment.

    Attributes:
        name: of the variable.
    """

    name: str


@dataclass(frozen=True, slots=True)
class NoPassword:
    """The server trusts the connection, as a Unix socket with peer authentication."""


PasswordSource: TypeAlias = FileSource | EnvironmentSource | NoPassword


def read_password(source: PasswordSource, environment: Mapping[str, str]) -> Secret:
    """The password of one login.

    Args:
        source: where it is.
        environment: the gateway's own.

    Raises:
        TargetUnavailable: it is missing, empty, not UTF-8, has a NUL or a line break
            inside, or others can read its file. The message names the place only.
    """
    match source:
        case NoPassword():
            return Secret("")
        case EnvironmentSource(name):
            if name not in environment:
                raise _unusable(f"the environment has no {name}", "Set it and restart the gateway")
            return _checked(environment[name], f"the variable {name}")
        case FileSource(path):
            try:
                text = read_secret(path).decode()
            except ConfigError as error:
                fault = error.faults[0]
                raise _unusable(f"{path} {fault.reason}", fault.remedy) from None
            except UnicodeDecodeError:
                raise _unusable(f"{path} is not UTF-8", "Write the password as text") from None
            return _checked(text.removesuffix("\n").removesuffix("\r"), str(path))


def _checked(password: str, place: str) -> Secret:
    if not password or any(mark in password for mark in "\0\n\r"):
        raise _unusable(
            f"{place} is empty or holds more than one line", "Write the password, and nothing else"
        )
    return Secret(password)


def _unusable(reason: str, advice: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"the target's password cannot be read: {reason}", advice, rule="credentials"
    )

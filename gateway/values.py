"""The kinds of value that gateway.toml holds: durations, patterns, addresses, paths.

Each refuses what it cannot read with a reason and a remedy, never with the value.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr, ValidationInfo

from gateway.core.phi import TAGS
from gateway.faults import FieldError
from gateway.files import secret_file_problem

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> timedelta:
    """Read ``"90s"``, ``"15m"``, ``"24h"`` or ``"7d"``."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise FieldError("is not a duration", 'Write a number and a unit, as "15m" (s, m, h or d)')
    return timedelta(seconds=int(match[1]) * _UNITS_S[match[2]])


def _pattern(value: object) -> str:
    """Read what a claim must be: text, a number or a truth value, maybe ending in ``*``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, (int, str)) else ""
    if not text:
        raise FieldError("is not a pattern", 'Write "exact text" or "prefix/*"')
    head, star, tail = text.partition("*")
    if tail:
        raise FieldError("has a * that is not at its end", 'Only "prefix/*" is understood')
    if star and (not head or head[-1].isalnum()):
        raise FieldError(
            "has a prefix that also fits longer names",
            'End the prefix with its separator, as "repo:acme/*", or write the exact text',
        )
    return text


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Take a relative path as relative to the file that names it."""
    return Path((info.context or {}).get("base", Path())) / path


def _readable(path: Path, info: ValidationInfo) -> Path:
    if (info.context or {}).get("files", True) and not path.is_file():
        raise FieldError("names a file that is not there", "Write the path of an existing file")
    return path


def private(path: Path, info: ValidationInfo) -> Path:
    """Check that a secret file is there and closed to others."""
    problem = secret_file_problem(path) if (info.context or {}).get("files", True) else None
    if problem is not None:
        raise FieldError(*problem)
    return path


def _listen(value: str) -> str:
    """Check ``host:port``; an IPv6 address stands in brackets."""
    host, _, port = value.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise FieldError("is not host:port", 'Write it as "0.0.0.0:2222" or "[::]:2222"')
    return value


def is_loopback(host: str) -> bool:
    """Whether a host name or address never leaves this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _https(value: str) -> str:
    """Check an https URL without user, query or fragment; a trailing slash is dropped."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme != "https"
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise FieldError("is not an https URL", 'Write it as "https://gateway.example.org:8443"')
    return value.rstrip("/")


def read_classification(value: dict[str, str]) -> dict[str, str]:
    """Check each ``[schema.]table.column`` and its kind."""
    for column, kind in value.items():
        if not re.fullmatch(r"[^.\s]+(\.[^.\s]+){1,2}", column):
            raise FieldError(
                "names something that is not a column",
                'Write "schema.table.column" or "schema.table.*"',
            )
        if kind != "no" and kind not in TAGS:
            raise FieldError(
                "has a kind that does not exist", f'Write "no" or one of {", ".join(sorted(TAGS))}'
            )
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration, json_schema_input_type=str)]
Pattern = Annotated[str, BeforeValidator(_pattern, json_schema_input_type=str | int | bool)]
ConfigPath = Annotated[Path, AfterValidator(_resolve)]
PlainFile = Annotated[Path, AfterValidator(_resolve), AfterValidator(_readable)]
SecretFile = Annotated[Path, AfterValidator(_resolve), AfterValidator(private)]
Listen = Annotated[StrictStr, AfterValidator(_listen)]
HttpsUrl = Annotated[StrictStr, AfterValidator(_https)]
Name = Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Schema = Annotated[StrictStr, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$")]
HostName = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}$")]
Classification = Annotated[dict[StrictStr, StrictStr], AfterValidator(read_classification)]


def at_most(longest: timedelta, shown: str) -> AfterValidator:
    """Make the check that a duration is no longer than that; ``shown`` says it in words."""

    def check(value: timedelta) -> timedelta:
        if value > longest:
            raise FieldError("is too long", f'Write at most "{shown}"')
        return value

    return AfterValidator(check)

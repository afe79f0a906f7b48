"""COPY: the one form that may run here, rows to standard output."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.plan import CopyOut
from gateway.errors import BadCommand, Denied

_TRUE: Final = frozenset({"true", "on", "1"})
_FALSE: Final = frozenset({"false", "off", "0"})


def copy_out(fields: dict[str, Any]) -> CopyOut:
    """How the rows of this COPY will be written.

    Args:
        fields: of a ``CopyStmt``.

    Raises:
        BadCommand: COPY FROM STDIN, which this gateway does not carry yet.
        Denied: a file, a program, or an option that the masker cannot follow.
    """
    if fields.get("is_program") or fields.get("filename"):
        raise Denied(
            "COPY with a file or a program of the server's is not taken",
            "Use COPY (query) TO STDOUT and redirect the output of ssh.",
            "sql.copy",
        )
    if fields.get("is_from"):
        raise BadCommand(
            "COPY FROM STDIN is not carried yet", "Use INSERT ... VALUES.", "sql.copy-in"
        )
    options = {str(o["DefElem"]["defname"]): o["DefElem"] for o in fields.get("options", [])}
    unknown = sorted(options.keys() - {"format", "header", "delimiter", "null"})
    if unknown or len(options) != len(fields.get("options", [])):
        raise _denied("COPY takes format, header, delimiter and null here, each once")
    chosen = _text(options, "format", "text")
    if chosen not in ("text", "csv"):
        raise _denied("COPY takes format text or csv here")
    csv = chosen == "csv"
    delimiter = _text(options, "delimiter", "," if csv else "\t").encode()
    if len(delimiter) != 1 or delimiter in b'\r\n"\\':
        raise _denied("COPY takes a delimiter of one byte here, no quote and no line break")
    null = _text(options, "null", "" if csv else "\\N").encode()
    if b"\r" in null or b"\n" in null or delimiter in null:
        raise _denied("COPY takes a null without line breaks and delimiters here")
    return CopyOut("csv" if csv else "text", delimiter, null, _header(options.get("header")))


def _text(options: dict[str, dict[str, Any]], name: str, default: str) -> str:
    """A text option; the grammar leaves an empty text out of the tree."""
    if name not in options:
        return default
    argument = options[name].get("arg", {})
    if set(argument) != {"String"}:
        raise _denied(f"COPY takes a text for {name} here")
    return str(argument["String"].get("sval", ""))


def _header(option: dict[str, Any] | None) -> bool:
    if option is None:
        return False
    argument = option.get("arg")
    if argument is None:
        return True
    ((kind, value),) = argument.items()
    text = str(next(iter(value.values()), "0" if kind == "Integer" else "false")).lower()
    if text not in _TRUE | _FALSE:
        raise _denied("COPY takes header on or off here")
    return text in _TRUE


def _denied(reason: str) -> Denied:
    return Denied(reason, "Leave the option out.", "sql.copy")

"""What an exec command means: one SQL text, or psql's own flags and texts.

The shell that ssh users expect does not exist here. psql's flags are a closed
grammar: what draws the result is taken, what names a server, a user, a file or a
log is refused with the reason. The child's argv is built anew from what was
understood; the user's bytes never become a flag.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from gateway.errors import BadCommand

_SEPARATOR_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class PsqlFlags:
    """How psql draws results and when it stops.

    Attributes:
        format: psql's output format.
        tuples_only: no headers and footers.
        expanded: off, on, or on where a row is wider than the screen.
        field_separator, record_separator: for unaligned output; None keeps psql's.
        field_separator_zero, record_separator_zero: a NUL byte instead.
        border: 0, 1 or 2; None keeps psql's.
        null: what NULL is shown as; None keeps psql's.
        footer: the row count below a table.
        on_error_stop: stop a script at its first error, and exit with 3.
        quiet: no command tags.
    """

    format: Literal["aligned", "unaligned", "csv"] = "aligned"
    tuples_only: bool = False
    expanded: Literal["off", "on", "auto"] = "off"
    field_separator: str | None = None
    record_separator: str | None = None
    field_separator_zero: bool = False
    record_separator_zero: bool = False
    border: int | None = None
    null: str | None = None
    footer: bool = True
    on_error_stop: bool = False
    quiet: bool = False

    def arguments(self) -> tuple[str, ...]:
        """The flags as psql takes them, without program, connection and texts."""
        settings = [f"format={self.format}"]
        if self.tuples_only:
            settings.append("tuples_only=on")
        if self.expanded != "off":
            settings.append(f"expanded={self.expanded}")
        for name, value in (
            ("fieldsep", self.field_separator),
            ("recordsep", self.record_separator),
            ("border", self.border),
            ("null", self.null),
        ):
            if value is not None:
                settings.append(f"{name}={value}")
        if not self.footer:
            settings.append("footer=off")
        arguments = [argument for setting in settings for argument in ("-P", setting)]
        arguments += ["-z"] if self.field_separator_zero else []
        arguments += ["-0"] if self.record_separator_zero else []
        arguments += ["-v", "ON_ERROR_STOP=1"] if self.on_error_stop else []
        arguments += ["-q"] if self.quiet else []
        return tuple(arguments)


@dataclass(frozen=True, slots=True)
class PsqlCommand:
    """What is to run.

    Attributes:
        texts: each sent as one message, in order; empty for a script on stdin.
        script_from_stdin: the statements come on standard input.
        flags: see PsqlFlags.
    """

    texts: tuple[bytes, ...] = ()
    script_from_stdin: bool = False
    flags: PsqlFlags = PsqlFlags()


def parse_exec(command: str) -> PsqlCommand:
    """Understand the command string of an SSH exec request.

    Args:
        command: as it came; if its first word is not ``psql``, all of it is one SQL
            text and psql's defaults draw the result.

    Raises:
        BadCommand: it is empty, or psql's flags are not ones that are taken here.
    """
    if not command.strip():
        raise BadCommand(
            "the command is empty", 'Send SQL: ssh gateway "select 1".', "psql.command"
        )
    if not re.match(r"\s*psql(?:\s|$)", command):
        return PsqlCommand((command.encode("utf-8", "surrogateescape"),))
    return _Parser(_words(command)).parse()


def _words(command: str) -> Iterator[str]:
    """The words after ``psql``, by POSIX quoting, with no shell behind it.

    Raises:
        BadCommand: a control character, a shell character outside quotes, or open quotes.
    """
    if any((ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in command):
        raise _refused("the command holds a control character", "Remove it.")
    _check_shell_characters(command)
    try:
        words = shlex.split(command, comments=False, posix=True)
    except ValueError as error:
        raise _refused("the command ends inside quotes", "Close them.") from error
    return iter(words[1:])


def _check_shell_characters(command: str) -> None:
    quote = ""
    escaped = False
    for character in command:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in ";|&<>$()`\n":
            shown = "a line break" if character == "\n" else f'"{character}"'
            raise _refused(f"{shown} stands outside quotes, and no shell runs here", _QUOTING)


_QUOTING: Final = (
    "Quote the SQL twice, for ssh joins its words: ssh gateway psql -c \"'select 1'\"."
)

# Long options and the letters they stand for; an equals sign marks a value.
_LONG: Final = {
    "csv": "csv",
    "no-align": "A",
    "tuples-only": "t",
    "expanded": "x",
    "field-separator": "F=",
    "record-separator": "R=",
    "field-separator-zero": "z",
    "record-separator-zero": "0",
    "command": "c=",
    "file": "f=",
    "set": "v=",
    "variable": "v=",
    "quiet": "q",
    "no-psqlrc": "X",
    "no-readline": "n",
    "no-password": "w",
    "pset": "P=",
}
_WITH_VALUE: Final = frozenset("FRcfvP")

_TAKEN: Final = "--csv -A -t -x -q -z -0 -F -R -c -P, -f - and -v ON_ERROR_STOP=1."
_CONNECTION: Final = "the gateway chooses the server, the database and the login"
_FILES: Final = "psql runs on the gateway and may not touch its files"
_REASONS: Final = {
    **dict.fromkeys(
        ("h", "host", "p", "port", "U", "username", "d", "dbname", "W", "password"), _CONNECTION
    ),
    **dict.fromkeys(("o", "output", "L", "log-file"), _FILES),
    **dict.fromkeys(("l", "list"), "the list of databases is not served"),
    **dict.fromkeys(("s", "single-step", "S", "single-line"), "nobody is at the prompt"),
    **dict.fromkeys(("H", "html"), "HTML output is not served; use --csv"),
    **dict.fromkeys(("T", "table-attr"), "HTML output is not served; use --csv"),
    **dict.fromkeys(("1", "single-transaction"), "write BEGIN and COMMIT into the script"),
    **dict.fromkeys(
        ("a", "echo-all", "b", "echo-errors", "e", "echo-queries", "E", "echo-hidden"),
        "psql never sees the statements, so it cannot echo them",
    ),
    **dict.fromkeys(("V", "version", "?", "help"), "only results are served"),
}


class _Parser:
    """psql's own way of reading its argv (getopt_long), over a closed set."""

    def __init__(self, words: Iterator[str]) -> None:
        self._words = words
        self._flags = PsqlFlags()
        self._texts: list[bytes] = []
        self._stdin = False
        self._takers: dict[str, Callable[[str], None]] = {
            "F": self._take_field_separator,
            "R": self._take_record_separator,
            "c": self._take_text,
            "f": self._take_file,
            "v": self._take_variable,
            "P": self._take_setting,
        }

    def parse(self) -> PsqlCommand:
        for word in self._words:
            if word.startswith("--") and word != "--":
                self._long(word[2:])
            elif word.startswith("-") and len(word) > 1 and word != "--":
                self._cluster(word[1:])
            else:
                raise _refused("a word stands where only flags may stand", _QUOTING)
        if self._stdin and self._texts:
            raise _refused("-c and -f together are not taken", "Use one of them.")
        return PsqlCommand(tuple(self._texts), not self._texts, self._flags)

    def _long(self, option: str) -> None:
        name, has_value, value = option.partition("=")
        # getopt_long takes any unambiguous prefix; here names are written out.
        meaning = _LONG.get(name)
        if meaning is None:
            raise _unknown(name, f"--{name}")
        if meaning.endswith("="):
            self._takers[meaning[0]](value if has_value else self._next(f"--{name}"))
        elif has_value:
            raise _refused(f"--{name} takes no value", "Leave the value out.")
        else:
            self._switch(meaning)

    def _cluster(self, letters: str) -> None:
        for position, letter in enumerate(letters):
            if letter in _WITH_VALUE:
                value = letters[position + 1 :] or self._next(f"-{letter}")
                self._takers[letter](value)
                return
            self._switch(letter)

    def _next(self, flag: str) -> str:
        value = next(self._words, None)
        if value is None:
            raise _refused(f"{flag} needs a value", "Write it after the flag.")
        return value

    def _switch(self, name: str) -> None:
        changed = _SWITCHES.get(name)
        if changed is None:
            raise _unknown(name, f"-{name}")
        self._flags = changed(self._flags)

    def _take_field_separator(self, value: str) -> None:
        self._flags = replace(self._flags, field_separator=_separator(value))

    def _take_record_separator(self, value: str) -> None:
        self._flags = replace(self._flags, record_separator=_separator(value))

    def _take_text(self, value: str) -> None:
        if not value.strip():
            raise _refused("-c has no statement", _QUOTING)
        if value.lstrip().startswith("\\"):
            raise _refused("psql's backslash commands do not run here", "Send SQL.")
        self._texts.append(value.encode("utf-8", "surrogateescape"))

    def _take_file(self, value: str) -> None:
        if value != "-":
            raise _refused(_FILES, "Send the script on standard input: ssh gateway < file.sql.")
        self._stdin = True

    def _take_variable(self, value: str) -> None:
        name, _, wanted = value.partition("=")
        if name != "ON_ERROR_STOP" or wanted not in ("1", "on", "true"):
            raise _refused(
                "psql's variables are not filled in here",
                "Only -v ON_ERROR_STOP=1 is taken; write values into the text.",
            )
        self._flags = replace(self._flags, on_error_stop=True)

    def _take_setting(self, value: str) -> None:
        name, _, wanted = value.partition("=")
        taker = _SETTINGS.get(name)
        changed = taker(self._flags, wanted) if taker else None
        if changed is None:
            raise _refused(
                "this -P setting is not taken",
                "Take format, border, null, footer, expanded or tuples_only.",
            )
        self._flags = changed


_SWITCHES: Final[dict[str, Callable[[PsqlFlags], PsqlFlags]]] = {
    "csv": lambda flags: replace(flags, format="csv"),
    "A": lambda flags: replace(flags, format="unaligned"),
    "t": lambda flags: replace(flags, tuples_only=True),
    "x": lambda flags: replace(flags, expanded="on"),
    "z": lambda flags: replace(flags, field_separator_zero=True),
    "0": lambda flags: replace(flags, record_separator_zero=True),
    "q": lambda flags: replace(flags, quiet=True),
    # The gateway always sets these three.
    "X": lambda flags: flags,
    "n": lambda flags: flags,
    "w": lambda flags: flags,
}

_SWITCH_WORDS: Final = {
    "on": True,
    "true": True,
    "1": True,
    "off": False,
    "false": False,
    "0": False,
}


def _set_format(flags: PsqlFlags, value: str) -> PsqlFlags | None:
    if value == "aligned":
        return replace(flags, format="aligned")
    if value == "unaligned":
        return replace(flags, format="unaligned")
    return replace(flags, format="csv") if value == "csv" else None


def _set_border(flags: PsqlFlags, value: str) -> PsqlFlags | None:
    return replace(flags, border=int(value)) if value in ("0", "1", "2") else None


def _set_null(flags: PsqlFlags, value: str) -> PsqlFlags | None:
    return replace(flags, null=_separator(value))


def _set_footer(flags: PsqlFlags, value: str) -> PsqlFlags | None:
    wanted = _SWITCH_WORDS.get(value)
    return None if wanted is None else replace(flags, footer=wanted)


def _set_expanded(flags: PsqlFlags, value: str) -> PsqlFlags | None:
    if value == "auto":
        return replace(flags, expanded="auto")
    wanted = _SWITCH_WORDS.get(value or "on")
    return None if wanted is None else replace(flags, expanded="on" if wanted else "off")


def _set_tuples_only(flags: PsqlFlags, value: str) -> PsqlFlags | None:
    wanted = _SWITCH_WORDS.get(value or "on")
    return None if wanted is None else replace(flags, tuples_only=wanted)


_SETTINGS: Final[dict[str, Callable[[PsqlFlags, str], PsqlFlags | None]]] = {
    "format": _set_format,
    "border": _set_border,
    "null": _set_null,
    "footer": _set_footer,
    "expanded": _set_expanded,
    "x": _set_expanded,
    "tuples_only": _set_tuples_only,
    "t": _set_tuples_only,
}


def _separator(value: str) -> str:
    """A text that psql may print between cells: short, and free of control bytes."""
    plain = all(c.isprintable() or c == "\t" for c in value)
    if not plain or len(value.encode("utf-8", "surrogateescape")) > _SEPARATOR_BYTES:
        raise _refused(
            "a separator is too long or not printable", f"Take up to {_SEPARATOR_BYTES} bytes."
        )
    return value


def _unknown(name: str, flag: str) -> BadCommand:
    reason = _REASONS.get(name)
    if reason is None:
        return _refused("a flag is not one of psql's that are taken here", "Take " + _TAKEN)
    return _refused(f"psql's {flag} is not taken: {reason}", "Leave it out.")


def _refused(reason: str, advice: str) -> BadCommand:
    return BadCommand(reason, advice, "psql.flags")

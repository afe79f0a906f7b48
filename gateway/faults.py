"""What pydantic says of gateway.toml, in the words of an operator.

A value that was found is never repeated: a secret may have been written in the
wrong place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import Fault

_SECRET_WORDS = frozenset({"password", "secret", "token", "passphrase", "private_key"})

_REASONS: Mapping[str, tuple[str, str]] = {
    "string_type": ("is not text", "Write it in quotes"),
    "int_type": ("is not a whole number", "Write a number without quotes"),
    "bool_type": ("is not true or false", "Write true or false without quotes"),
    "path_type": ("is not a path", "Write a path in quotes"),
    "tuple_type": ("is not a list", 'Write a list, as ["a", "b"]; a section stands in [[ ]]'),
    "dict_type": ("is not a table", 'Write a table, as { key = "value" }'),
    "model_type": ("is not a table", "Write it as a section of its own"),
    "string_too_short": ("is empty", "Fill it in or leave it out"),
    "too_short": ("is empty", "Write at least one"),
}


class FieldError(ValueError):
    """A validator's finding: what is wrong, what to write, and under which key.

    Args:
        reason: what is wrong, without the value.
        remedy: what to write instead.
        key: the key below the model that complains; empty for its own place.
    """

    def __init__(self, reason: str, remedy: str, key: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.key = key


def translate(error: ValidationError, shown: str, model: type[BaseModel]) -> list[Fault]:
    """Turn everything that pydantic found into faults.

    Args:
        error: from validating the whole file.
        shown: the file's name as people see it.
        model: the root model, to know which keys there are.
    """
    faults = []
    for detail in error.errors(include_url=False, include_input=False):
        key = _key_path(detail["loc"])
        reason, remedy = _words(detail, model)
        complaint = detail.get("ctx", {}).get("error")
        if isinstance(complaint, FieldError):
            key = ".".join(part for part in (key, complaint.key) if part)
            reason, remedy = complaint.reason, complaint.remedy
        faults.append(Fault(f"{shown}: {key}", reason, remedy))
    return faults


def _key_path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":
            path += f".{part}" if path else part
    return path


def _words(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    kind, ctx = detail["type"], detail.get("ctx", {})
    if kind in _REASONS:
        return _REASONS[kind]
    if kind == "missing":
        return "is missing", _missing_remedy(model, detail["loc"])
    if kind == "extra_forbidden":
        return "is not a key that is known here", _unknown_remedy(model, detail["loc"])
    if kind == "literal_error":
        return "has a value that is not known", f"Write {ctx['expected']}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = ctx.get("ge", ctx.get("le"))
        word = "at least" if "ge" in ctx else "at most"
        return "is out of range", f"Write {word} {bound}"
    if kind == "string_pattern_mismatch":
        return "is not written as it must be", f"It must match {ctx['pattern']}"
    return "cannot be used", "See docs/configuration.md"


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that holds the last key of ``loc``."""
    current: type[BaseModel] | None = model
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if current else None
        current = section_of(field.annotation) if field else None
    return current


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's annotation (``X``, ``X | None``, ``tuple[X, ...]``)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = section_of(argument)
        if found is not None:
            return found
    return None


def _missing_remedy(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    owner = _fields(model, loc)
    field = owner.model_fields.get(str(loc[-1])) if owner else None
    if field is None or not field.description:
        return "Add the section; `tollhouse init` writes an example"
    return f"Add it: {field.description}"


def _unknown_remedy(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    owner, key = _fields(model, loc), str(loc[-1])
    known = list(owner.model_fields) if owner else []
    if key.lower() in _SECRET_WORDS:
        places = [name for name in known if name.endswith(("_file", "_env"))]
        return f"Secrets are not written here, and this one is spent. Use {' or '.join(places)}"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(known)}" if known else "Take it out"


def reference_faults(raw: Mapping[str, Any], shown: str) -> Iterator[Fault]:
    """Find duplicate names and names that lead nowhere.

    Works on the raw file, so that these faults show beside all others.
    """
    issuers = _names(raw, "issuer")
    targets = _names(raw, "target")
    for section in ("issuer", "role", "target"):
        yield from _duplicates(raw, section, "name", shown)
    yield from _duplicates(raw, "issuer", "url", shown)
    for index, role in _entries(raw, "role"):
        place = f"{shown}: role[{index}]"
        owner = role.get("owner")
        owner_issuer = owner.partition("|")[0] if isinstance(owner, str) and "|" in owner else None
        for key, name in (("issuer", role.get("issuer")), ("owner", owner_issuer)):
            if isinstance(name, str) and name not in issuers:
                yield Fault(f"{place}.{key}", "names no issuer", _known("issuer", issuers))
        opened = role.get("targets")
        for number, name in enumerate(opened if isinstance(opened, list) else ()):
            if isinstance(name, str) and name not in targets:
                yield Fault(
                    f"{place}.targets[{number}]", "names no target", _known("target", targets)
                )


def _entries(raw: Mapping[str, Any], section: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    entries = raw.get(section)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield index, entry


def _names(raw: Mapping[str, Any], section: str) -> list[str]:
    return [e["name"] for _, e in _entries(raw, section) if isinstance(e.get("name"), str)]


def _known(section: str, names: list[str]) -> str:
    listed = ", ".join(names) if names else "none yet"
    return f"Write the name of an [[{section}]] ({listed})"


def _duplicates(raw: Mapping[str, Any], section: str, key: str, shown: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, entry in _entries(raw, section):
        value = entry.get(key)
        if isinstance(value, str) and value in seen:
            place = f"{shown}: {section}[{index}].{key}"
            yield Fault(place, f"is the same as another {section}'s", "Give each its own")
        if isinstance(value, str):
            seen.add(value)

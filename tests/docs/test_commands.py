"""What the documents tell people to type exists: verbs, options, targets, files, exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from gateway.cli import build
from gateway.errors import ExitCode

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_lines(text: str) -> list[str]:
    """Lines of fenced blocks that have no language or a shell's."""
    blocks = re.findall(
        r"^```(?:sh|shell|bash|console)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL
    )
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in joined.split("\n")]


def commands() -> list[tuple[str, str]]:
    """(document, command line) of every tollhouse command in the documents."""
    found: list[tuple[str, str]] = []
    for path in DOCUMENTS:
        lines = [line for line in code_lines(path.read_text()) if line.startswith("tollhouse ")]
        lines += re.findall(r"`(tollhouse [a-z][^`\n]*)`", path.read_text())
        found += [(path.name, line) for line in lines]
    return found


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The verb that these words name, and its arguments."""
    command: Any = typer.main.get_command(build())
    while isinstance(command, TyperGroup) and words:
        inner = command.commands.get(words[0])
        if inner is None:
            break
        command, words = inner, words[1:]
    return command, words


def test_documents_hold_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_command_in_the_documents_exists(document: str, line: str) -> None:
    words = shlex.split(line.split("  #")[0].split(" > ")[0].split(" 2>")[0])[1:]
    words = words[: words.index("--")] if "--" in words else words
    command, rest = resolve(words)
    if words and words[0].startswith("-"):
        rest = words
    else:
        assert not isinstance(command, TyperGroup) or command.name != "tollhouse", line
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {"--help"}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{document}: {word} in {line!r}"


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in DOCUMENTS:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), (
                f"{path.name}: make {target}"
            )


def test_every_link_between_documents_leads_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_readme_names_the_exit_codes() -> None:
    text = (ROOT / "README.md").read_text()
    for code in (
        ExitCode.BAD_COMMAND,
        ExitCode.TARGET_UNAVAILABLE,
        ExitCode.GATEWAY_FAULT,
        ExitCode.HELD,
        ExitCode.DENIED,
    ):
        assert re.search(rf"^\| {int(code)} \|", text, flags=re.MULTILINE), code


def test_every_example_in_the_help_is_valid() -> None:
    """Each verb's help has an example, and the example names options that exist."""

    def walk(command: Any, path: list[str]) -> None:
        if isinstance(command, TyperGroup):
            for name, inner in command.commands.items():
                walk(inner, [*path, name])
            return
        example = " ".join((command.epilog or "").split())
        assert example.startswith(f"Example: tollhouse {' '.join(path)}"), path
        known = {option for parameter in command.params for option in parameter.opts}
        used = re.findall(r"(?<= )--[a-z][a-z-]+", example.split(" -- ")[0])
        assert set(used) <= known, path

    walk(typer.main.get_command(build()), [])

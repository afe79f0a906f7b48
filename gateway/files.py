"""Files that hold secrets: who may read them, and reading them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.errors import ConfigError, Fault

_MAX_SECRET_BYTES = 65_536


def secret_file_problem(path: Path) -> tuple[str, str] | None:
    """Say what keeps a file from being a secret, as (reason, remedy), or None.

    It must be a regular file of the user who runs the gateway, or of root, and
    closed to group and world. A symbolic link is judged by what it leads to.
    """
    try:
        found = path.stat()
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        return f"names a file that cannot be read ({reason})", "Make it with `tollhouse init`"
    if not stat.S_ISREG(found.st_mode):
        return "names something that is not a file", "Write the path of a key file"
    if found.st_uid not in (os.geteuid(), 0):
        return "names a file of another user", "Give it to the user who runs the gateway (chown)"
    if found.st_mode & 0o077:
        return (
            f"names a secret file that others can reach (mode {stat.S_IMODE(found.st_mode):04o})",
            "Close it to group and world: chmod 600",
        )
    return None


def read_secret(path: Path) -> bytes:
    """Read a secret file, its permissions checked on the opened file.

    Args:
        path: a file as ``secret_file_problem`` accepts it, at most 64 KiB.

    Raises:
        ConfigError: it is missing, too large, or others can reach it.
    """
    problem = secret_file_problem(path)
    if problem is None:
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_SECRET_BYTES + 1)
        except OSError:
            problem = ("names a file that cannot be read", "See its owner and mode")
        else:
            if len(data) <= _MAX_SECRET_BYTES:
                return data
            problem = ("names a secret larger than 64 KiB", "See whether the path is right")
    raise ConfigError((Fault(str(path), *problem),))


def read_policies(folder: Path) -> dict[str, str]:
    """The Cedar files of a folder, name to text, in the order of their names.

    Raises:
        ConfigError: there is none, or one cannot be read as UTF-8.
    """
    found: dict[str, str] = {}
    faults = []
    for path in sorted(folder.glob("*.cedar")):
        try:
            found[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            faults.append(Fault(str(path), "cannot be read as text", "See its mode and encoding"))
    if not found and not faults:
        faults.append(
            Fault(str(folder), "holds no policy (*.cedar)", "`tollhouse init` writes a safe start")
        )
    if faults:
        raise ConfigError(tuple(faults))
    return found


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, with its mode from the first byte on.

    Raises:
        FileExistsError: something has that name; nothing was written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)

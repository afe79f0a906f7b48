"""Who a process is and whose child, as /proc in this process's namespace tells."""

from __future__ import annotations

from pathlib import Path

_MAX_ANCESTORS = 8


def descends(pid: int, ancestor: int, uid: int) -> bool:
    """Whether a process is ``ancestor`` or one that it started, and both are this user's.

    What cannot be read is no descendant; nor is one more than eight generations away.
    """
    current = pid
    for _ in range(_MAX_ANCESTORS):
        if current == ancestor:
            return uid == _owner(pid) == _owner(ancestor)
        current = _parent(current)
        if current <= 1:
            return False
    return False


def _parent(pid: int) -> int:
    """The parent of a process, 0 if it cannot be read."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[1])
    except (OSError, IndexError, ValueError):
        return 0


def _owner(pid: int) -> int | None:
    """The real user of a process, None if it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
        return int(status.partition(b"\nUid:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        return None

"""A user for each child, where the gateway runs as root and can give one."""

from __future__ import annotations

import functools
import os
import pwd
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import GatewayFault

CHILD_UIDS = range(61184, 65520)
"""What systemd sets aside for dynamic users: below 65,536, so that rootless containers
have them too (https://systemd.io/UIDS-GIDS/)."""

_lent: set[int] = set()


@functools.cache
def _named() -> frozenset[int]:
    """The ids that accounts of this machine have already."""
    return frozenset(entry.pw_uid for entry in pwd.getpwall())


@contextmanager
def lend_user() -> Iterator[int | None]:
    """Lend a user and group id that no other child of this gateway has; None unless root.

    Raises:
        GatewayFault: all are lent.
    """
    if os.geteuid() != 0:
        yield None
        return
    uid = _pick()
    _lent.add(uid)
    try:
        yield uid
    finally:
        _lent.discard(uid)


def _pick() -> int:
    free = [uid for uid in CHILD_UIDS if uid not in _lent and uid not in _named()]
    if not free:
        raise GatewayFault(
            "Every user id that is set aside for children is in use",
            "End some sessions",
            rule="sandbox",
        )
    # At random, so that two gateways on one machine seldom choose the same.
    return secrets.choice(free)

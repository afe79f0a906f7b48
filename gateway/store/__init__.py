"""Tables and transactions: the ledger, certificates, sessions, tickets.

`Store` is the only way in::

    Store ──▶ desk, certificates, sessions ──▶ Journal ──▶ SQLite
                (rows, each with a code)        (ledger, watermark, one writer)
"""

from __future__ import annotations

from gateway.store.certificates import CertificateRecord
from gateway.store.desk import LeavesOf
from gateway.store.ledger import Checkpoint
from gateway.store.sessions import SessionRecord, SessionState
from gateway.store.store import Store

__all__ = [
    "CertificateRecord",
    "Checkpoint",
    "LeavesOf",
    "SessionRecord",
    "SessionState",
    "Store",
]

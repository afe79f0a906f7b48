"""Is this record what was recorded? The answer for casts and state folders, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recorder.castcheck import check_cast
from recorder.report import CastReport, Report, StoreReport
from recorder.storecheck import check_store


def verify_cast(path: Path) -> CastReport:
    """Verify one cast on its own; its salts must lie beside it.

    A cut end and a recomputed chain show against the ledger only.

    Returns:
        A report; nothing is raised for what the files hold.
    """
    return check_cast(path)


def verify_store(folder: Path, vkey: str | None) -> StoreReport:
    """Verify a state folder: its ledger, its checkpoints and every cast in it.

    Args:
        folder: holds ``store.sqlite3`` and ``casts/``.
        vkey: the log's verification key, got from somewhere else than the folder;
            None takes the folder's own ``log.vkey``, with a loud remark.

    Returns:
        A report; nothing is raised for what the files hold.
    """
    return check_store(folder, vkey)


def verify_paths(paths: Sequence[Path], vkey: str | None, complete: bool) -> Report:
    """Verify what a user named: folders are state folders, the rest are casts.

    Args:
        paths: at least one.
        vkey: for the state folders; see ``verify_store``.
        complete: what is intact but not complete (never closed, unproven or
            unsigned) gets exit code 1.
    """
    stores = [verify_store(path, vkey) for path in paths if path.is_dir()]
    casts = [verify_cast(path) for path in paths if not path.is_dir()]
    return Report(tuple(casts), tuple(stores), complete)

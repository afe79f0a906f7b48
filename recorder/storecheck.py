"""Checks a state folder: the ledger's tree, its checkpoints, and each session's cast.

The casts are listed before the ledger is read and read after it: a session's
first leaf is durable before its cast's first event, and a line of a cast before
the leaf that vouches for it. So a running gateway is never taken for a forger.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from recorder.canonical import canonical
from recorder.cast import SESSION_ID
from recorder.castcheck import Closing, Expectation, check_cast, holds_no_events
from recorder.errors import (
    LeafInvalid,
    NoteInvalid,
    SignatureInvalid,
    VerifierMissing,
)
from recorder.leaf import body_hash, envelope_from
from recorder.merkle import Frontier, leaf_hash
from recorder.note import (
    Checkpoint,
    VerificationKey,
    checkpoint_of,
    parse_note,
    parse_vkey,
    verify_checkpoint,
)
from recorder.report import CastReport, Problem, SessionReport, State, StoreReport, worst
from recorder.sshsig import verify_sshsig, verify_with_ssh_keygen
from recorder.storefile import CheckpointRow, LeafRow, Snapshot, StoreUnreadable, open_store

VKEY_FILE: Final = "log.vkey"
CASTS_FOLDER: Final = "casts"

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MAX_PROBLEMS: Final = 20


def check_store(folder: Path, vkey: str | None) -> StoreReport:
    """Verify a state folder offline.

    Args:
        folder: holds ``store.sqlite3`` and ``casts/``.
        vkey: the log's verification key; None takes ``log.vkey`` of the folder,
            which proves nothing against whoever owns the folder.

    Returns:
        A report; nothing is raised for what the files hold.
    """
    remarks: list[str] = []
    try:
        key = _key(folder, vkey, remarks)
        sizes = _cast_sizes(folder / CASTS_FOLDER)
        ledger = _Ledger(key)
        with open_store(folder) as snapshot:
            ledger.read(snapshot)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or 'the system refuses'}"
        return StoreReport(str(folder), State.UNREADABLE, problems=(Problem(reason),))
    except (NoteInvalid, StoreUnreadable, VerifierMissing) as error:
        return StoreReport(str(folder), State.UNREADABLE, problems=(Problem(str(error)),))
    sessions = tuple(ledger.session_reports(folder / CASTS_FOLDER))
    remarks.extend(ledger.check_strangers(folder / CASTS_FOLDER, sizes))
    casts = [session.cast for session in sessions if session.cast is not None]
    states = [State.NOT_INTACT] if ledger.problems else []
    states += [cast.state for cast in casts]
    return StoreReport(
        path=str(folder),
        state=worst(iter(states)),
        leaves=ledger.tree.size,
        signed_leaves=ledger.signed_leaves,
        checkpoints=ledger.checkpoints,
        erased_bodies=ledger.erased_bodies,
        sessions=sessions,
        problems=tuple(ledger.problems[:_MAX_PROBLEMS]),
        remarks=(*remarks, *ledger.remarks()),
    )


@dataclass
class _Session:
    """What the ledger says about one session."""

    closed: bool = False
    genesis: str | None = None
    anchors: dict[int, str] = field(default_factory=dict)
    closing: Closing | None = None

    @property
    def has_lines(self) -> bool:
        return bool(self.anchors) or (self.closing is not None and self.closing.lines > 0)


class _Ledger:
    """One pass over leaves and checkpoints."""

    def __init__(self, key: VerificationKey) -> None:
        self.tree = Frontier()
        self.problems: list[Problem] = []
        self.signed_leaves = 0
        self.checkpoints = 0
        self.erased_bodies = 0
        self._key = key
        self._sessions: dict[str, _Session] = {}

    def read(self, snapshot: Snapshot) -> None:
        """Take everything in; problems are kept, not raised.

        Raises:
            StoreUnreadable: the database fails in between.
            VerifierMissing: there is nothing here that can check a signature.
        """
        checkpoints = snapshot.checkpoints()
        pending = self._check_small(checkpoints)
        for row in snapshot.leaves():
            if not self._take_leaf(row):
                return
            while pending is not None and pending.size == self.tree.size:
                self._take_checkpoint(pending)
                pending = next(checkpoints, None)
        if pending is not None:
            reason = "the ledger was cut: a checkpoint vouches for more leaves than there are"
            found = str(self.tree.size)
            self._report(Problem(reason, expected=str(pending.size), found=found))
        if self.tree.size and not self.checkpoints:
            self._report(Problem("no checkpoint vouches for this ledger"))

    def remarks(self) -> Iterator[str]:
        if self.tree.size == 0:
            yield "the ledger is empty"
        if self.tree.size > self.signed_leaves:
            yield "whoever can write the store could have added the leaves that are not yet signed"
        if len(self.problems) > _MAX_PROBLEMS:
            yield f"{len(self.problems) - _MAX_PROBLEMS} more problems are not shown"

    def session_reports(self, casts: Path) -> Iterator[SessionReport]:
        """Check the cast of each session that the ledger knows."""
        for name, session in self._sessions.items():
            if not SESSION_ID.fullmatch(name):
                self._report(Problem("a session id that cannot name a file"))
                continue
            failed = session.closing is not None and session.closing.root is None
            cast = self._check_cast(casts / f"{name}.cast", name, session)
            yield SessionReport(name, session.closed, failed, cast)

    def check_strangers(self, casts: Path, sizes: Mapping[str, int]) -> Iterator[str]:
        """Report casts that no ``session.open`` announces; yields remarks.

        A gateway that stops between making a cast and opening the session leaves one
        without events: nothing was recorded there, so nothing is hidden.

        Args:
            casts: the folder.
            sizes: name and size in bytes of each cast, from before the ledger was read.
        """
        for name, size_bytes in sizes.items():
            if name.removesuffix(".cast") in self._sessions:
                continue
            if holds_no_events(casts / name, size_bytes):
                yield f"{name} has no session and no events: the gateway stopped before opening it"
            else:
                self._report(Problem("a cast that the ledger does not know", found=name))

    def _check_cast(self, path: Path, name: str, session: _Session) -> CastReport | None:
        if not os.path.lexists(path):
            if session.has_lines:
                self._report(Problem("the cast of a session is gone", expected=path.name))
            return None
        known = Expectation(name, session.genesis, session.anchors, session.closing)
        return check_cast(path, known)

    def _check_small(self, checkpoints: Iterator[CheckpointRow]) -> CheckpointRow | None:
        """Deal with a checkpoint of size 0 and return the first of a larger one."""
        for row in checkpoints:
            if row.size > 0:
                return row
            self._take_checkpoint(row)
        return None

    def _take_leaf(self, row: LeafRow) -> bool:
        index = self.tree.size
        if row.index != index:
            reason = "a leaf is missing, or stands twice"
            self._report(Problem(reason, leaf=index, expected=str(index), found=str(row.index)))
            return False
        envelope = b""
        try:
            if not _TIME.fullmatch(row.time):
                raise LeafInvalid("a time that is not RFC 3339 in UTC with microseconds")
            envelope = envelope_from(row.type, row.time, row.session, row.body_hash)
            self._take_body(row)
        except LeafInvalid as error:
            self._report(Problem(str(error), leaf=index))
        self.tree.append(leaf_hash(envelope))
        return True

    def _take_body(self, row: LeafRow) -> None:
        session = self._session(row)
        if row.body is None:
            self.erased_bodies += 1
            if row.type == "session.close":
                # It holds nothing personal, and without it a cut cast would pass.
                raise LeafInvalid("the body of a session.close was erased")
            return
        if row.salt is None or body_hash(row.salt, row.body) != row.body_hash:
            raise LeafInvalid("the body or its salt was changed")
        body = _read_body(row.body)
        if session is not None:
            _take_anchor(session, row.type, body)

    def _session(self, row: LeafRow) -> _Session | None:
        """The session that a leaf speaks of, opened or closed by it."""
        session = self._sessions.get(row.session)
        if row.type == "session.open":
            if session is not None:
                raise LeafInvalid("a session is opened twice")
            session = self._sessions[row.session] = _Session()
        elif row.type == "session.close":
            if session is None or session.closed:
                raise LeafInvalid("a session is closed that is not open")
            session.closed = True
        return session

    def _take_checkpoint(self, row: CheckpointRow) -> None:
        self.checkpoints += 1
        try:
            checkpoint = _verify_signatures(row, self._key)
        except (NoteInvalid, SignatureInvalid) as error:
            self._report(Problem(f"the checkpoint of size {row.size}: {error}"))
            return
        if checkpoint.size != row.size:
            reason = "a checkpoint is filed under another size"
            found = str(row.size)
            self._report(Problem(reason, expected=str(checkpoint.size), found=found))
            return
        root = self.tree.root()
        if checkpoint.root != root:
            reason = f"the first {row.size} leaves are not those that were signed"
            expected, found = checkpoint.root.hex(), root.hex()
            self._report(Problem(reason, expected=expected, found=found))
            return
        self.signed_leaves = max(self.signed_leaves, row.size)

    def _report(self, problem: Problem) -> None:
        self.problems.append(problem)


def _take_anchor(session: _Session, type_: str, body: dict[str, object]) -> None:
    """Note what a body says about its session's cast.

    Raises:
        LeafInvalid: it says it in a form that cannot be checked.
    """
    if type_ == "session.open":
        genesis = body.get("genesis")
        session.genesis = genesis if isinstance(genesis, str) else None
    if type_ != "session.close" and "cast_root" not in body:
        return
    root, lines = body.get("cast_root"), body.get("lines")
    if type(lines) is not int or lines < 0:
        raise LeafInvalid("a cast_root without its number of lines")
    if isinstance(root, str) and _HEX_DIGEST.fullmatch(root) and lines > 0:
        if session.anchors.setdefault(lines, root) != root:
            raise LeafInvalid("two leaves disagree about the head of one cast")
    elif root is not None:
        raise LeafInvalid("a cast_root that is no digest")
    if type_ == "session.close":
        session.closing = Closing(lines, root if isinstance(root, str) else None)


def _read_body(raw: bytes) -> dict[str, object]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise LeafInvalid("a body that is no JSON") from None
    if not isinstance(body, dict) or canonical(body) != raw:
        raise LeafInvalid("a body that is not canonical JSON")
    return body


def _verify_signatures(row: CheckpointRow, key: VerificationKey) -> Checkpoint:
    """The checkpoint of a row, by the library, or else by ssh-keygen over its SSHSIG."""
    try:
        checkpoint = verify_checkpoint(row.note, key)
        if row.sshsig is not None:
            verify_sshsig(parse_note(row.note).text, row.sshsig, key)
        return checkpoint
    except ImportError:
        if row.sshsig is None:
            raise SignatureInvalid("no SSHSIG, and cryptography is not installed") from None
    text = parse_note(row.note).text
    verify_with_ssh_keygen(text, row.sshsig, key)
    return checkpoint_of(text, key)


def _key(folder: Path, vkey: str | None, remarks: list[str]) -> VerificationKey:
    if vkey is not None:
        return parse_vkey(vkey)
    try:
        text = (folder / VKEY_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoteInvalid(f"no --vkey was given and there is no {VKEY_FILE}") from None
    except UnicodeDecodeError:
        raise NoteInvalid(f"{VKEY_FILE} is not a verification key") from None
    remarks.append(
        f"THE KEY CAME FROM THE SAME FOLDER ({VKEY_FILE}): this proves nothing against"
        " whoever owns the folder. Give --vkey with a key that you got another way."
    )
    return parse_vkey(text)


def _cast_sizes(casts: Path) -> dict[str, int]:
    try:
        with os.scandir(casts) as entries:
            found = [entry for entry in entries if entry.name.endswith(".cast")]
            sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in found}
    except FileNotFoundError:
        return {}
    return dict(sorted(sizes.items()))

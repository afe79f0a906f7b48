"""One session's recording: its cast, and the leaves that anchor it.

The order in here is promise 1: what the user asked for is on the disk before
anything runs, and what a client saw was given to the cast before it was sent.
After any failure the recording refuses everything, and the session ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from gateway.core.approval import Grant
from gateway.core.display import show
from gateway.core.events import Judgement, Line, Summary
from gateway.core.mask import Masked, mask_text
from gateway.core.policy import verdict_json
from gateway.core.screen.terminal import MaskedTerminal
from gateway.core.verdict import Verdict
from gateway.edge.door import Admission
from gateway.edge.ledger import Ledger
from gateway.edge.ticketing import TicketLeaves
from gateway.errors import BadCommand, RecorderFault, TollhouseError
from gateway.sql.shown import shown, unread
from gateway.store import SessionRecord
from recorder.cast import Code
from recorder.errors import RecorderError
from recorder.writer import CastWriter

T = TypeVar("T")

HEAD_EVERY_S = 1.0
"""While output flows, a head is written and synced this often (docs/formats.md, "Cast")."""

SYNC_BYTES = 512 * 1024
"""And after this much, before the writer's own buffer fills and blocks the loop."""

UNREAD_SHOWN_BYTES = 16 * 1024
"""How much is shown of a line that could not be judged; its size and digest cover all of it."""

_CUT_WORD = re.compile(rb"[\w./-]+\Z")


class Recording:
    """The record of one session; made by ``open``.

    Attributes:
        session: the session's id.
    """

    def __init__(self, session: str, ledger: Ledger, writer: CastWriter, digest_key: bytes) -> None:
        self.session = session
        self._ledger = ledger
        self._writer = writer
        self._digest_key = digest_key
        self._started_s = time.monotonic()
        self._headed_s = self._started_s
        self._unsynced_bytes = 0
        self._lock = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(
        cls,
        *,
        session: str,
        ledger: Ledger,
        casts_dir: Path,
        admission: Admission,
        facts: Mapping[str, object],
        digest_key: bytes,
        cols: int = 80,
        rows: int = 24,
    ) -> Self:
        """Create the cast, then put ``session.open`` into the ledger.

        Args:
            session: a fresh id, safe as a file name.
            ledger: where leaves go.
            casts_dir: exists, mode 0700.
            admission: who came in.
            facts: what else ``session.open`` says (form, sandbox level, upstream).
            digest_key: keys the digests of exact command bytes.
            cols, rows: of the client's window, if it has one.

        Raises:
            RecorderFault: either could not be made durable; nothing may run.
        """
        identity = admission.identity
        genesis = os.urandom(32)
        writer = await _on_disk(
            lambda: CastWriter.create(
                casts_dir,
                session,
                cols=cols,
                rows=rows,
                started=ledger.now(),
                genesis=genesis,
                seed=os.urandom(32),
                title=f"{identity.name}@{admission.target}",
            )
        )
        record = cls(session, ledger, writer, digest_key)
        body = {
            "address": admission.address,
            "annotations": dict(identity.annotations),
            "accountable": list(identity.accountable),
            "cast": writer.path.name,
            "certificate": f"{admission.serial:016x}",
            "genesis": genesis.hex(),
            "identity": identity.name,
            "issuer": identity.issuer,
            "kind": identity.kind,
            "roles": list(identity.roles),
            "subject": identity.subject,
            "target": admission.target,
            **facts,
        }
        listed = SessionRecord(
            id=session,
            identity_id=identity.id,
            identity_name=identity.name,
            target=admission.target,
            client=admission.address,
            cast=writer.path.name,
            opened=ledger.now(),
        )
        try:
            await ledger.store.open_session(listed, ledger.leaf("session.open", session, body))
        except RecorderFault:
            await _on_disk(writer.close)
            raise
        return record

    async def intent(self, judgement: Judgement, grant: Grant) -> None:
        """Make the intent durable: cast, then leaf and spent grant in one transaction.

        Raises:
            RecorderFault: it is not durable; the command must not run.
            Denied: the grant was spent or ended in the meantime.
        """
        facts = self._decided(judgement.line, judgement, judgement.verdict)
        facts |= {"ticket": grant.ticket, "digest": grant.digest}
        note = {"verdict": judgement.verdict.verdict, "rule": judgement.verdict.rule}
        facts |= await self._typed(judgement.parsed.shown, note, grant.ticket)
        leaf = self._ledger.leaf("command.decided", self.session, facts)
        spent = TicketLeaves(self._ledger).spent(grant, self.session)
        await self._ledger.store.commit_intent(leaf, grant, self._ledger.now(), spent)

    async def refusal(self, line: Line, judgement: Judgement | None, error: TollhouseError) -> None:
        """Record a line that did not run, and why.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        if judgement is None:
            verdict = Verdict("deny", error.rule, error.reason, error.advice)
        else:
            verdict = judgement.verdict
        facts = self._decided(line, judgement, verdict)
        if isinstance(error, BadCommand):
            facts["command"] = mask_text(_cut(line.text, unread))
        facts |= {"verdict": "deny", "rule": error.rule, "reason": mask_text(error.reason)}
        note = {"verdict": "deny", "rule": error.rule}
        facts |= await self._typed(str(facts["command"]), note, None)
        await self._ledger.append("command.decided", self.session, facts)

    async def held(self, judgement: Judgement, ticket: str) -> None:
        """Record that a line waits; its own leaf came with the ticket.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        note = {"verdict": "ask", "rule": judgement.verdict.rule}
        await self._typed(judgement.parsed.shown, note, ticket)

    async def output(self, data: Masked) -> None:
        """Keep what the client is about to see; line feeds become CRLF, as a terminal would show.

        Raises:
            RecorderFault: the record cannot be kept; the data must not be sent.
        """
        if not data.data:
            return
        await self._keep(data.data.decode().replace("\r\n", "\n").replace("\n", "\r\n"))

    async def _keep(self, text: str) -> None:
        await self._write(("o", text))
        self._unsynced_bytes += len(text)
        due = time.monotonic() - self._headed_s >= HEAD_EVERY_S
        if due or self._unsynced_bytes >= SYNC_BYTES:
            await self._sync()
        else:
            await self._flush()

    async def sent(self, text: bytes, index: int) -> None:
        """Note in the ledger that the guard let a decided text through to the target."""
        body = {"index": index, "text_hmac": self._text_hmac(text)}
        await self._ledger.append("request.sent", self.session, body)

    async def finish(self, summary: Summary) -> None:
        """Record how the command ended.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        body = {
            "bytes": summary.out_bytes,
            "exit_code": summary.exit_code,
            "masked": dict(summary.masked),
            "rows": summary.rows,
            **await self._sync(),
        }
        await self._ledger.append("command.finished", self.session, body)

    async def close(self, reason: str) -> None:
        """Close the cast and say its root in the ledger; again is no error.

        A recording that failed is closed without a root: ``verify`` then says that
        nobody vouches for its end, which is the truth.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        if self._closed:
            return
        self._closed = True
        failure: RecorderFault | None = None
        async with self._lock:
            try:
                await _on_disk(self._writer.close)
            except RecorderFault as fault:
                failure = fault
        body = {"cast_root": self._writer.root, "lines": self._writer.lines, "reason": reason}
        leaf = self._ledger.leaf("session.close", self.session, body)
        await self._ledger.store.close_session(self.session, self._ledger.now(), reason, leaf)
        await self._ledger.sign()
        if failure is not None:
            raise failure

    def _decided(self, line: Line, judgement: Judgement | None, verdict: Verdict) -> dict[str, Any]:
        parsed = judgement.parsed if judgement is not None else None
        command = parsed.shown if parsed is not None else _cut(line.text, _shown)
        facts = verdict_json(verdict, None, parsed.actions if parsed else (), [])
        del facts["masked_columns"]
        return facts | {
            "bytes": len(line.text),
            "catalog": parsed.catalog if parsed else "",
            "command": mask_text(command),
            "form": line.form,
            "policy": judgement.fields.policy_version if judgement else "",
            "text_hmac": self._text_hmac(line.text),
        }

    def _text_hmac(self, text: bytes) -> str:
        """Tells whether two records are of the same bytes, to the gateway's key holder only.

        A bare or salted hash beside its salt could be guessed where the only
        unknown is one identifier.
        """
        return hmac.new(self._digest_key, text, hashlib.sha256).hexdigest()

    async def _write(self, *events: tuple[Code, str]) -> None:
        async with self._lock:
            at_s = time.monotonic() - self._started_s
            for code, data in events:
                try:
                    self._writer.write(code, data, at_s)
                except RecorderError as error:
                    raise _fault(error) from error

    async def _typed(
        self, shown: str, note: Mapping[str, str], ticket: str | None
    ) -> Mapping[str, object]:
        """The user's line and what became of it, durable; the anchor of the cast after it."""
        line = mask_text(shown).replace("\r\n", "\n").replace("\n", "\r\n")
        await self._write(("i", line + "\r\n"), ("m", _marker(note, ticket)))
        return await self._sync()

    async def _flush(self) -> None:
        """Lines into the file: a gateway that is killed now loses nothing that a client saw."""
        async with self._lock:
            await _on_disk(self._writer.flush)

    async def _sync(self) -> Mapping[str, object]:
        """Head and fsync, in a thread: the loop has other sessions.

        Returns:
            The anchor that a leaf may hold (docs/formats.md, "Leaf types and bodies").
        """

        def seal() -> Mapping[str, object]:
            self._writer.head()
            self._writer.sync()
            return {"cast_root": self._writer.root, "lines": self._writer.lines}

        async with self._lock:
            self._headed_s = time.monotonic()
            self._unsynced_bytes = 0
            return await _on_disk(seal)


class ScreenRecording(Recording):
    """The record of a terminal: what is drawn on it, on a masked screen of the record's own.

    What the client types is the client's own to see; the record shows each line once,
    as it was decided, with its literals masked.

    Attributes:
        prompt: stands before the line that is typed next.
    """

    prompt = ""
    _screen: MaskedTerminal | None = None

    def begin(self, cols: int, rows: int) -> None:
        """The client's window has this size; before anything is drawn."""
        self._screen = MaskedTerminal(cols, rows)

    async def output(self, data: Masked) -> None:
        """Nothing: the notice is drawn on the screen, and kept there (``drawn``)."""

    async def drawn(self, data: bytes) -> None:
        """Keep, masked, what is about to be drawn.

        Raises:
            RecorderFault: the record cannot be kept; the data must not be sent.
        """
        assert self._screen is not None
        await self._keep_masked(self._screen.feed(data))

    async def resized(self, cols: int, rows: int) -> None:
        """Keep that the client's window has another size.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        assert self._screen is not None
        await self._write(("r", f"{cols}x{rows}"))
        await self._keep_masked(self._screen.resize(cols, rows))

    async def drawn_all(self) -> None:
        """Keep what was held back; nothing more will be drawn.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        assert self._screen is not None
        await self._keep_masked(self._screen.finish())

    async def _typed(
        self, shown: str, note: Mapping[str, str], ticket: str | None
    ) -> Mapping[str, object]:
        line = mask_text(shown).replace("\r\n", "\n").replace("\n", "\r\n")
        await self.drawn(f"{self.prompt}{line}\r\n".encode())
        return await super()._typed(shown, note, ticket)

    async def _keep_masked(self, data: Masked) -> None:
        if data:
            await self._keep(data.data.decode())


def _shown(text: bytes) -> str:
    return shown(text, touches_phi=True)


def _cut(text: bytes, show_text: Callable[[bytes], str]) -> str:
    """A line that nobody could judge, cut where it is long: a bomb must not occupy the loop.

    The cut is said, and never leaves the beginning of a number that would be masked whole.
    """
    if len(text) <= UNREAD_SHOWN_BYTES:
        return show_text(text)
    head = _CUT_WORD.sub(b"", text[:UNREAD_SHOWN_BYTES])
    return f"{show_text(head)} … ({len(text) - len(head)} more bytes)"


def _marker(note: Mapping[str, str], ticket: str | None) -> str:
    """The text of an ``m`` event: JSON, so that players show it and programs read it."""
    fields = dict(note) | ({"ticket": ticket} if ticket is not None else {})
    return show(json.dumps(fields, sort_keys=True))


async def _on_disk(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except RecorderError as error:
        raise _fault(error) from error


def _fault(error: RecorderError) -> RecorderFault:
    return RecorderFault(
        f"The record cannot be kept: {error}",
        "Nothing runs unrecorded; the gateway's operator has to look at its disk",
        rule="recorder.cast",
    )

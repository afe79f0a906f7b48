"""What somebody can do who writes to the database but has no key: nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import CertificateRefused, Denied, RecorderFault, TokenRefused
from gateway.store import CertificateRecord, Store, schema
from recorder.leaf import Leaf
from tests.store.scene import (
    BLOB,
    ask,
    bring_back,
    certificate,
    granted,
    leaf,
    leaves,
    open_store,
    saved,
    sql,
)
from tests.tickets import APPROVER, APPROVER2, ETL, NOW, after, request, vote

VOTED = leaves("approval.voted")
ALL_BUT_IDX = "time, type, session, body, salt, body_hash"


def _revoked(record: CertificateRecord) -> Leaf:
    return leaf("certificate.revoked", serial=str(record.serial))


def _columns(table: str, *but: str) -> list[str]:
    return [
        column.name for column in schema.metadata.tables[table].columns if column.name not in but
    ]


def _other(value: Any) -> Any:
    match value:
        case None:
            return "2026-07-01T09:00:00.000000Z"
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case int():
            return value + 1
        case _:
            return f"{value}x"


def _edit(folder: Path, table: str, column: str) -> None:
    ((value,),) = sql(folder, f"SELECT {column} FROM {table}")
    sql(folder, f"UPDATE {table} SET {column} = ?", _other(value))


@pytest.mark.parametrize("column", _columns("certificate", "blob_sha256"))
async def test_an_edited_certificate_opens_nothing(store: Store, folder: Path, column: str) -> None:
    await store.add_certificate(BLOB, certificate())
    _edit(folder, "certificate", column)
    with pytest.raises(CertificateRefused, match="changed outside") as refusal:
        await store.certificate(BLOB)
    assert refusal.value.rule == "certificate.forged"
    assert store.refused_rows == 1


async def test_a_certificate_is_not_moved_to_other_bytes(store: Store, folder: Path) -> None:
    await store.add_certificate(BLOB, certificate())
    sql(folder, "UPDATE certificate SET blob_sha256 = ?", "ee" * 32)
    assert await store.certificate(BLOB) is None
    with pytest.raises(CertificateRefused):
        await store.certificate("ee" * 32)


async def test_a_revoked_certificate_is_not_brought_back(store: Store, folder: Path) -> None:
    await store.add_certificate(BLOB, certificate())
    before = saved(folder, "certificate")
    await store.revoke(after(1), _revoked, serial=certificate().serial)
    bring_back(folder, "certificate", before)
    with pytest.raises(CertificateRefused):
        await store.certificate(BLOB)
    await store.close()
    again = await open_store(folder)
    with pytest.raises(CertificateRefused):
        await again.certificate(BLOB)
    assert again.refused_rows == 1
    await again.close()


@pytest.mark.parametrize("column", _columns("token_binding", "token_digest"))
async def test_an_edited_binding_lets_no_other_key_in(
    store: Store, folder: Path, column: str
) -> None:
    await store.bind_token("t1", "SHA256:one", after(60))
    _edit(folder, "token_binding", column)
    with pytest.raises(TokenRefused):
        await store.bind_token("t1", "SHA256:onex", after(60))


@pytest.mark.parametrize("column", _columns("ticket", "number"))
async def test_an_edited_ticket_grants_nothing(store: Store, folder: Path, column: str) -> None:
    _, grant = await granted(store)
    _edit(folder, "ticket", column)
    with pytest.raises(Denied, match="changed outside") as refusal:
        await store.commit_intent(leaf(), grant, NOW)
    assert refusal.value.rule == "ticket.forged"
    assert await store.tree_size() == 2
    assert await store.tickets() == []
    assert store.refused_rows >= 1


async def test_a_pending_ticket_is_not_granted_by_hand(store: Store, folder: Path) -> None:
    ticket = await ask(store)
    sql(folder, "UPDATE ticket SET state = 'granted', expires = ?", "2027-01-01T00:00:00.000000Z")
    with pytest.raises(Denied, match="changed outside"):
        await store.ticket(ticket.id)
    with pytest.raises(Denied, match="changed outside"):
        await store.vote(ticket.id, vote(APPROVER), VOTED)
    assert await store.open_tickets(ETL.id, "claims-db") == []


async def test_one_forged_ticket_hides_no_other(store: Store, folder: Path) -> None:
    await ask(store)
    other = await ask(store, b"delete 2")
    sql(folder, "UPDATE ticket SET target = 'x' WHERE number = 1")
    assert await store.tickets() == [other]
    assert await store.expire(after(24 * 3600), leaves("approval.expired")) != []


@pytest.mark.parametrize("restart", [False, True])
async def test_a_spent_grant_is_not_brought_back(store: Store, folder: Path, restart: bool) -> None:
    _, grant = await granted(store)
    before = saved(folder, "ticket")
    await store.commit_intent(leaf(), grant, after(1))
    sql(folder, "PRAGMA foreign_keys = OFF")
    bring_back(folder, "ticket", before)
    if restart:
        await store.close()
        store = await open_store(folder)
    with pytest.raises(Denied, match="changed outside"):
        await store.commit_intent(leaf(), grant, after(2))
    assert store.refused_rows == 1
    await store.close()


@pytest.mark.parametrize("also", [("ended",), ("ended", "watermark")])
async def test_nor_with_the_list_and_the_watermark_of_then(
    store: Store, folder: Path, also: tuple[str, ...]
) -> None:
    _, grant = await granted(store)
    before = {table: saved(folder, table) for table in ("ticket", *also)}
    await store.commit_intent(leaf(), grant, after(1))
    await store.close()
    for table, rows in before.items():
        bring_back(folder, table, rows)
    with pytest.raises(RecorderFault, match="changed outside") as fault:
        await open_store(folder)
    assert fault.value.rule == "store.watermark"


@pytest.mark.parametrize("column", _columns("vote", "ticket"))
async def test_an_edited_vote_does_not_count(store: Store, folder: Path, column: str) -> None:
    ticket = await ask(store)
    quorum = request(b"two", *(_twice(ticket.approvals)))
    ticket = await store.request_ticket(quorum, NOW, leaves("approval.requested"))
    await store.vote(ticket.id, vote(APPROVER), VOTED)
    _edit(folder, "vote", column)
    assert (await store.ticket(ticket.id)).votes == ()
    assert (await store.vote(ticket.id, vote(APPROVER2), VOTED)).state == "pending"


def _twice(approvals: tuple[Any, ...]) -> list[Any]:
    return [replace(approval, quorum=2) for approval in approvals]


async def test_a_vote_is_not_carried_to_another_ticket(store: Store, folder: Path) -> None:
    await granted(store, b"harmless")
    quorum = request(b"harmful", *_twice((await store.ticket("T-1")).approvals))
    harmful = await store.request_ticket(quorum, NOW, leaves("approval.requested"))
    sql(folder, "UPDATE vote SET ticket = 2")
    assert (await store.ticket(harmful.id)).votes == ()
    assert (await store.vote(harmful.id, vote(APPROVER2), VOTED)).state == "pending"


async def test_a_vote_from_before_a_rollback_does_not_count(store: Store, folder: Path) -> None:
    await store.close()
    empty = {name: saved(folder, name) for name in schema.metadata.tables}
    first = await open_store(folder)
    await granted(first, b"harmless")
    votes = saved(folder, "vote")
    await first.close()
    for name, rows in empty.items():
        bring_back(folder, name, rows)
    # A store that is rolled back as a whole opens; only a later checkpoint shows it.
    second = await open_store(folder)
    harmful = await ask(second, b"harmful")
    assert harmful.id == "T-1"
    bring_back(folder, "vote", votes)
    assert (await second.ticket(harmful.id)).votes == ()
    await second.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM leaf WHERE idx = 2", "watermark is of another tree"),
        ("DELETE FROM leaf WHERE idx = 1", "leaf 1 is missing"),
        ("DELETE FROM leaf", "watermark is of another tree"),
        ("UPDATE leaf SET type = 'command.finished' WHERE idx = 1", "another tree"),
        ("UPDATE leaf SET time = '2026-07-01T08:00:01.000000Z' WHERE idx = 0", "another tree"),
        ("UPDATE leaf SET session = 's-2' WHERE idx = 0", "another tree"),
        ("UPDATE leaf SET body_hash = zeroblob(32) WHERE idx = 0", "another tree"),
        ("UPDATE leaf SET idx = 9 WHERE idx = 0", "leaf 0 is missing"),
        (f"INSERT INTO leaf SELECT 3, {ALL_BUT_IDX} FROM leaf WHERE idx = 2", "another tree"),
        ("DELETE FROM watermark", "its watermark is gone"),
        ("UPDATE watermark SET last_ticket = 0", "another tree"),
        ("UPDATE watermark SET mac = zeroblob(32)", "another tree"),
        ("INSERT INTO ended VALUES ('ticket T-9', 'x')", "another tree"),
    ],
)
async def test_a_ledger_that_was_touched_does_not_open(
    store: Store, folder: Path, statement: str, reason: str
) -> None:
    await ask(store)
    await store.append(leaf(), leaf())
    await store.close()
    sql(folder, statement)
    with pytest.raises(RecorderFault, match=reason):
        await open_store(folder)


async def test_an_erased_body_is_no_forgery(store: Store, folder: Path) -> None:
    await store.append(leaf(), leaf())
    await store.close()
    sql(folder, "UPDATE leaf SET body = NULL, salt = NULL WHERE idx = 0")
    again = await open_store(folder)
    assert await again.tree_size() == 2
    await again.close()


async def test_a_ledger_that_is_touched_while_open_ends_all_writing(
    store: Store, folder: Path
) -> None:
    await store.append(leaf())
    before = saved(folder, "watermark")
    await store.append(leaf())
    bring_back(folder, "watermark", before)
    for _ in range(2):
        with pytest.raises(RecorderFault, match="while it was open"):
            await store.append(leaf())


async def test_a_row_in_the_next_leafs_place_is_a_fault(store: Store, folder: Path) -> None:
    await store.append(leaf())
    sql(
        folder,
        f"INSERT INTO leaf SELECT 1, {ALL_BUT_IDX} FROM leaf",
    )
    with pytest.raises(RecorderFault):
        await store.append(leaf())
    assert await store.tree_size() == 1

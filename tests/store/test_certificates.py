"""Live certificates, revocation, and the first key of a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import Denied, RecorderFault, TokenRefused
from gateway.store import CertificateRecord, Store
from recorder.leaf import Leaf
from tests.store.scene import BLOB, certificate, leaf, leaves, saved
from tests.tickets import ETL, NOW, after

OTHER = "cd" * 32


def _revoked(record: CertificateRecord) -> Leaf:
    return leaf("certificate.revoked", serial=str(record.serial))


async def test_only_issued_bytes_have_a_record(store: Store) -> None:
    await store.add_certificate(BLOB, certificate(), leaf("certificate.issued"))
    assert await store.certificate(BLOB) == certificate()
    assert await store.certificate(OTHER) is None
    assert await store.tree_size() == 1
    with pytest.raises(RecorderFault):
        await store.add_certificate(BLOB, certificate(1), leaf("certificate.issued"))
    assert await store.tree_size() == 1


@pytest.mark.parametrize(
    "chosen", [{"serial": 2**64 - 1}, {"identity": "etl"}, {"identity": ETL.id}]
)
async def test_revoking(store: Store, chosen: dict[str, str | int]) -> None:
    await store.add_certificate(BLOB, certificate())
    revoked = await store.revoke(after(5), _revoked, **chosen)  # type: ignore[arg-type]
    assert [record.revoked for record in revoked] == [after(5)]
    found = await store.certificate(BLOB)
    assert found is not None
    assert found.revoked == after(5)
    assert await store.tree_size() == 1
    again = await store.revoke(after(6), _revoked, **chosen)  # type: ignore[arg-type]
    assert again == []


async def test_revoking_takes_all_of_an_identity_and_nobody_elses(store: Store) -> None:
    await store.add_certificate(BLOB, certificate(1))
    await store.add_certificate(OTHER, certificate(2))
    assert await store.revoke(NOW, _revoked, identity="owner") == []
    assert await store.revoke(NOW, _revoked, serial=3) == []
    assert len(await store.revoke(NOW, _revoked, identity="etl")) == 2


async def test_a_token_stays_with_its_first_key(store: Store, folder: Path) -> None:
    await store.bind_token("t1", "SHA256:one", after(60))
    await store.bind_token("t1", "SHA256:one", after(60))
    await store.bind_token("t2", "SHA256:two", after(120))
    with pytest.raises(TokenRefused, match="another key"):
        await store.bind_token("t1", "SHA256:two", after(60))
    await store.add_certificate(BLOB, certificate())
    await store.expire(after(90), leaves("approval.expired"))
    assert [row[0] for row in saved(folder, "token_binding")] == ["t2"]
    assert await store.certificate(BLOB) is not None
    await store.expire(after(901), leaves("approval.expired"))
    assert saved(folder, "token_binding") == []
    assert await store.certificate(BLOB) is None


async def test_a_change_and_its_leaf_stand_or_fall_together(store: Store) -> None:
    bad = Leaf("no.such.type", NOW, "", {}, bytes(32))
    with pytest.raises(RecorderFault):
        await store.add_certificate(BLOB, certificate(), bad)
    assert await store.certificate(BLOB) is None
    with pytest.raises(Denied):
        await store.ticket("T-1")

"""The door: each refusal with its reason, and nothing said to or kept of an unproved key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.public_key import SSHOpenSSHCertificate

from gateway.core.certificate import origin, terms_for
from gateway.core.proof import read_public_key
from gateway.edge.door import Answer, Door
from gateway.edge.keys import sign_user
from gateway.errors import CertificateRefused, RecorderFault
from gateway.store import CertificateRecord, Store
from tests.edge.house import admission
from tests.store.scene import leaf, open_store, sql
from tests.tickets import ETL, NOW, after

CA = asyncssh.generate_private_key("ssh-ed25519")
OTHER_CA = asyncssh.generate_private_key("ssh-ed25519")
KEY = asyncssh.generate_private_key("ssh-ed25519")
OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")
ORIGIN = origin(CA.public_data)
ADDRESS = "192.0.2.7"
SIGNED = b"the exchange hash and the request"


@dataclass
class Stage:
    """A door, its store, and what it noted."""

    folder: Path
    store: Store
    noted: list[tuple[str, str]] = field(default_factory=list)
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.door = Door(
            (CA.public_data,),
            self.store,
            lambda address, rule: self.noted.append((address, rule)),
            lambda: self.now,
        )

    async def issue(self, ca: asyncssh.SSHKey = CA, *, known: bool = True) -> bytes:
        """A certificate as the exchange gives it; its record in the store unless told not to."""
        line = KEY.export_public_key("openssh").decode()
        made = sign_user(ca, read_public_key(line), terms_for(ETL, ORIGIN, 77, NOW))
        blob = made.public_data
        if known:
            record = CertificateRecord(
                ETL, 77, ("tollhouse:x:claims-db",), after(900), "SHA256:abc"
            )
            await self.store.add_certificate(hashlib.sha256(blob).hexdigest(), record, leaf())
        return blob

    async def knock(
        self, blob: bytes, user: str = "claims-db", key: asyncssh.SSHKey = KEY
    ) -> Answer:
        """Offer a key and prove it."""
        return await self.door.knock(
            username=user,
            key_data=blob,
            signed=SIGNED,
            signature=key.sign(SIGNED, key.sig_algorithms[0]),
            address=ADDRESS,
        )

    def refused(self, answer: Answer, rule: str) -> str:
        assert (answer.accepted, answer.admission) == (False, None)
        assert f"[{rule}]" in answer.banner
        assert self.noted == [(ADDRESS, rule)]
        assert answer.banner.startswith("tollhouse: refused")
        assert answer.banner.count("\r\n") == 2  # a reason, and what to do
        return answer.banner


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    store = await open_store(tmp_path / "state")
    yield Stage(tmp_path / "state", store)
    await store.close()


def by_hand(ca: asyncssh.SSHKey = CA, **changed: Any) -> bytes:
    options: dict[str, Any] = {
        "principals": [f"tollhouse:{ORIGIN}:claims-db"],
        "valid_after": NOW - timedelta(seconds=60),
        "valid_before": NOW + timedelta(minutes=15),
        "permit_x11_forwarding": False,
        "permit_agent_forwarding": False,
        "permit_port_forwarding": False,
        "permit_user_rc": False,
    }
    made: SSHOpenSSHCertificate = ca.generate_user_certificate(KEY, "k", **(options | changed))
    return made.public_data


async def test_a_certificate_that_we_issued_enters(stage: Stage) -> None:
    blob = await stage.issue()
    answer = await stage.knock(blob)
    assert (answer.accepted, answer.banner) == (True, "")
    admitted = answer.admission
    assert admitted is not None
    assert (admitted.identity, admitted.target, admitted.serial) == (ETL, "claims-db", 77)
    assert (admitted.valid_before, admitted.address) == (after(900), ADDRESS)
    assert admitted.blob_sha256 == hashlib.sha256(blob).hexdigest()
    assert stage.noted == []


async def test_a_query_is_accepted_unjudged_and_leaves_nothing(stage: Stage) -> None:
    for blob in (await stage.issue(), by_hand(OTHER_CA), OTHER_KEY.public_data):
        answer = await stage.door.knock(
            username="claims-db", key_data=blob, signed=b"", signature=b"", address=ADDRESS
        )
        assert answer == Answer(accepted=True)
    assert stage.noted == []


async def test_an_unproved_certificate_is_told_nothing(stage: Stage) -> None:
    blob = await stage.issue()
    forged = await stage.knock(blob, key=OTHER_KEY)
    assert forged == Answer(accepted=False)
    garbled = await stage.door.knock(
        username="claims-db", key_data=blob, signed=SIGNED, signature=b"\x00", address=ADDRESS
    )
    assert garbled == Answer(accepted=False)
    assert stage.noted == [(ADDRESS, "certificate.proof")] * 2


@pytest.mark.parametrize(
    "blob", [b"", b"ssh-ed25519", b"\x00\x00\x00\x0bssh-ed25519", b"\xff" * 64]
)
async def test_what_is_no_key_is_refused_without_a_word(stage: Stage, blob: bytes) -> None:
    for signed in (b"", SIGNED):
        answer = await stage.door.knock(
            username="claims-db", key_data=blob, signed=signed, signature=b"", address=ADDRESS
        )
        assert answer == Answer(accepted=False)
    assert {rule for _, rule in stage.noted} == {"certificate.format"}


async def test_a_plain_key(stage: Stage) -> None:
    banner = stage.refused(await stage.knock(KEY.public_data), "certificate.plain-key")
    assert "tollhouse login" in banner


async def test_a_certificate_that_the_store_does_not_know(stage: Stage) -> None:
    blob = await stage.issue(known=False)
    stage.refused(await stage.knock(blob), "certificate.unknown")


async def test_another_ca(stage: Stage) -> None:
    blob = await stage.issue(OTHER_CA)
    stage.refused(await stage.knock(blob), "certificate.ca")


async def test_an_expired_certificate(stage: Stage) -> None:
    blob = await stage.issue()
    stage.now = after(900)
    stage.refused(await stage.knock(blob), "certificate.expired")


async def test_another_target(stage: Stage) -> None:
    blob = await stage.issue()
    stage.refused(await stage.knock(blob, user="payroll"), "certificate.target")


async def test_a_comma_in_a_principal(stage: Stage) -> None:
    blob = by_hand(principals=[f"tollhouse:{ORIGIN}:a,tollhouse:{ORIGIN}:claims-db"])
    answer = await stage.knock(blob)
    assert not answer.accepted
    assert answer.banner


async def test_a_revoked_certificate(stage: Stage) -> None:
    blob = await stage.issue()
    await stage.store.revoke(NOW, lambda _: leaf("certificate.revoked"), serial=77)
    stage.refused(await stage.knock(blob), "certificate.revoked")


async def test_a_record_that_somebody_else_wrote(stage: Stage) -> None:
    blob = await stage.issue()
    sql(stage.folder, "UPDATE certificate SET serial = '78'")
    answer = await stage.knock(blob)
    assert (answer.accepted, answer.admission) == (False, None)
    assert answer.banner
    assert stage.noted


async def test_a_store_that_cannot_say_keeps_the_gate_down(stage: Stage) -> None:
    blob = await stage.issue()
    await stage.store.close()
    answer = await stage.knock(blob)
    assert (answer.accepted, answer.admission) == (False, None)
    assert answer.banner.startswith("tollhouse: refused [store")


async def test_each_new_channel_is_judged_again(stage: Stage) -> None:
    blob = await stage.issue()
    admitted = (await stage.knock(blob)).admission
    assert admitted is not None
    await stage.door.still_valid(admitted)
    await stage.store.revoke(after(1), lambda _: leaf("certificate.revoked"), serial=77)
    with pytest.raises(CertificateRefused) as caught:
        await stage.door.still_valid(admitted)
    assert caught.value.rule == "certificate.revoked"
    stage.now = after(900)
    with pytest.raises(CertificateRefused) as caught:
        await stage.door.still_valid(admitted)
    assert caught.value.rule == "certificate.expired"
    stage.now = NOW
    await stage.store.close()
    with pytest.raises(RecorderFault):
        await stage.door.still_valid(admitted)


def test_an_admission_ends_to_the_second() -> None:
    admitted = admission(valid_before=after(10))
    assert not admitted.expired(after(9.999))
    assert admitted.expired(after(10))


async def test_a_hostile_user_name_is_shown_inert(stage: Stage) -> None:
    blob = await stage.issue()
    banner = (await stage.knock(blob, user="x\x1b]0;owned\x07\nroot")).banner
    assert banner
    assert all(char.isprintable() for char in banner.replace("\r\n", ""))
    assert banner.count("\n") == 2

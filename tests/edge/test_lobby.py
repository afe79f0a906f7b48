"""The lobby: an address that proves nothing cannot take every descriptor."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from gateway.edge import ssh
from gateway.edge.channel import Channel
from gateway.edge.door import Door
from gateway.edge.lobby import EACH, Lobby
from gateway.store import CertificateRecord

LIMIT_S = 20.0


def test_places_are_counted_by_address_and_in_all() -> None:
    lobby = Lobby(total=3, each=2)
    assert [lobby.enter("a") for _ in range(3)] == [True, True, False]
    assert [lobby.enter("b"), lobby.enter("c")] == [True, False]
    lobby.leave("a")
    assert lobby.enter("c")


class _NoCertificates:
    async def certificate(self, blob_sha256: str) -> CertificateRecord | None:
        return None


async def _nothing(channel: Channel) -> None:
    """Nobody gets as far as a channel."""


@pytest.mark.asyncio
async def test_one_silent_connection_too_many_is_closed_at_once() -> None:
    acceptor = await ssh.listen(
        "127.0.0.1",
        0,
        door=Door((), _NoCertificates(), lambda address, rule: None),
        serve=_nothing,
        host_key=asyncssh.generate_private_key("ssh-ed25519"),
        host_certificate=None,
        channels=set(),
    )
    port = acceptor.get_port()
    held: list[asyncio.StreamWriter] = []

    async def greeting(source: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        held.append(writer)
        try:
            return await reader.read(8)
        except ConnectionResetError:
            return b""

    async with asyncio.timeout(LIMIT_S):
        for _ in range(EACH):
            assert await greeting("127.0.0.1") == b"SSH-2.0-"
        assert await greeting("127.0.0.1") == b""
        assert await greeting("127.0.0.2") == b"SSH-2.0-"
        held[0].transport.abort()
        await asyncio.sleep(0.1)
        assert await greeting("127.0.0.1") == b"SSH-2.0-"
    for writer in held:
        writer.transport.abort()
    acceptor.close()
    await acceptor.wait_closed()

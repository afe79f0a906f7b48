"""The SSH server: who may enter, and the one kind of channel that there is.

Only certificates authenticate and only session channels open; every other
request type is refused one by one, with a reason. What a channel's user typed
goes to ``gateway.edge.sessions`` as bytes; what comes back is ``Masked``.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import asyncssh
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED

from gateway.edge.channel import Channel, Serve
from gateway.edge.door import Admission, Door
from gateway.edge.lobby import Lobby

MAX_CHANNELS = 10
"""Channels on one connection at a time; OpenSSH's own MaxSessions."""

LOGIN_TIMEOUT_S = 20

KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
)
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256")
SIGNATURES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Every list is set: asyncssh's defaults draw failures from ssh-audit (FACTS, SSH)."""


class Connection(asyncssh.SSHServer):
    """One SSH connection: the door's answer, then its channels."""

    def __init__(self, door: Door, serve: Serve, channels: set[Channel], lobby: Lobby) -> None:
        self._lobby = lobby
        self._waits_in_lobby = False
        self._address = "unknown"
        self._door = door
        self._serve = serve
        self._channels = channels
        self._mine: set[Channel] = set()
        self._conn: asyncssh.SSHServerConnection | None = None
        self._admission: Admission | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Put the door in front of asyncssh's own check of keys.

        asyncssh tells a client nothing when it refuses, and judges a certificate
        before its key is proved. The door proves first and then explains (docs/decisions/0004).
        """
        self._conn = conn
        peer = conn.get_extra_info("peername")
        self._address = str(peer[0]) if peer else "unknown"
        self._waits_in_lobby = self._lobby.enter(self._address)
        if not self._waits_in_lobby:
            conn.abort()
        setattr(conn, "validate_public_key", self._validate)  # noqa: B010  # a seam of ours, see the ADR

    async def _validate(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        assert self._conn is not None
        answer = await self._door.knock(
            username=username,
            key_data=key_data,
            signed=session_id(self._conn) + msg if msg else b"",
            signature=signature,
            address=self._address,
        )
        if answer.banner:
            self._conn.send_auth_banner(answer.banner)
        if answer.admission is not None:
            self._admission = answer.admission
        return answer.accepted

    def begin_auth(self, username: str) -> bool:
        """Everyone must authenticate."""
        return True

    def auth_completed(self) -> None:
        """Let in: others may wait in its place."""
        self._leave_lobby()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, perhaps before it was let in."""
        self._leave_lobby()

    def _leave_lobby(self) -> None:
        if self._waits_in_lobby:
            self._waits_in_lobby = False
            self._lobby.leave(self._address)

    def public_key_auth_supported(self) -> bool:
        """The only method there is; passwords and the like are off in ``listen``."""
        return True

    def session_requested(self) -> Channel:
        """A session channel; whether the certificate still holds is seen before its first line."""
        if self._admission is None:
            _refuse("This connection is not authenticated")
        if len(self._mine) >= MAX_CHANNELS:
            _refuse(f"At most {MAX_CHANNELS} sessions on one connection")

        def forget() -> None:
            self._mine.discard(channel)
            self._channels.discard(channel)

        channel = Channel(self._admission, self._serve, forget)
        self._mine.add(channel)
        self._channels.add(channel)
        return channel

    def connection_requested(self, *_: Any) -> NoReturn:
        """Port forwarding (ssh -L, -W, -D, -J)."""
        _refuse("Port forwarding is not available: Tollhouse carries commands only")

    def unix_connection_requested(self, *_: Any) -> NoReturn:
        """Unix socket forwarding."""
        _refuse("Socket forwarding is not available: Tollhouse carries commands only")

    def server_requested(self, *_: Any) -> bool:
        """Remote forwarding (ssh -R): the client prints its own reason."""
        return False

    def unix_server_requested(self, *_: Any) -> bool:
        """Remote forwarding of sockets."""
        return False

    def tun_requested(self, *_: Any) -> NoReturn:
        """Layer 3 tunnels."""
        _refuse("Tunnels are not available: Tollhouse carries commands only")

    def tap_requested(self, *_: Any) -> NoReturn:
        """Layer 2 tunnels."""
        _refuse("Tunnels are not available: Tollhouse carries commands only")


def session_id(conn: asyncssh.SSHServerConnection) -> bytes:
    """The exchange hash that user authentication signs, as an SSH string (RFC 4252, 7)."""
    raw: bytes = conn._session_id
    return len(raw).to_bytes(4, "big") + raw


def _refuse(reason: str) -> NoReturn:
    raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, reason)


async def listen(
    host: str,
    port: int,
    *,
    door: Door,
    serve: Serve,
    host_key: asyncssh.SSHKey,
    host_certificate: asyncssh.SSHCertificate | None,
    channels: set[Channel],
) -> asyncssh.SSHAcceptor:
    """Open the front door.

    Args:
        host, port: where; port 0 lets the system choose.
        door: decides on keys and certificates.
        serve: called in a task for each session channel.
        host_key: the gateway's own key.
        host_certificate: for that key, so that clients need no known fingerprint.
        channels: filled with the open channels, for draining and killing.

    Raises:
        OSError: the address cannot be had.
    """
    # asyncssh logs commands and environments at INFO; they may hold PHI.
    asyncssh.set_log_level(logging.CRITICAL)
    lobby = Lobby()
    return await asyncssh.create_server(
        lambda: Connection(door, serve, channels, lobby),
        host,
        port,
        server_host_keys=[(host_key, host_certificate) if host_certificate else host_key],
        server_version="Tollhouse",
        kex_algs=KEY_EXCHANGES,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        signature_algs=SIGNATURES,
        compression_algs=("none",),
        login_timeout=LOGIN_TIMEOUT_S,
        keepalive_interval=30,
        keepalive_count_max=3,
        encoding=None,
        line_editor=False,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_scp=False,
        allow_pty=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_auth=False,
        gss_kex=False,
        reuse_address=True,
    )

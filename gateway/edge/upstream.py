"""Connections to a PostgreSQL target, logged in with the gateway's own credential."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.credentials import PasswordSource, read_password
from gateway.errors import GuardBroken, TargetUnavailable
from gateway.guards.pgwire import codec
from gateway.guards.pgwire.codec import BackendKey, FrameReader, Run
from gateway.guards.pgwire.login import Login, LoginRequest
from gateway.guards.pgwire.notices import read_error
from gateway.guards.pgwire.rows import split_cells
from gateway.guards.pgwire.settings import session_sql

READ_BYTES = 65_536
"""One read; small, so that one session's bulk output does not hold up another's echo."""

_MAX_ANSWER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upstream:
    """How to reach one database with one login.

    Attributes:
        user, database: as the server knows them.
        password: where the password lies.
        host, port: of a TCP server; host is None for a Unix socket.
        socket_dir: folder of ``.s.PGSQL.<port>``, instead of a host.
        tls: ``verify-full``, or ``disable`` for a loopback address only; a Unix socket
            has no TLS.
        ca_file: PEM of the server's CA; None for the system's.
        search_path, statement_timeout_ms, read_only: see ``session_sql``.
        timeout_s: for connecting and logging in, together.
    """

    user: str
    database: str
    password: PasswordSource
    host: str | None = None
    port: int = 5432
    socket_dir: Path | None = None
    tls: Literal["verify-full", "disable"] = "verify-full"
    ca_file: Path | None = None
    search_path: Sequence[str] = ("pg_catalog", "public", "pg_temp")
    statement_timeout_ms: int = 300_000
    read_only: bool = True
    timeout_s: float = 10.0


@dataclass(slots=True)
class Connection:
    """A logged-in, idle connection; whoever has it closes it.

    Attributes:
        parameters: what the server told of itself.
        key: for ``cancel``; None if the server gave none.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parameters: Mapping[str, str]
    key: BackendKey | None

    async def close(self) -> None:
        """Say goodbye if the connection still stands, and close it."""
        if not self.writer.is_closing():
            self.writer.write(codec.terminate())
        await close_writer(self.writer)


async def connect(upstream: Upstream) -> Connection:
    """Open a connection, log in and pin the session's settings.

    Raises:
        TargetUnavailable: no answer in time, an untrusted certificate, or a refused
            login; the message holds no secret.
    """
    password = read_password(upstream.password, os.environ)
    try:
        async with asyncio.timeout(upstream.timeout_s):
            reader, writer = await _open(upstream)
            try:
                return await _log_in(upstream, password.reveal(), reader, writer)
            except BaseException:
                writer.transport.abort()
                raise
    except TimeoutError:
        raise _unreachable("does not answer in time") from None
    except ssl.SSLError as error:
        raise TargetUnavailable(
            f"the target's TLS certificate or protocol was not accepted ({error.reason})",
            "Check ca_file, and that the certificate names the configured host",
            rule="target.tls",
        ) from None
    except OSError as error:
        raise _unreachable(f"cannot be reached ({os.strerror(error.errno or 0)})") from None


async def cancel(upstream: Upstream, key: BackendKey) -> None:
    """Ask the server to stop what the backend of that key runs; returns once it was told.

    Raises:
        TargetUnavailable: the server could not be told.
    """
    try:
        async with asyncio.timeout(upstream.timeout_s):
            reader, writer = await _open(upstream)
            try:
                writer.write(codec.cancel_request(key))
                await reader.read()  # the server closes once the signal is sent
            finally:
                await close_writer(writer)
    except (OSError, TimeoutError):
        raise _unreachable("did not take a cancel request") from None


async def query(upstream: Upstream, sql: str) -> list[tuple[str | None, ...]]:
    """Run one statement of the gateway's own on a connection of its own.

    Raises:
        TargetUnavailable: no connection, the server refused the statement, or its
            answer is over 64 MiB.
    """
    connection = await connect(upstream)
    try:
        async with asyncio.timeout(upstream.timeout_s):
            return await ask(connection, sql)
    except (OSError, TimeoutError, GuardBroken):
        raise _unreachable("did not answer the gateway's own query") from None
    finally:
        await connection.close()


async def close_writer(writer: asyncio.StreamWriter) -> None:
    """Close and wait, whatever state the peer left it in."""
    writer.close()
    try:
        async with asyncio.timeout(2):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


async def _open(upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if upstream.socket_dir is not None:
        path = upstream.socket_dir / f".s.PGSQL.{upstream.port}"
        return await asyncio.open_unix_connection(str(path), limit=READ_BYTES)
    if upstream.host is None:
        raise _unreachable("has neither host nor socket_dir in the configuration")
    raw = await _connect_tcp(upstream.host, upstream.port)
    try:
        if upstream.tls == "disable":
            if not ipaddress.ip_address(raw.getpeername()[0]).is_loopback:
                raise TargetUnavailable(
                    "the target would be reached in the clear over a network",
                    'Use tls = "verify-full"',
                    rule="target.tls",
                )
            return await asyncio.open_connection(sock=raw, limit=READ_BYTES)
        await _agree_on_tls(raw)
        context = ssl.create_default_context(cafile=upstream.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return await asyncio.open_connection(
            sock=raw, ssl=context, server_hostname=upstream.host, limit=READ_BYTES
        )
    except BaseException:
        raw.close()
        raise


async def _connect_tcp(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    problem: OSError = OSError(0, "")
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(raw, address)
            return raw
        except OSError as error:
            raw.close()
            problem = error
        except BaseException:
            raw.close()
            raise
    raise problem


async def _agree_on_tls(raw: socket.socket) -> None:
    """Ask for TLS on the bare socket.

    One byte is read and no more: what a man in the middle sends behind it stays for
    the TLS handshake to choke on (CVE-2021-23222).
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(raw, codec.ssl_request())
    if await loop.sock_recv(raw, 1) != b"S":
        raise TargetUnavailable(
            "the target does not offer TLS",
            "Set ssl = on at the server",
            rule="target.tls",
        )


async def _log_in(
    upstream: Upstream,
    password: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Connection:
    login = Login(
        LoginRequest(
            user=upstream.user,
            database=upstream.database,
            password=password,
            settings_sql=session_sql(
                upstream.search_path,
                statement_timeout_ms=upstream.statement_timeout_ms,
                read_only=upstream.read_only,
            ),
            channel_binding=_server_end_point(writer),
        )
    )
    writer.write(login.start())
    while not login.done:
        data = await reader.read(READ_BYTES)
        if not data:
            raise _unreachable("closed the connection during the login")
        # SCRAM's key stretching is slow on purpose: not on the loop.
        writer.write(await asyncio.to_thread(login.receive, data))
        await writer.drain()
    return Connection(reader, writer, login.parameters, login.key)


def _server_end_point(writer: asyncio.StreamWriter) -> bytes | None:
    """RFC 5929's tls-server-end-point: the certificate under its own signature's hash."""
    tls = writer.get_extra_info("ssl_object")
    der = None if tls is None else tls.getpeercert(binary_form=True)
    if der is None:
        return None
    algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    if algorithm is None:
        return None  # Ed25519: RFC 5929 defines no binding for it
    weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    digest = hashes.Hash(hashes.SHA256() if weak else algorithm)
    digest.update(der)
    return digest.finalize()


async def ask(connection: Connection, sql: str) -> list[tuple[str | None, ...]]:
    """Run one statement of the gateway's own on an idle connection.

    Raises:
        TargetUnavailable: the server refused it, or its answer is over 64 MiB.
        GuardBroken: the answer is not the protocol's.
        OSError: the connection broke.
    """
    connection.writer.write(codec.query(sql.encode()))
    frames = FrameReader(_MAX_ANSWER_BYTES)
    rows: list[tuple[str | None, ...]] = []
    received = 0
    while True:
        data = await connection.reader.read(READ_BYTES)
        received += len(data)
        if not data or received > _MAX_ANSWER_BYTES:
            raise _unreachable("gave no whole answer to the gateway's own query")
        frames.feed(data)
        while (message := frames.take()) is not None:
            if isinstance(message, Run):
                rows += _texts(message)
            elif message.letter == "E":
                error = read_error(message.body)
                raise TargetUnavailable(
                    "the target refused the gateway's own query "
                    f"(SQLSTATE {error.sqlstate} {error.condition})",
                    "See the server's log; the login may lack a right",
                    rule="target.query",
                )
            elif message.letter == "Z":
                return rows


def _texts(run: Run) -> list[tuple[str | None, ...]]:
    ends = (*run.starts[1:], len(run.block))
    return [
        tuple(
            None if cell is None else cell.decode("utf-8", "replace")
            for cell in split_cells(run.block[start + 5 : end])
        )
        for start, end in zip(run.starts, ends, strict=True)
    ]


def _unreachable(what: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"the target {what}",
        "Check host, port and network, and that the server runs",
        rule="target.unreachable",
    )

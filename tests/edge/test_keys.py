"""The host certificate, judged by a stock ssh through our known_hosts line."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest

from gateway.edge.exchange import known_hosts_line
from gateway.edge.keys import HOST_CERTIFICATE_TTL, sign_host

CA = asyncssh.generate_private_key("ssh-ed25519")
OTHER_CA = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


async def ssh_says(folder: Path, *, signer: asyncssh.SSHKey, name: str, made: datetime) -> str:
    """What ssh prints when it meets a server with such a certificate; nobody can log in."""
    certificate = sign_host(signer, HOST_KEY, (name,), 7, made)
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[(HOST_KEY, certificate)], password_auth=False
    )
    port = server.get_port()
    line = CA.export_public_key("openssh").decode().strip()
    known = folder / "known_hosts"
    known.write_text(known_hosts_line(line, ("127.0.0.1",), port))
    process = await asyncio.create_subprocess_exec(
        "ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=none",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-p", str(port), "x@127.0.0.1",
        stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    server.close()
    await server.wait_closed()
    return err.decode()


async def test_stock_ssh_knows_the_gateway(tmp_path: Path) -> None:
    told = await ssh_says(tmp_path, signer=CA, name="127.0.0.1", made=datetime.now(UTC))
    assert "Permission denied" in told
    assert "verification failed" not in told


@pytest.mark.parametrize(
    ("signer", "name", "age"),
    [
        (OTHER_CA, "127.0.0.1", timedelta(0)),
        (CA, "elsewhere.example.org", timedelta(0)),
        (CA, "127.0.0.1", HOST_CERTIFICATE_TTL + timedelta(hours=1)),
        (CA, "127.0.0.1", timedelta(hours=-1)),
    ],
)
async def test_stock_ssh_refuses_an_impostor(
    tmp_path: Path, signer: asyncssh.SSHKey, name: str, age: timedelta
) -> None:
    told = await ssh_says(tmp_path, signer=signer, name=name, made=datetime.now(UTC) - age)
    assert "Host key verification failed" in told

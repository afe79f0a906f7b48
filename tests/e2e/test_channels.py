"""Channels and requests of every other kind: each refused, the session beside them served."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from asyncssh.channel import SSHTCPChannel
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
)
from asyncssh.packet import Boolean, String, UInt32

from tests.e2e.processes import WAIT_S, begin, until
from tests.e2e.scene import Scene
from tests.servers import MAJORS

ANY = f"db{MAJORS[-1]}"
FORWARDING = "Port forwarding is not available: Tollhouse carries commands only"


def test_w_is_refused(gate: Scene) -> None:
    done = gate.ssh(f"{ANY}@etl", options=["-W", "localhost:22"])
    assert done.returncode == 255
    assert f"administratively prohibited: {FORWARDING}" in done.stderr.decode()


@pytest.mark.parametrize("to", ["localhost:22", "/run/no.sock"])
def test_local_forwarding_leads_nowhere(gate: Scene, tmp_path: Path, to: str) -> None:
    path = tmp_path / "l"
    client = _forwarding(gate, "-L", f"{path}:{to}")
    try:
        until("ssh to listen", path.exists)
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(WAIT_S)
            made.connect(str(path))
            assert _rest(made) == b""
    finally:
        _end_refused(client)


def test_dynamic_forwarding_leads_nowhere(gate: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    client = _forwarding(gate, "-D", f"127.0.0.1:{port}")
    found: list[socket.socket] = []

    def listens() -> bool:
        assert client.poll() is None
        try:
            found.append(socket.create_connection(("127.0.0.1", port), timeout=WAIT_S))
        except ConnectionRefusedError:
            return False
        return True

    try:
        until("ssh to listen", listens)
        with found[0] as made:
            made.sendall(b"\5\1\0")
            assert made.recv(2) == b"\5\0"
            made.sendall(b"\5\1\0\1\x7f\0\0\1\0\x16")
            # ssh itself may say yes before it has asked the gateway: ten bytes, then the end.
            assert _rest(made) in (b"", b"\5\0\0\1\0\0\0\0\0\0")
    finally:
        _end_refused(client)


def _forwarding(gate: Scene, *arguments: str) -> subprocess.Popen[bytes]:
    gate.ssh("gateway@etl", "whoami")
    options = ["-N", "-o", "ExitOnForwardFailure=yes", *arguments]
    return begin(gate, f"{ANY}@etl", options=options)


def _end_refused(client: subprocess.Popen[bytes]) -> None:
    # Not terminate(): stock ssh may sleep on over a SIGTERM that comes as it falls asleep.
    client.kill()
    _, told = client.communicate(timeout=WAIT_S)
    assert "administratively prohibited" in told.decode()
    assert "forwarding is not available: Tollhouse carries commands only" in told.decode()


def _rest(made: socket.socket) -> bytes:
    """What comes until the other end closes."""
    found = b""
    try:
        while data := made.recv(1024):
            found += data
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize("what", ["0:localhost:22", "/tmp/tollhouse-r.sock:localhost:22"])
def test_remote_forwarding_is_refused(gate: Scene, what: str) -> None:
    options = ["-R", what, "-o", "ExitOnForwardFailure=yes"]
    done = gate.ssh(f"{ANY}@etl", "select 1", options=options)
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"remote port forwarding failed for listen p" in done.stderr
    assert not Path("/tmp/tollhouse-r.sock").exists()


def test_agent_forwarding_is_refused_with_a_line(gate: Scene, tmp_path: Path) -> None:
    gate.ssh("gateway@etl", "whoami")
    path = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        until("an agent", path.exists)
        command = gate.ssh_command(f"{ANY}@etl", "select 1", options=["-A"])
        command[command.index("IdentityAgent=none")] = f"IdentityAgent={path}"
        done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)
        as_json = [*command[:-2], "-o", "SetEnv=TOLLHOUSE_JSON=1", *command[-2:]]
        told = subprocess.run(as_json, capture_output=True, check=False, timeout=WAIT_S)
    finally:
        agent.terminate()
        agent.wait(WAIT_S)
    assert done.returncode == 0
    assert b"(1 row)" in done.stdout
    assert done.stderr.startswith(b"tollhouse: agent forwarding is refused: ")
    assert told.stderr.startswith(b'{"type": "notice", "text": "agent forwarding is refused: ')


def test_x11_is_refused_with_a_line(gate: Scene) -> None:
    gate.ssh("gateway@etl", "whoami")
    done = subprocess.run(
        gate.ssh_command(f"{ANY}@etl", "select 1", options=["-X"]),
        capture_output=True,
        check=False,
        timeout=WAIT_S,
        env={**os.environ, "DISPLAY": "localhost:99.0"},
    )
    assert done.returncode == 0
    assert b"X11 forwarding request failed on channel 0" in done.stderr
    assert b"tollhouse: X11 forwarding is refused: " in done.stderr


@asynccontextmanager
async def _connected(
    gate: Scene, client: type[asyncssh.SSHClient] = asyncssh.SSHClient
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A client that can say what stock ssh would not."""
    place = gate.folder / "logins" / "etl"
    async with asyncssh.connect(
        "localhost",
        gate.ssh_port,
        username=ANY,
        config=None,
        agent_path=None,
        known_hosts=str(place / "known_hosts"),
        client_keys=[(str(place / "id_ed25519"), str(place / "id_ed25519-cert.pub"))],
        client_factory=client,
    ) as made:
        yield made


OTHER_CHANNELS: dict[str, tuple[bytes, ...]] = {
    "direct-tcpip": (String("localhost"), UInt32(22), String("127.0.0.1"), UInt32(1)),
    "direct-streamlocal@openssh.com": (String("/run/x.sock"), String(""), UInt32(0)),
    "tun@openssh.com": (UInt32(1), UInt32(0)),
    "x11": (String("127.0.0.1"), UInt32(6000)),
    "forwarded-tcpip": (String("localhost"), UInt32(22), String("127.0.0.1"), UInt32(1)),
    "forwarded-streamlocal@openssh.com": (String("/run/x.sock"), String("")),
    "auth-agent@openssh.com": (),
    "bogus@example.org": (),
}


def _channel(made: asyncssh.SSHClientConnection) -> SSHTCPChannel[bytes]:
    return SSHTCPChannel(made, asyncio.get_running_loop(), None, "strict", 1 << 20, 1 << 15)


@pytest.mark.parametrize("kind", OTHER_CHANNELS)
async def test_other_channels_do_not_open(gate: Scene, kind: str) -> None:
    gate.ssh("gateway@etl", "whoami")
    async with _connected(gate) as made:
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            await _channel(made)._open(kind.encode(), *OTHER_CHANNELS[kind])
        if kind.startswith(("direct", "tun")):
            assert refused.value.code == OPEN_ADMINISTRATIVELY_PROHIBITED
            assert "Tollhouse carries commands only" in refused.value.reason
        # The connection goes on, and the kind that there is opens.
        done = await made.run("select 'served'")
        assert done.exit_status == 0
        assert "served" in str(done.stdout)


async def test_a_second_request_on_one_channel_is_refused(gate: Scene) -> None:
    gate.ssh("gateway@etl", "whoami")
    async with _connected(gate) as made:
        process = await made.create_process("select pg_sleep(1), 'first'")
        for request in ("exec", "shell", "subsystem"):
            argument = () if request == "shell" else (String("select 'second'"),)
            assert not await process.channel._make_request(request.encode(), *argument)
        done = await process.wait()
        assert done.exit_status == 0
        assert "first" in str(done.stdout)
        assert "second" not in str(done.stdout)


class _Impatient(asyncssh.SSHClient):
    """Asks for a session and a listener before it has shown any papers."""

    sent = False

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._conn = conn

    def public_key_auth_requested(self) -> None:
        if not _Impatient.sent:
            _Impatient.sent = True
            self._conn.send_packet(
                MSG_CHANNEL_OPEN, String("session"), UInt32(0), UInt32(1 << 20), UInt32(1 << 15)
            )
            self._conn.send_packet(
                MSG_GLOBAL_REQUEST, String("tcpip-forward"), Boolean(True), String(""), UInt32(0)
            )


async def test_requests_before_authentication_end_the_connection(gate: Scene) -> None:
    gate.ssh("gateway@etl", "whoami")
    before = gate.casts()
    _Impatient.sent = False
    with pytest.raises((asyncssh.Error, OSError)):
        async with asyncssh.connect(
            "localhost",
            gate.ssh_port,
            username=ANY,
            config=None,
            agent_path=None,
            known_hosts=str(gate.folder / "logins" / "etl" / "known_hosts"),
            client_keys=None,
            client_factory=_Impatient,
        ):
            pass
    assert _Impatient.sent
    assert gate.casts() == before
    assert gate.ssh(f"{ANY}@etl", "select 1").returncode == 0


@pytest.mark.parametrize("method", ["password", "keyboard-interactive", "hostbased", "none"])
def test_no_other_way_to_log_in(gate: Scene, method: str) -> None:
    gate.ssh("gateway@etl", "whoami")
    options = ["-o", f"PreferredAuthentications={method}", "-v"]
    done = gate.ssh(f"{ANY}@etl", "select 1", options=options)
    assert done.returncode == 255
    assert re.findall(r"Authentications that can continue: (\S+)", done.stderr.decode()) == [
        "publickey"
    ]

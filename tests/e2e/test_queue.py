"""The approver's queue from afar: stock ssh, a real gateway, real held commands."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.errors import BadCommand
from tests.e2e.scene import Scene
from tests.servers import MAJORS
from tui.app import Queue
from tui.far import FarTickets
from tui.tickets import Refused, TicketView, Unreachable

ANY = f"db{MAJORS[-1]}"


@asynccontextmanager
async def far(gate: Scene, identity: str, folder: Path) -> AsyncIterator[FarTickets]:
    gate.log_in(identity)
    place = gate.folder / "logins" / identity
    config = folder / f"ssh_config.{identity}"
    config.write_text(
        f"Host gate\n HostName localhost\n Port {gate.ssh_port}\n"
        f' IdentityFile "{place / "id_ed25519"}"\n'
        f' CertificateFile "{place / "id_ed25519-cert.pub"}"\n'
        f' UserKnownHostsFile "{place / "known_hosts"}"\n'
        " IdentitiesOnly yes\n IdentityAgent none\n StrictHostKeyChecking yes\n"
    )
    tickets = FarTickets("gate", config)
    try:
        yield tickets
    finally:
        await tickets.close()


def hold(gate: Scene, command: str) -> None:
    held = gate.ssh(f"{ANY}@etl", command)
    assert held.returncode == 75, held.stderr.decode()


async def find(tickets: FarTickets, command: str, *, ended: bool = False) -> TicketView | None:
    views = await tickets.listed(ended=ended)
    return next((view for view in views if view.command == command), None)


async def test_held_approved_run_and_gone(gate: Scene, tmp_path: Path) -> None:
    command = "delete from claims where id = 300001\n  and status = 'é [@click=app.quit()]'"
    reason = """it's "checked" $(id) `id` \\ ; --json 'é'"""
    async with far(gate, "approver", tmp_path) as tickets:
        assert await find(tickets, command) is None
        await asyncio.to_thread(hold, gate, command)
        view = await find(tickets, command)
        assert view is not None
        assert (view.state, view.identity, view.target) == ("pending", "etl", ANY)
        told = await tickets.approve(view.id, reason)
        assert (told.state, told.digest, told.votes[0].reason) == ("granted", view.digest, reason)
        with pytest.raises(Refused) as late:
            await tickets.approve(view.id, "again")
        assert late.value.rule.startswith("ticket.")
        ran = await asyncio.to_thread(gate.ssh, f"{ANY}@etl", command)
        assert (ran.returncode, ran.stdout) == (0, b"DELETE 0\n")
        assert await find(tickets, command) is None
        spent = await find(tickets, command, ended=True)
        assert spent is not None
        assert spent.state == "spent"


async def test_denied(gate: Scene, tmp_path: Path) -> None:
    command = "delete from claims where id = 300002"
    await asyncio.to_thread(hold, gate, command)
    async with far(gate, "approver2", tmp_path) as tickets:
        view = await find(tickets, command)
        assert view is not None
        # A reason that is an option's name is still a reason.
        told = await tickets.deny(view.id, "--json")
        assert (told.state, told.votes[0].reason) == ("refused", "--json")
        with pytest.raises(Refused, match="cannot be sent"):
            await tickets.deny(view.id, "nul\0")
        with pytest.raises(Refused):
            await tickets.approve("T-999999", "x")


async def test_questions_share_one_connection_that_is_renewed(gate: Scene, tmp_path: Path) -> None:
    async with far(gate, "approver", tmp_path) as tickets:
        await tickets.listed(ended=False)
        master = tickets._master
        assert master is not None
        begin_s = time.monotonic()
        for _ in range(5):
            await tickets.listed(ended=False)
        assert tickets._master is master
        assert time.monotonic() - begin_s < 5
        assert (tickets._folder.stat().st_mode & 0o777) == 0o700
        master.kill()
        await master.wait()
        await tickets.listed(ended=False)
        assert tickets._master is not master
        folder = tickets._folder
    assert not folder.exists()
    assert tickets._master is None


async def test_no_gateway_and_no_login(gate: Scene, tmp_path: Path) -> None:
    async with far(gate, "approver", tmp_path) as tickets:
        config = tmp_path / "ssh_config.approver"
        good = config.read_text()
        config.write_text(good.replace(f"Port {gate.ssh_port}", "Port 1"))
        with pytest.raises(Unreachable, match="refused"):
            await tickets.listed(ended=False)
        config.write_text(good + " PubkeyAuthentication no\n")
        with pytest.raises(Unreachable, match="Permission denied"):
            await tickets.listed(ended=False)
        config.write_text(good)
        assert isinstance(await tickets.listed(ended=False), list)


@pytest.mark.parametrize("host", ["", "-oProxyCommand=id", "a\nb"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(BadCommand):
        FarTickets(host)


async def test_the_screen_over_ssh(gate: Scene, tmp_path: Path) -> None:
    """A command appears within a second of being held; a vote lets a waiting one go on."""
    command = "delete from claims where id = 300003"
    async with far(gate, "approver", tmp_path) as tickets:
        queue = Queue(tickets, "gate")
        async with queue.run_test(size=(80, 24)) as pilot:
            await pilot.pause(1.0)
            waiting = await asyncio.create_subprocess_exec(
                *gate.ssh_command(f"{ANY}@etl", command, options=["-o", "SendEnv=TOLLHOUSE_WAIT"]),
                env={**os.environ, "TOLLHOUSE_WAIT": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for _ in range(100):
                await pilot.pause(0.1)
                found = [view for view in queue.board.rows if view.command == command]
                if found:
                    break
            (view,) = found
            queue.board.choose(view.id)
            queue.paint()
            await pilot.press("a", "o", "k", "enter", "enter")
            out, _ = await asyncio.wait_for(waiting.communicate(), 30)
            assert (waiting.returncode, out) == (0, b"DELETE 0\n")
            await pilot.pause(1.5)
            assert queue.board.shown is not None
            assert (queue.board.shown.id, queue.board.shown.state) == (view.id, "spent")

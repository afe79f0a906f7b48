"""``Tickets`` from the approver's machine: stock ``ssh gateway@HOST … --json`` as a process.

One ssh of ours stays connected as the master, the questions go through it
(ssh_config(5), ControlPath), so that a poll a second costs no key exchange. Its
socket lies in a private folder; where it cannot be had, each question connects
for itself. ssh never asks anything on the terminal: keys come from the
configuration or the agent.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.core.display import show
from gateway.errors import BadCommand
from tui.framing import ANSWER_LIMIT_BYTES, read_refusal
from tui.tickets import Refused, TicketView, Unreachable, read_ticket, read_tickets

TIMEOUT_S: Final = 20.0
MASTER_TIMEOUT_S: Final = 10.0
_STDERR_LIMIT_BYTES: Final = 64 * 1024
_MESSAGE_LIMIT: Final = 200
# A certificate is renewed on disk while the old one still holds the connection.
_STALE: Final = frozenset({"certificate.expired", "certificate.revoked"})

_OPTIONS: Final = (
    *("-T", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"),
    # SendEnv, not SetEnv: it reaches a multiplexed session in every version of ssh.
    *("-o", "SendEnv=TOLLHOUSE_JSON", "-o", "ForwardAgent=no", "-o", "ForwardX11=no"),
)


class FarTickets:
    """The port over ssh.

    Args:
        host: as ssh takes it, a Host of the configuration for instance.
        ssh_config: file for ``ssh -F``; None for the user's own.
        timeout_s: longest wait for one answer.

    Raises:
        BadCommand: the host is empty or would be read as an option.
    """

    def __init__(
        self, host: str, ssh_config: Path | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        if not host or host.startswith("-") or not host.isprintable():
            raise BadCommand("this is not a host", "Name it as ssh does", "approvals.host")
        self._host = host
        self._file = [] if ssh_config is None else ["-F", str(ssh_config)]
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="tollhouse-"))
        self._master: asyncio.subprocess.Process | None = None

    async def listed(self, *, ended: bool) -> list[TicketView]:
        """See ``Tickets``."""
        return read_tickets(await self._ask("tickets", *(["--all"] if ended else [])))

    async def approve(self, ticket: str, reason: str) -> TicketView:
        """See ``Tickets``."""
        return read_ticket(await self._ask("approve", ticket, f"--reason={reason}"))

    async def deny(self, ticket: str, reason: str) -> TicketView:
        """See ``Tickets``."""
        return read_ticket(await self._ask("deny", ticket, f"--reason={reason}"))

    async def close(self) -> None:
        """End the connection and remove its socket."""
        async with self._turn:
            await self._end_master()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ask(self, *words: str) -> Mapping[str, Any]:
        async with self._turn:
            await self._keep_master()
            try:
                return await self._question(words)
            except Refused as error:
                if error.rule not in _STALE:
                    raise
            # Nothing was done, so it may be asked again, by a login of its own.
            await self._end_master()
            return await self._question(words)

    async def _question(self, words: tuple[str, ...]) -> Mapping[str, Any]:
        command = shlex.join([*words, "--json"])
        options = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._socket}"]
        try:
            process = await self._start([*options, "-l", "gateway", "--", self._host, command])
        except ValueError:
            raise Refused("the reason holds a character that cannot be sent") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                assert process.stdout is not None
                assert process.stderr is not None
                out, err = await asyncio.gather(
                    _read(process.stdout, ANSWER_LIMIT_BYTES),
                    _read(process.stderr, _STDERR_LIMIT_BYTES),
                )
                code = await process.wait()
        except TimeoutError:
            # The shared connection may be what hangs: the next question gets a new one.
            await self._end_master()
            raise Unreachable("the gateway does not answer") from None
        finally:
            await _end(process)
        if code == 0:
            return _fields(out)
        raise _failure(code, err)

    async def _keep_master(self) -> None:
        """Have a connection that the questions can share, where that is possible."""
        if self._master is not None and self._master.returncode is None:
            return
        await self._end_master()
        options = ["-M", "-N", "-o", "ControlPersist=no", "-o", f"ControlPath={self._socket}"]
        process = await self._start([*options, "-l", "gateway", "--", self._host], mute=True)
        self._master = process
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + MASTER_TIMEOUT_S
        while loop.time() < deadline_s and process.returncode is None:
            if self._socket.exists():
                return
            await asyncio.sleep(0.02)

    async def _end_master(self) -> None:
        master, self._master = self._master, None
        if master is not None:
            await _end(master)
        with suppress(OSError):
            self._socket.unlink()

    @property
    def _socket(self) -> Path:
        return self._folder / "s"

    async def _start(
        self, arguments: list[str], *, mute: bool = False
    ) -> asyncio.subprocess.Process:
        output = asyncio.subprocess.DEVNULL if mute else asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *("ssh", *self._file, *_OPTIONS, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "TOLLHOUSE_JSON": "1"},
                # Ctrl-C in the terminal is for the queue, not for its connection.
                start_new_session=True,
            )
        except OSError:
            raise Unreachable("ssh cannot be started", "Install OpenSSH's client") from None


async def _read(stream: asyncio.StreamReader, limit_bytes: int) -> bytes:
    """All of a stream; what is over the limit is read and dropped."""
    found = bytearray()
    while data := await stream.read(65_536):
        found += data[: limit_bytes - len(found)]
    return bytes(found)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave no process behind, whatever it does."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _fields(out: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(out)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Unreachable("the gateway did not answer with a JSON object", rule="queue.answer")
    return fields


def _failure(code: int, err: bytes) -> Refused | Unreachable:
    """What a failed ssh means: the gateway's refusal, or no gateway."""
    lines = err.decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(fields, dict) and fields.get("type") == "refusal":
            return read_refusal(fields)
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = show(last, limit=_MESSAGE_LIMIT) or f"ssh ended with {code}"
    return Unreachable(f"no answer from the gateway: {said}", "See the same with plain ssh")

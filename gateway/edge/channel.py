"""One session channel: what the client asked for, its input, and the masked way out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncssh

from gateway.core.mask import Masked
from gateway.edge.door import Admission

STDIN_HIGH_WATER_BYTES = 1 << 20

_FORWARDINGS = {
    "auth_agent_req_at_openssh_dot_com": "agent forwarding",
    "x11_req": "X11 forwarding",
}

Serve = Callable[["Channel"], Awaitable[None]]


class Channel(asyncssh.SSHServerSession[bytes]):
    """One session channel: its request, its input, and the masked way out.

    Attributes:
        admission: who is at the other end; checked anew when the channel opened.
        command: the exec string, bytes that are not UTF-8 by ``surrogateescape``; None
            for a shell request.
        subsystem: the name of a requested subsystem, or None.
        terminal: the client's TERM if it asked for a PTY, else None.
        window: columns and rows that the client claims, 0 for unknown.
        refused_requests: forwardings that the client asked for and did not get.
        gone: set when the client closed the channel or the connection was lost.
    """

    def __init__(self, admission: Admission, serve: Serve, on_close: Callable[[], None]) -> None:
        self.admission = admission
        self.command: str | None = None
        self.subsystem: str | None = None
        self.terminal: str | None = None
        self.window = (0, 0)
        self.refused_requests: list[str] = []
        self._on_input: Callable[[bytes], None] | None = None
        self._on_resize: Callable[[], None] | None = None
        self.gone = asyncio.Event()
        self._serve = serve
        self._on_close = on_close
        self._chan: asyncssh.SSHServerChannel[bytes] | None = None
        self._input = bytearray()
        self._arrived = asyncio.Event()
        self._input_limit_bytes = STDIN_HIGH_WATER_BYTES
        self._ignores_input = False
        self._eof = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._task: asyncio.Task[None] | None = None

    # What the client asked for

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Called by asyncssh once the channel is open."""
        self._chan = chan
        # asyncssh refuses these requests silently; the user should know why.
        for request, what in _FORWARDINGS.items():
            setattr(chan, f"_process_{request}_request", self._refuse_forwarding(what))
        # So it does with a command that is not UTF-8; the line's judge says why.
        setattr(chan, "_process_exec_request", _any_exec(chan))  # noqa: B010

    def _refuse_forwarding(self, what: str) -> Callable[[object], bool]:
        def refuse(_: object) -> bool:
            self.refused_requests.append(what)
            return False

        return refuse

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        """A terminal is granted; what may be done on it is decided later."""
        self.terminal = term_type
        self.window = (term_size[0], term_size[1])
        return True

    def exec_requested(self, command: str) -> bool:
        """One command."""
        self.command = command
        return True

    def shell_requested(self) -> bool:
        """A script on stdin, or a prompt where there is a terminal."""
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """Accepted only to be refused with a line that says why."""
        self.subsystem = subsystem
        return True

    def session_started(self) -> None:
        """The request stands: serve it in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._serve(self)
        finally:
            if self._chan is not None and not self.gone.is_set():
                self._chan.exit(70)

    @property
    def environment(self) -> Mapping[str, str]:
        """The client's variables (SetEnv), undecodable ones left out."""
        assert self._chan is not None
        return self._chan.get_environment()

    # Input

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Keep input until it is read; a client that floods is slowed down."""
        if self._ignores_input:
            return
        if self._on_input is not None:
            self._on_input(data)
            return
        self._input += data
        if len(self._input) > self._input_limit_bytes and self._chan is not None:
            self._chan.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        """The client sent all; the channel stays open for the answer."""
        self._eof = True
        self._arrived.set()
        return True

    async def read_all(self, limit_bytes: int) -> bytes | None:
        """All of stdin up to its end, or None if it is larger than the limit.

        Nothing if the client leaves before the end: half a script is another script.
        """
        self._input_limit_bytes = limit_bytes
        if self._chan is not None:
            self._chan.resume_reading()
        while not self._eof and not self.gone.is_set() and len(self._input) <= limit_bytes:
            self._arrived.clear()
            await self._arrived.wait()
        found = None if len(self._input) > limit_bytes else bytes(self._input)
        self.ignore_input()
        return found if self._eof or found is None else b""

    def take_keys(self, on_input: Callable[[bytes], None], on_resize: Callable[[], None]) -> None:
        """Hand what the client types to a terminal's session, and tell it of resizes."""
        self._on_input = on_input
        self._on_resize = on_resize
        early, self._input = bytes(self._input), bytearray()
        if early:
            on_input(early)

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """The client's window has another size."""
        self.window = (width, height)
        if self._on_resize is not None:
            self._on_resize()

    def signal_received(self, signal: str) -> None:
        """An interrupt that came as a signal is the key."""
        if signal == "INT" and self._on_input is not None:
            self._on_input(b"\x03")

    def ignore_input(self) -> None:
        """Drop what the client sends from here on: nothing will read it."""
        self._ignores_input = True
        self._input.clear()
        if self._chan is not None:
            self._chan.resume_reading()

    # Output

    async def send(self, data: Masked, *, stderr: bool = False) -> None:
        """Write to the client and wait while it is slow; nothing is sent to one that is gone."""
        if self.gone.is_set() or self._chan is None or not data.data:
            return
        payload = data.data
        if self.terminal is not None:
            payload = payload.replace(b"\n", b"\r\n")
        self._chan.write(payload, asyncssh.EXTENDED_DATA_STDERR if stderr else None)
        await self._may_write.wait()

    async def send_screen(self, data: Masked) -> None:
        """Write what a masked screen drew, as it is; waits while the client is slow."""
        if self.gone.is_set() or self._chan is None:
            return
        self._chan.write(data.data)
        await self._may_write.wait()

    def exit(self, code: int) -> None:
        """End the channel with an exit code; output before it still arrives."""
        if self._chan is not None and not self.gone.is_set():
            self._chan.exit(code)

    def pause_writing(self) -> None:
        """The client's window is full."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed, by whichever side."""
        self.gone.set()
        self._may_write.set()
        self._arrived.set()
        self._on_close()

    async def hang_up(self) -> None:
        """End the session from this side; returns once its record is closed."""
        self.gone.set()
        self._arrived.set()
        self._may_write.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._chan is not None:
            self._chan.abort()


def _any_exec(
    chan: asyncssh.SSHServerChannel[bytes],
) -> Callable[[asyncssh.packet.SSHPacket], bool]:
    """What takes an exec request whose command may be any bytes (RFC 4254, 6.5)."""

    def take(packet: asyncssh.packet.SSHPacket) -> bool:
        command = packet.get_string().decode("utf-8", "surrogateescape")
        packet.check_end()
        return bool(chan._start_session(command=command))

    return take

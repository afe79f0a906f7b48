"""People at terminals: stock ssh in a PTY of ours, or in a window of tmux.

A ``Terminal`` keeps every byte that the client's terminal got and shows it on a screen
of pyte's, as a reference; ``Window`` is the same in tmux, whose screen is not ours.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyte

from tests.e2e.scene import Scene

WAIT_S = 20.0
_READ_BYTES = 65_536


class Terminal:
    """Stock ssh on a PTY.

    Attributes:
        received: every byte that the client's terminal got.
        screen: what a reader sees, by another terminal than the gateway's.
    """

    def __init__(self, command: Sequence[str], cols: int, rows: int, term: str) -> None:
        self.received = b""
        self.screen = pyte.HistoryScreen(cols, rows, history=5_000)
        self._stream = pyte.ByteStream(self.screen)
        pid, fd = pty.fork()
        if pid == 0:
            os.execvpe(command[0], list(command), {**os.environ, "TERM": term})
        self.pid, self._fd = pid, fd
        self._code: int | None = None
        self._set_size(cols, rows)

    def _set_size(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def resize(self, cols: int, rows: int) -> None:
        """The window has another size."""
        self.screen.resize(rows, cols)
        self._set_size(cols, rows)

    def type(self, keys: str | bytes) -> None:
        """Send keys."""
        data = keys.encode() if isinstance(keys, str) else keys
        while data:
            self.read(0)
            data = data[os.write(self._fd, data[:1024]) :]

    def read(self, timeout_s: float) -> bool:
        """Take what is there, waiting for the first byte; False if nothing came."""
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return False
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:
            return False
        self.received += data
        self._stream.feed(data)
        return bool(data)

    def until(self, what: str, shown: Callable[[str], bool], timeout_s: float = WAIT_S) -> str:
        """Wait until the screen is as wanted; returns its text."""
        deadline_s = time.monotonic() + timeout_s
        while not shown(text := self.text()):
            assert time.monotonic() < deadline_s, f"{what} did not show:\n{text}"
            if not self.read(0.2) and self.ended():
                self.read(0.2)
                assert shown(self.text()), f"ssh ended before {what}:\n{self.text()}"
        return text

    def wait_for(self, wanted: str, timeout_s: float = WAIT_S) -> str:
        """Wait until a text shows anywhere on the screen."""
        return self.until(repr(wanted), lambda text: wanted in text, timeout_s)

    def wait_for_prompt(self, mark: str = "", timeout_s: float = WAIT_S) -> str:
        """Wait until the last line is a prompt on which nothing is typed."""
        wanted = re.compile(rf"db\d+={re.escape(mark)}>")
        return self.until(
            "the prompt", lambda text: bool(wanted.fullmatch(_last_line(text))), timeout_s
        )

    def run(self, statement: str, mark: str = "", timeout_s: float = WAIT_S) -> str:
        """Type a statement and Enter; returns the screen once the prompt is back.

        Args:
            statement: without a line end.
            mark: of the transaction, in the prompt that comes after it.
            timeout_s: how long it may take.
        """
        before = len(self.received)
        self.type(statement + "\r")
        # The prompt that was there must have gone: the echo of Enter ends its line.
        self.until("the echo", lambda _: b"\n" in self.received[before:], timeout_s)
        return self.wait_for_prompt(mark, timeout_s)

    def text(self) -> str:
        """The visible rows, blanks at their ends cut."""
        return "\n".join(row.rstrip() for row in self.screen.display).rstrip()

    def history(self) -> str:
        """All rows, also those that scrolled away."""
        gone = [
            "".join(row[x].data for x in range(self.screen.columns)).rstrip()
            for row in self.screen.history.top
        ]
        return "\n".join([*gone, self.text()])

    def ended(self) -> bool:
        """Whether ssh has exited."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def code(self, timeout_s: float = WAIT_S) -> int:
        """Wait for ssh's end; its exit code."""
        deadline_s = time.monotonic() + timeout_s
        while not self.ended():
            assert time.monotonic() < deadline_s, f"ssh did not end:\n{self.text()}"
            self.read(0.05)
        while self.read(0.05):
            pass
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """Kill ssh, as a crash of the client would; again is no error."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """End ssh if it still runs, and give the PTY back."""
        self.kill()
        os.close(self._fd)


def _last_line(text: str) -> str:
    return text.rpartition("\n")[2].rstrip()


def _command(scene: Scene, destination: str, env: dict[str, str] | None) -> list[str]:
    identity = destination.partition("@")[2]
    if not (scene.folder / "logins" / identity / "id_ed25519-cert.pub").exists():
        scene.log_in(identity)
    pairs = " ".join(f'"{name}={value}"' for name, value in (env or {}).items())
    sent = ["-o", f"SetEnv={pairs}"] if pairs else []
    # No escape character: what a test types is for the gateway alone.
    return scene.ssh_command(destination, options=["-tt", "-e", "none", *sent])


@contextmanager
def terminal(
    scene: Scene,
    destination: str,
    *,
    cols: int = 80,
    rows: int = 24,
    term: str = "xterm-256color",
    env: dict[str, str] | None = None,
) -> Iterator[Terminal]:
    """Stock ssh at a terminal, as ``target@identity``; killed at the end if it still runs."""
    made = Terminal(_command(scene, destination, env), cols, rows, term)
    try:
        yield made
    finally:
        made.close()
        scene.client_bytes.append(made.received)


_TMUX_SETTINGS = """
set -g status off
set -g default-terminal tmux-256color
set -g history-limit 20000
set -s escape-time 0
"""


class Window:
    """Stock ssh in a tmux of its own; made by ``window``.

    Attributes:
        cols: of the window now.
    """

    def __init__(self, socket: Path, cols: int) -> None:
        self.cols = cols
        self._socket = socket

    def tmux(self, *arguments: str) -> str:
        """One command of tmux's; its output."""
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def type(self, keys: str) -> None:
        """Send keys, as bytes: of ``send-keys``, tmux would take a trailing semicolon."""
        self.tmux("send-keys", "-H", *(f"{byte:02x}" for byte in keys.encode()))

    def paste(self, text: str) -> None:
        """Paste as a terminal does, in brackets where the program asked for them."""
        buffer = self._socket.with_name("paste")
        buffer.write_text(text)
        self.tmux("load-buffer", str(buffer))
        self.tmux("paste-buffer", "-p")

    def resize(self, cols: int, rows: int) -> None:
        """The window has another size."""
        self.tmux("resize-window", "-x", str(cols), "-y", str(rows))
        self.cols = cols

    def text(self) -> str:
        """The visible rows."""
        return self.tmux("capture-pane", "-p").rstrip()

    def history(self) -> str:
        """All rows, also those that scrolled away."""
        return self.tmux("capture-pane", "-p", "-S", "-").rstrip()

    def until(self, what: str, shown: Callable[[str], bool], timeout_s: float = WAIT_S) -> str:
        """Wait until the screen is as wanted; returns its text."""
        deadline_s = time.monotonic() + timeout_s
        while not shown(text := self.text()):
            assert time.monotonic() < deadline_s, f"{what} did not show:\n{text}"
            time.sleep(0.03)
        return text

    def wait_for(self, wanted: str) -> str:
        """Wait until a text shows anywhere on the screen."""
        return self.until(repr(wanted), lambda text: wanted in text)

    def wait_for_prompt(self, mark: str = "", after: str = "") -> str:
        """Wait until the last line is a prompt with nothing typed, below a text."""
        wanted = re.compile(rf"db\d+={re.escape(mark)}>")
        return self.until(
            f"the prompt after {after!r}",
            lambda text: bool(wanted.fullmatch(_last_line(text))) and after in text,
        )

    def code(self) -> int:
        """Wait for ssh's end; its exit code, which the window's shell prints."""
        text = self.until("the exit code", lambda text: "exit code " in _last_line(text))
        return int(_last_line(text).rpartition(" ")[2])


@contextmanager
def window(scene: Scene, destination: str, cols: int, rows: int) -> Iterator[Window]:
    """A tmux of its own with ssh in it, as ``target@identity``; ended with all that is in it."""
    # tmux does not always tell the code of what ended in it; a shell does.
    command = f"{shlex.join(_command(scene, destination, None))}; echo exit code $?; exec cat"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tmux-")))
        (folder / "conf").write_text(_TMUX_SETTINGS)
        made = Window(folder / "socket", cols)
        subprocess.run(
            [
                *("tmux", "-f", str(folder / "conf"), "-S", str(folder / "socket")),
                *("new-session", "-d", "-x", str(cols), "-y", str(rows), command),
            ],
            check=True,
            timeout=30,
            env={**os.environ, "LANG": "C.UTF-8"},
        )
        stack.callback(made.tmux, "kill-server")
        yield made


HAS_TMUX = shutil.which("tmux") is not None

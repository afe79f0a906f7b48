"""Several sessions on one SSH connection, as a client with ControlMaster has them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.scene import Scene


@dataclass(frozen=True)
class Connection:
    """One open connection of stock ssh; every call is a channel on it.

    Attributes:
        scene: whose gateway it goes to.
        destination: ``target@identity``.
        control: the path of ssh's control socket.
    """

    scene: Scene
    destination: str
    control: Path

    @property
    def options(self) -> list[str]:
        """What makes ssh use the connection; ``-T`` because nobody sits at a terminal."""
        shared = ["-o", f"ControlPath={self.control}", "-o", "SendEnv=TOLLHOUSE_*"]
        return ["-T", "-o", "ControlMaster=no", *shared]

    def run(
        self, *command: str, script: str | bytes = b"", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """One channel: a command, or a script on stdin where there is none.

        The variables go by SendEnv, which the first client has to allow: of SetEnv,
        OpenSSH sends the first client's on every channel of a shared connection.
        """
        done = subprocess.run(
            self.scene.ssh_command(self.destination, *command, options=self.options),
            input=script.encode() if isinstance(script, str) else script,
            capture_output=True,
            check=False,
            env={**os.environ, **(env or {})},
            timeout=60,
        )
        self.scene.client_bytes += [done.stdout, done.stderr]
        return done

    def is_open(self) -> bool:
        """Whether the connection that was made first still stands."""
        command = self.scene.ssh_command(self.destination, options=[*self.options, "-O", "check"])
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def connection(scene: Scene, destination: str) -> Iterator[Connection]:
    """Open a connection and close it at the end.

    Args:
        scene: whose gateway.
        destination: ``target@identity``, logged in already.
    """
    with tempfile.TemporaryDirectory(prefix="mux-") as folder:
        made = Connection(scene, destination, Path(folder) / "control")
        # Of an option that is given twice, ssh takes the first.
        master = ["-o", "ControlMaster=yes", "-o", "ControlPersist=yes", *made.options]
        first = scene.ssh(destination, "select 1", options=master)
        assert first.returncode == 0, first.stderr.decode()
        try:
            yield made
        finally:
            command = scene.ssh_command(destination, options=[*made.options, "-O", "exit"])
            subprocess.run(command, capture_output=True, check=False)

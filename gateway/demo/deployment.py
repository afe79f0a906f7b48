"""The demo's folder: a deployment as ``tollhouse init`` makes it, filled in for the demo."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from gateway.edge.keygen import make_keys
from gateway.files import write_new

IDENTITIES: Mapping[str, Mapping[str, Any]] = {
    "etl": {"sub": "etl", "run_url": "https://ci.example.org/runs/4711"},
    "agent": {"sub": "agent", "agent": "claims-assistant", "task": "monthly summary"},
    "analyst": {"sub": "analyst"},
    "approver": {"sub": "approver", "group": "phi-approvers"},
    "approver2": {"sub": "approver2", "group": "phi-approvers"},
    "owner": {"sub": "owner", "group": "phi-approvers"},
    "auditor": {"sub": "auditor"},
}
"""What the issuer's tokens say of each demo identity."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where everything of one demo lies.

    Attributes:
        folder: all of it is below.
        ssh_port, https_port, issuer_port: on loopback, free when they were chosen.
    """

    folder: Path
    ssh_port: int
    https_port: int
    issuer_port: int

    @property
    def config(self) -> Path:
        """The gateway.toml."""
        return self.folder / "gateway.toml"

    @property
    def state(self) -> Path:
        """The gateway's state folder, which ``verify`` takes."""
        return self.folder / "state"

    @property
    def ca_file(self) -> Path:
        """By which clients trust the gateway's HTTPS."""
        return self.folder / "keys" / "tls.pem"

    @property
    def ssh_config(self) -> Path:
        """With a Host for each identity."""
        return self.folder / "ssh_config"

    @property
    def url(self) -> str:
        """Of the token exchange; also the tokens' audience."""
        return f"https://localhost:{self.https_port}"

    @property
    def issuer_url(self) -> str:
        """Of the demo's issuer."""
        return f"http://127.0.0.1:{self.issuer_port}"

    def login_dir(self, identity: str) -> Path:
        """Where an identity's key and certificate lie."""
        return self.folder / "logins" / identity

    def claims_file(self, identity: str) -> Path:
        """An identity's claims, for ``explain --claims``."""
        return self.folder / "claims" / f"{identity}.json"

    def password(self, login: str) -> str:
        """The password of ``reader`` or ``writer`` on the demo's database."""
        return (self.folder / "keys" / f"{login}_password").read_text().strip()


def make(folder: Path, psql: Path) -> Deployment:
    """Make a fresh deployment in an existing, empty folder.

    Args:
        folder: gets keys, policies, claims and gateway.toml.
        psql: the client that children run.
    """
    chosen = Deployment(folder, *_free_ports(3))
    for name in ("keys", "state", "policies", "claims", "logins"):
        (folder / name).mkdir(mode=0o700)
    make_keys(folder / "keys", chosen.state, host="localhost", origin="localhost/tollhouse-demo")
    for login in ("reader", "writer"):
        password = secrets.token_urlsafe(24).encode() + b"\n"
        write_new(folder / "keys" / f"{login}_password", password)
    sources = [files("gateway").joinpath("policies", "everyone.cedar")]
    sources += files("gateway.demo").joinpath("policies").iterdir()
    for source in sources:
        write_new(folder / "policies" / source.name, source.read_bytes(), 0o644)
    for identity, claims in IDENTITIES.items():
        text = json.dumps({"iss": chosen.issuer_url, "aud": chosen.url, **claims}, indent=1)
        write_new(chosen.claims_file(identity), text.encode() + b"\n", 0o644)
    template = Template(files("gateway.demo").joinpath("gateway.toml").read_text())
    text = template.substitute(
        ssh_port=chosen.ssh_port,
        https_port=chosen.https_port,
        issuer_url=chosen.issuer_url,
        psql=psql,
    )
    write_new(chosen.config, text.encode(), 0o644)
    write_new(chosen.ssh_config, _ssh_config(chosen).encode(), 0o644)
    return chosen


def default_folder() -> str | None:
    """Where temporary folders go: reachable by an unprivileged server also when run by root."""
    return "/var/tmp" if os.geteuid() == 0 else None  # noqa: S108  # mkdtemp makes a private name


def _ssh_config(deployment: Deployment) -> str:
    blocks = ["# Written by `tollhouse demo`: ssh -F THIS_FILE claims-db@etl 'select 1'"]
    for identity in IDENTITIES:
        place = deployment.login_dir(identity)
        blocks.append(
            f"Host {identity}\n"
            f"    HostName localhost\n"
            f"    Port {deployment.ssh_port}\n"
            f"    IdentityFile {place / 'id_ed25519'}\n"
            f"    CertificateFile {place / 'id_ed25519-cert.pub'}\n"
            f"    UserKnownHostsFile {place / 'known_hosts'}\n"
            f"    GlobalKnownHostsFile /dev/null\n"
            f"    StrictHostKeyChecking yes\n"
            f"    IdentitiesOnly yes\n"
            f"    IdentityAgent none\n"
            f"    SendEnv TOLLHOUSE_*"
        )
    return "\n\n".join(blocks) + "\n"


def _free_ports(count: int) -> list[int]:
    """Free ports on loopback; held together, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()

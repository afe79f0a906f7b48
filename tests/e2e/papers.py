"""False papers: keys and certificates that the gateway must not take, for stock ssh to show."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from gateway.core.certificate import origin, principal
from tests.e2e.scene import Scene


def gateways_ca(scene: Scene) -> asyncssh.SSHKey:
    """The key that signs the gateway's user certificates, as a thief of its file has it."""
    return asyncssh.read_private_key(scene.folder / "keys" / "user_ca")


@dataclass(frozen=True)
class Papers:
    """What a certificate is to say.

    Attributes:
        targets: become principals of this gateway, as the exchange makes them.
        principals: used as they are instead, where set.
        other_ca: signed by a key that nobody knows.
        host: a host certificate.
        force_command: a critical option.
        forwarding: with the extension that permits port forwarding.
        from_s, until_s: validity, seconds from now; ``until_s`` None for ever.
    """

    targets: Sequence[str] = ()
    principals: Sequence[str] | None = None
    other_ca: bool = False
    host: bool = False
    force_command: str | None = None
    forwarding: bool = False
    from_s: int = -60
    until_s: int | None = 600


def forge(scene: Scene, name: str, papers: Papers | None) -> None:
    """Put a key and (unless None) a certificate where ``scene.ssh`` looks for ``name``."""
    place = scene.folder / "logins" / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    genuine = scene.folder / "logins" / "etl"
    shutil.copy(genuine / "known_hosts", place)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(place / "id_ed25519")
    (place / "id_ed25519").chmod(0o600)
    if papers is None:
        key.write_public_key(place / "id_ed25519-cert.pub")
    else:
        _sign(scene, papers, key).write_certificate(place / "id_ed25519-cert.pub")


def _sign(scene: Scene, papers: Papers, key: asyncssh.SSHKey) -> asyncssh.SSHCertificate:
    own = gateways_ca(scene)
    ca = asyncssh.generate_private_key("ssh-ed25519") if papers.other_ca else own
    name = origin(ca.public_data)
    principals = papers.principals
    if principals is None:
        principals = [principal(name, target) for target in papers.targets]
    now_s = int(time.time())
    after_s = now_s + papers.from_s
    before_s = 2**64 - 1 if papers.until_s is None else now_s + papers.until_s
    if papers.host:
        return ca.generate_host_certificate(
            key, "forged", principals=list(principals), valid_after=after_s, valid_before=before_s
        )
    return ca.generate_user_certificate(
        key,
        "forged",
        serial=7,
        principals=list(principals),
        valid_after=after_s,
        valid_before=before_s,
        force_command=papers.force_command,
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_port_forwarding=papers.forwarding,
        permit_user_rc=False,
    )


def rename(scene: Scene, old: str, new: str) -> Path:
    """Copy an identity's papers under another name; returns the new folder."""
    place = scene.folder / "logins" / new
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(scene.folder / "logins" / old, place)
    return place

"""Certificates: what ours say, what ssh-keygen reads, and what the door refuses."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.public_key import SSHOpenSSHCertificate
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.certificate import check, origin, principal, read, terms_for
from gateway.core.identity import Identity
from gateway.core.proof import read_public_key
from gateway.core.wire import join_strings, split_strings
from gateway.edge.keys import sign_host, sign_user
from gateway.errors import CertificateRefused, GatewayFault

NOW = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
CA = asyncssh.generate_private_key("ssh-ed25519")
OTHER_CA = asyncssh.generate_private_key("ssh-ed25519")
KEY = asyncssh.generate_private_key("ssh-ed25519")
ORIGIN = origin(CA.public_data)
ETL = Identity(
    name="etl", issuer="https://issuer.test", subject="job", kind="machine",
    roles=("etl",), targets=("claims-db", "other"), accountable=("x|owner",),
)  # fmt: skip


def public_line(key: asyncssh.SSHKey) -> str:
    return key.export_public_key("openssh").decode()


def issue(**changed: Any) -> SSHOpenSSHCertificate:
    terms = terms_for(ETL, ORIGIN, changed.pop("serial", 77), NOW, **changed)
    return sign_user(CA, read_public_key(public_line(KEY)), terms)


def foreign(ca: asyncssh.SSHKey = CA, **options: Any) -> SSHOpenSSHCertificate:
    """A certificate that somebody made by hand."""
    defaults: dict[str, Any] = {
        "principals": [f"tollhouse:{ORIGIN}:claims-db"],
        "valid_after": NOW - timedelta(seconds=60),
        "valid_before": NOW + timedelta(minutes=15),
        "permit_x11_forwarding": False,
        "permit_agent_forwarding": False,
        "permit_port_forwarding": False,
        "permit_user_rc": False,
    }
    return ca.generate_user_certificate(KEY, "hand-made", **{**defaults, **options})


def refused(certificate: SSHOpenSSHCertificate, user: str = "claims-db", at: datetime = NOW) -> str:
    with pytest.raises(CertificateRefused) as caught:
        check(read(certificate.public_data), [CA.public_data], user, at)
    assert caught.value.advice
    return caught.value.rule


def test_ours_opens_its_targets_and_nothing_else() -> None:
    certificate = read(issue().public_data)
    for user in ("claims-db", "other", "gateway"):
        check(certificate, [CA.public_data], user, NOW)
    assert refused(issue(), "third") == "certificate.target"
    assert refused(issue(), "approvals") == "certificate.target"
    assert certificate.key_blob == KEY.public_data
    assert certificate.extensions == (b"permit-pty",)
    assert certificate.options == ()
    assert certificate.serial == 77


def test_only_a_person_in_a_group_gets_approvals() -> None:
    def names(**changed: Any) -> tuple[str, ...]:
        person = Identity("p", "i", "s", roles=("r",), targets=(), **changed)
        return terms_for(person, ORIGIN, 1, NOW).principals

    assert names(kind="person", groups=("a",)) == tuple(
        f"tollhouse:{ORIGIN}:{name}" for name in ("gateway", "approvals")
    )
    assert names(kind="person") == (f"tollhouse:{ORIGIN}:gateway",)
    assert names(kind="agent", groups=("a",)) == (f"tollhouse:{ORIGIN}:gateway",)


def test_ssh_keygen_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "key-cert.pub"
    file.write_bytes(issue().export_certificate("openssh"))
    told = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(file)], capture_output=True, text=True, check=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    ).stdout  # fmt: skip
    lines = [line.strip() for line in told.splitlines()]
    assert "Type: ssh-ed25519-cert-v01@openssh.com user certificate" in lines
    assert 'Key ID: "tollhouse:etl:000000000000004d"' in lines
    assert "Serial: 77" in lines
    assert "Valid: from 2026-07-01T07:59:00 to 2026-07-01T08:15:00" in lines
    assert lines[lines.index("Principals:") + 1 : lines.index("Critical Options: (none)")] == [
        f"tollhouse:{ORIGIN}:{name}" for name in ("gateway", "claims-db", "other")
    ]
    assert lines[lines.index("Extensions:") + 1 :] == ["permit-pty"]


@pytest.mark.parametrize("kind", ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521"])
def test_other_key_types(kind: str) -> None:
    key = asyncssh.generate_private_key(kind)
    signed = sign_user(CA, read_public_key(public_line(key)), terms_for(ETL, ORIGIN, 1, NOW))
    found = read(signed.public_data)
    assert found.key_blob == key.public_data
    check(found, [CA.public_data], "claims-db", NOW)


def test_the_window() -> None:
    assert refused(issue(), at=NOW + timedelta(minutes=15)) == "certificate.expired"
    assert refused(issue(), at=NOW - timedelta(seconds=61)) == "certificate.not-yet"
    assert refused(foreign(valid_before=2**64 - 1)) == "certificate.window"
    assert refused(foreign(valid_before=NOW + timedelta(minutes=16))) == "certificate.window"
    with pytest.raises(CertificateRefused, match="expired at 2026-07-01 08:15:00 UTC"):
        check(read(issue().public_data), [CA.public_data], "claims-db", NOW + timedelta(days=1))


@pytest.mark.parametrize(
    "ttl", [timedelta(0), timedelta(seconds=-1), timedelta(minutes=15, seconds=1)]
)
def test_a_lifetime_out_of_range(ttl: timedelta) -> None:
    with pytest.raises(CertificateRefused, match="lifetime"):
        issue(ttl=ttl)


@pytest.mark.parametrize("serial", [0, -1, 2**64])
def test_a_serial_out_of_range(serial: int) -> None:
    with pytest.raises(CertificateRefused, match="serial"):
        issue(serial=serial)


@pytest.mark.parametrize(
    "name", ["", "a,b", "a b", "a\0b", "*", "a*", "A", "-x", "a:b", "../x", "x" * 64, "é", "a\n"]
)
def test_a_name_that_cannot_be_a_principal(name: str) -> None:
    with pytest.raises(CertificateRefused):
        principal(ORIGIN, name)
    assert refused(issue(), name) == "certificate.name"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"principals": []}, "certificate.principals"),
        ({"principals": [f"tollhouse:{ORIGIN}:claims-db,root"]}, "certificate.principals"),
        ({"principals": [f"tollhouse:{ORIGIN}:claims-db", ""]}, "certificate.principals"),
        ({"principals": [f"tollhouse:{ORIGIN}:*"]}, "certificate.principals"),
        ({"principals": [f"tollhouse:{ORIGIN}:claims-db\0"]}, "certificate.nul"),
        ({"principals": ["claims-db"]}, "certificate.target"),
        ({"principals": ["tollhouse:00000000:claims-db"]}, "certificate.target"),
        ({"force_command": "true"}, "certificate.option"),
        ({"source_address": ["10.0.0.0/8"]}, "certificate.option"),
        ({"permit_port_forwarding": True}, "certificate.extension"),
        ({"permit_agent_forwarding": True}, "certificate.extension"),
        ({"permit_x11_forwarding": True}, "certificate.extension"),
        ({"touch_required": False}, "certificate.extension"),
        ({"ca": OTHER_CA}, "certificate.ca"),
    ],
)
def test_made_by_hand(options: dict[str, Any], rule: str) -> None:
    assert refused(foreign(**options)) == rule


def test_a_text_of_principals_is_split_by_asyncssh_hence_lists() -> None:
    certificate = read(foreign(principals="tollhouse:x:a,root").public_data)
    assert certificate.principals == ("tollhouse:x:a", "root")


def test_a_host_certificate_is_no_login_and_no_name_is_no_host() -> None:
    host = sign_host(CA, KEY, ("gateway.example.org", "127.0.0.1"), 5, NOW)
    assert refused(host) == "certificate.host"
    found = read(host.public_data)
    assert found.principals == ("gateway.example.org", "127.0.0.1")
    assert not found.user
    with pytest.raises(GatewayFault):
        sign_host(CA, KEY, (), 5, NOW)


def test_unknown_extensions_are_seen_although_libraries_drop_them() -> None:
    plain = foreign().public_data
    # The list of extensions is one string in the blob: put another entry into it.
    entry = join_strings(b"permit-pty", b"")
    spoiled = plain.replace(
        join_strings(entry), join_strings(entry + join_strings(b"zz@evil.test", b""))
    )
    assert spoiled != plain
    with pytest.raises(CertificateRefused) as caught:
        check(read(spoiled), [CA.public_data], "claims-db", NOW)
    assert caught.value.rule == "certificate.extension"
    odd = plain.replace(join_strings(entry), join_strings(join_strings(b"permit-pty")))
    with pytest.raises(CertificateRefused, match="cannot be read"):
        read(odd)


def test_a_plain_key_is_no_certificate() -> None:
    with pytest.raises(CertificateRefused) as caught:
        read(KEY.public_data)
    assert caught.value.rule == "certificate.type"


def test_every_cut_and_every_tail_is_refused() -> None:
    blob = issue().public_data
    for end in range(len(blob)):
        with pytest.raises(CertificateRefused):
            read(blob[:end])
    with pytest.raises(CertificateRefused):
        read(blob + b"\0")
    with pytest.raises(CertificateRefused):
        read(blob + b"\0" * 20_000)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_raise_only_the_own_error(data: st.DataObject) -> None:
    blob = bytearray(issue().public_data)
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        check(read(bytes(blob)), [CA.public_data], "claims-db", NOW)
    except CertificateRefused:
        return


@given(st.lists(st.binary(max_size=20)).map(tuple))
def test_strings_split_as_they_were_joined(parts: tuple[bytes, ...]) -> None:
    assert split_strings(join_strings(*parts)) == parts

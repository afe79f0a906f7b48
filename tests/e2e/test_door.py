"""Who does not enter, and what each is told; stock ssh with false papers."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar

import asyncssh
import pytest
from asyncssh.public_key import SSHLocalKeyPair

from gateway.config import load
from gateway.edge.keys import load_symmetric_key
from gateway.store import Store
from recorder.leaf import Leaf
from tests.e2e.papers import Papers, forge, rename
from tests.e2e.processes import WAIT_S, begin, until
from tests.e2e.scene import Scene, scene
from tests.servers import MAJORS, throwaway

MAJOR = MAJORS[-1]
ANY = f"db{MAJOR}"

_ANY = [ANY]
FALSE: dict[str, tuple[Papers | None, str, str]] = {
    "a plain key": (None, "certificate.plain-key", "no plain keys"),
    "expired": (Papers(_ANY, from_s=-900, until_s=-5), "certificate.expired", "expired at 20"),
    "not valid yet": (
        Papers(_ANY, from_s=300, until_s=600),
        "certificate.not-yet",
        "not valid yet",
    ),
    "for ever": (Papers(_ANY, until_s=None), "certificate.window", "never expires"),
    "for a day": (Papers(_ANY, until_s=86_400), "certificate.window", "longer than 15 minutes"),
    "another CA's": (Papers(_ANY, other_ca=True), "certificate.ca", "another CA"),
    "unknown to the store": (Papers(_ANY), "certificate.unknown", "did not issue"),
    "a comma in a principal": (
        Papers(principals=[f"tollhouse:00000000:{ANY},gateway"]),
        "certificate.principals",
        "comma",
    ),
    "a wildcard principal": (Papers(principals=["*"]), "certificate.principals", "wildcard"),
    "no principal": (Papers(principals=[]), "certificate.principals", "no principal"),
    "a principal of another gateway": (
        Papers(principals=[f"tollhouse:00000000:{ANY}"]),
        "certificate.target",
        f"does not open {ANY}",
    ),
    "a bare name as principal": (Papers(principals=[ANY]), "certificate.target", "does not open"),
    "a critical option": (
        Papers(_ANY, force_command="select 1"),
        "certificate.option",
        "critical option",
    ),
    "an extension": (Papers(_ANY, forwarding=True), "certificate.extension", "more than a term"),
}


@pytest.mark.parametrize("case", FALSE)
def test_false_papers(gate: Scene, case: str) -> None:
    papers, rule, words = FALSE[case]
    gate.ssh("gateway@etl", "whoami")
    forge(gate, "forger", papers)
    _turned_away(gate.ssh(f"{ANY}@forger", "select 1"), rule, words)


def test_a_name_that_the_certificate_does_not_open(gate: Scene) -> None:
    for destination in ("nosuch@etl", f"{ANY}@approver", "approvals@etl"):
        told = _turned_away(gate.ssh(destination, "select 1"), "certificate.target", "not open")
        assert "`ssh gateway@… targets` lists what it opens" in told


@pytest.mark.parametrize("name", [f"{ANY},gateway", "*", "../gateway", "DB 18"])
def test_a_name_that_is_no_target(gate: Scene, name: str) -> None:
    done = gate.ssh(f"{name}@etl", "select 1")
    _turned_away(done, "certificate.", "")


def test_a_name_that_reads_backwards(gate: Scene) -> None:
    done = gate.ssh(f"{ANY}\u202e@etl", "select 1")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"Prohibited character" in done.stderr
    assert "\u202e".encode() not in done.stderr


def _turned_away(done: subprocess.CompletedProcess[bytes], rule: str, words: str) -> str:
    """No session; the first banner names the rule, the reason and what to do."""
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (255, b""), told
    first = re.match(r"tollhouse: refused \[([a-z.-]+)\]: (.+)\.\r?\n  (.+)\.\r?\n", told)
    assert first is not None, told
    assert first[1].startswith(rule)
    assert words in first[2]
    assert len(first[3]) > 10
    assert "Permission denied (publickey)" in told
    return told


def test_a_key_that_is_not_proved_is_told_nothing(gate: Scene) -> None:
    gate.ssh("gateway@etl", "whoami")
    # The thief has what is public: the certificate, genuine and live, and the public key.
    place = rename(gate, "etl", "thief")
    (place / "id_ed25519").unlink()
    done = gate.ssh(f"{ANY}@thief", "select 1")
    assert done.returncode == 255
    assert b"Permission denied (publickey)" in done.stderr
    assert b"tollhouse" not in done.stderr
    # Nor of a certificate that would be refused with a reason.
    forge(gate, "thief", Papers([ANY]))
    (gate.folder / "logins" / "thief" / "id_ed25519").unlink()
    done = gate.ssh(f"{ANY}@thief", "select 1")
    assert b"Permission denied (publickey)" in done.stderr
    assert b"tollhouse" not in done.stderr


def test_a_certificate_that_was_only_offered_does_not_count(gate: Scene) -> None:
    """CVE-2024-45337's class: what was offered first must not decide who came in."""
    gate.ssh("gateway@etl", "whoami")
    gate.ssh("gateway@agent", "whoami")
    agent, stolen = gate.folder / "logins" / "agent", rename(gate, "etl", "thief")
    (stolen / "id_ed25519").unlink()
    both = ["-o", f"IdentityFile={agent / 'id_ed25519'}"]
    both += ["-o", f"CertificateFile={agent / 'id_ed25519-cert.pub'}"]
    done = gate.ssh("gateway@thief", "whoami", "--json", options=[*both, "-v"])
    assert done.returncode == 0, done.stderr.decode()
    offered = re.findall(r"Offering public key: (\S+)", done.stderr.decode())
    assert offered[0].startswith(str(stolen))
    assert json.loads(done.stdout)["identity"] == "agent"


class _Listening(asyncssh.SSHClient):
    """Keeps the banners."""

    banners: ClassVar[list[str]] = []

    def auth_banner_received(self, msg: str, lang: str) -> None:
        _Listening.banners.append(msg)


async def _knock(gate: Scene, pair: SSHLocalKeyPair) -> list[str]:
    """Show papers that stock ssh would not; the banners, once it was refused."""
    place = gate.folder / "logins" / "etl"
    _Listening.banners.clear()
    with pytest.raises(asyncssh.PermissionDenied):
        async with asyncssh.connect(
            "localhost",
            gate.ssh_port,
            username=ANY,
            config=None,
            agent_path=None,
            known_hosts=str(place / "known_hosts"),
            client_keys=[pair],
            client_factory=_Listening,
        ):
            pass
    return _Listening.banners


async def test_a_proof_by_another_key_is_told_nothing(gate: Scene) -> None:
    gate.ssh("gateway@etl", "whoami")
    place = gate.folder / "logins" / "etl"
    key = asyncssh.read_private_key(place / "id_ed25519")
    certificate = asyncssh.read_certificate(place / "id_ed25519-cert.pub")
    pair = SSHLocalKeyPair(key, None, certificate, None)
    # Offered: etl's certificate. Signed: by a key of one's own.
    pair._key = asyncssh.generate_private_key("ssh-ed25519")
    assert await _knock(gate, pair) == []


async def test_a_host_certificate(gate: Scene) -> None:
    """Stock ssh does not even show one."""
    gate.ssh("gateway@etl", "whoami")
    forge(gate, "forger", Papers(_ANY, host=True))
    place = gate.folder / "logins" / "forger"
    key = asyncssh.read_private_key(place / "id_ed25519")
    certificate = asyncssh.read_certificate(place / "id_ed25519-cert.pub")
    (banner,) = await _knock(gate, SSHLocalKeyPair(key, None, certificate, None))
    assert "[certificate.host]: a host certificate cannot log in" in banner
    assert "tollhouse login" in banner


@pytest.fixture(scope="module")
def own() -> Iterator[Scene]:
    """An installation with a server of its own, to be stopped and changed."""
    with throwaway(MAJOR) as server, scene(own_servers={MAJOR: server}) as made:
        yield made


def test_a_revoked_certificate(own: Scene) -> None:
    assert own.ssh(f"{ANY}@etl", "select 1").returncode == 0
    assert own.ssh(f"{ANY}@agent", "select 1").returncode == 0
    assert own.stop() == 0
    asyncio.run(_revoke(own, "etl"))
    own.start()
    told = _turned_away(own.ssh(f"{ANY}@etl", "select 1"), "certificate.revoked", "was revoked")
    assert "operator" in told
    assert own.ssh(f"{ANY}@agent", "select 1").returncode == 0
    # A new login opens the door again: it was the certificate that was revoked.
    own.log_in("etl")
    assert own.ssh(f"{ANY}@etl", "select 1").returncode == 0


async def _revoke(own: Scene, identity: str) -> None:
    config = load(own.config)
    store = await Store.open(
        own.state,
        mac_key=load_symmetric_key(config.store.mac_key_file),
        seal_key=load_symmetric_key(config.store.seal_key_file),
    )
    now = datetime.now(UTC)
    try:
        revoked = await store.revoke(
            now,
            lambda record: Leaf("certificate.revoked", now, "", {}, bytes(32)),
            identity=identity,
        )
    finally:
        await store.close()
    assert len(revoked) == 1


def test_a_row_that_was_changed_in_the_store_opens_nothing(own: Scene) -> None:
    assert own.ssh(f"{ANY}@agent", "select 1").returncode == 0
    assert own.stop() == 0
    change = "update certificate set identity_name = 'etl' where identity_name = 'agent'"
    with sqlite3.connect(own.state / "store.sqlite3") as connection:
        assert connection.execute(change).rowcount > 0
    connection.close()
    own.start()
    _turned_away(own.ssh(f"{ANY}@agent", "select 1"), "certificate.forged", "changed outside")
    own.log_in("agent")
    assert own.ssh(f"{ANY}@agent", "select 1").returncode == 0


def test_refused_logins_are_in_the_ledger(own: Scene) -> None:
    assert own.ssh("nosuch@etl", "select 1").returncode == 255
    assert own.ssh("nosuch@etl", "select 1").returncode == 255
    assert own.stop() == 0
    connection = sqlite3.connect(f"file:{own.state / 'store.sqlite3'}?mode=ro", uri=True)
    rows = connection.execute("select body from leaf where type = 'auth.refused'").fetchall()
    connection.close()
    counts: dict[str, int] = {}
    for (body,) in rows:
        told = json.loads(body)
        assert told["source"] in ("127.0.0.1", "::1")
        counts[told["rule"]] = counts.get(told["rule"], 0) + told["count"]
    assert counts["certificate.target"] == 2
    assert own.verify().returncode == 0
    own.start()


def test_each_new_channel_needs_a_certificate_that_is_still_valid(own: Scene) -> None:
    ttl_s = 5
    assert own.stop() == 0
    text = own.config.read_text()
    own.config.write_text(text.replace('certificate_ttl = "15m"', f'certificate_ttl = "{ttl_s}s"'))
    own.start()
    path = own.folder / "mux"
    options = ["-o", f"ControlPath={path}"]
    own.log_in("etl")
    made_s = time.monotonic()
    master = begin(own, f"{ANY}@etl", options=["-M", "-N", *options])
    try:
        until("a master connection", path.exists)
        first = own.ssh(f"{ANY}@etl", "select 'first'", options=options)
        assert first.returncode == 0, first.stderr.decode()
        running = begin(own, f"{ANY}@etl", f"select pg_sleep({ttl_s}), 'on'", options=options)
        time.sleep(max(0.0, made_s + ttl_s + 0.5 - time.monotonic()))
        late = own.ssh(f"{ANY}@etl", "select 'late'", options=options)
        assert (late.returncode, late.stdout) == (77, b"")
        assert b"[certificate.expired]: the certificate has expired" in late.stderr
        assert b"tollhouse login" in late.stderr
        # What runs already is not cut off.
        out, err = running.communicate(timeout=WAIT_S)
        assert running.returncode == 0, err.decode()
        assert b"| on" in out
        assert "'late'" not in own.servers[MAJOR].log()
    finally:
        master.terminate()
        master.communicate(timeout=WAIT_S)
        own.config.write_text(text)
    _turned_away(own.ssh(f"{ANY}@etl", "select 1"), "certificate.expired", "expired at 20")


def test_the_log_holds_no_token_key_or_command(own: Scene) -> None:
    own.stop()
    own.log.write_bytes(b"")
    own.start()
    own.log_in("etl")
    done = own.ssh(
        f"{ANY}@etl", "select 'mark-one'", env={"TOLLHOUSE_REASON": "mark-two"}, options=["-A"]
    )
    assert done.returncode == 0, done.stderr.decode()
    own.ssh(f"{ANY}@etl", "drop table mark_three")
    own.ssh(f"{ANY}@etl", "selec mark_four")
    own.ssh(f"{ANY}@etl", script="select 'mark-five' where mark_six;\n")
    own.ssh("mark-seven@etl", "select 1")
    forge(own, "forger", Papers([ANY]))
    own.ssh(f"{ANY}@forger", "select 'mark-eight'")
    bad = own.tollhouse(
        *("login", "--gateway", f"https://localhost:{own.https_port}", "--token-file", "-"),
        *("--ca-file", str(own.folder / "keys" / "tls.pem"), "--dir", str(own.folder / "bad")),
        text=own.issuer.token(aud="https://else.where", sub="mark-nine"),
    )
    assert bad.returncode != 0
    own.stop()
    log = own.log.read_text()
    assert "gateway.serving" in log
    assert not re.search(r"mark.(one|two|three|four|five|six|seven|eight|nine)", log)
    assert not re.search(r"eyJ|ssh-ed25519|AAAA|BEGIN|select", log)
    own.start()

"""The exchange over real TLS, with a real store, issuer and ssh-keygen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from gateway.config import GatewayConfig
from gateway.core.certificate import check, origin, read
from gateway.core.proof import NAMESPACE
from gateway.edge.exchange import GRANT_TYPE, MAX_BODY_BYTES, BadForm, known_hosts_line, read_form
from gateway.edge.keys import load_ssh_key
from gateway.edge.refusals import MAX_SOURCES, OTHER, Refusals
from gateway.errors import RecorderFault
from recorder.leaf import Leaf
from tests.deployment import SSH_PORT, Gate, deploy, serve_exchange
from tests.issuer import Issuer, serve_issuer

JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serve_issuer() as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, issuer: Issuer) -> GatewayConfig:
    return deploy(tmp_path, issuer.url)


@pytest.fixture
async def gate(config: GatewayConfig) -> AsyncIterator[Gate]:
    async with serve_exchange(config) as running:
        yield running


class Caller:
    """A client with a key of its own, made and used by ssh-keygen."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "id"
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
        subprocess.run(make, check=True)
        self.public = (folder / "id.pub").read_text().strip()

    def prove(self, token: str, namespace: str = NAMESPACE) -> str:
        return subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.key), "-n", namespace],
            input=hashlib.sha256(token.encode()).digest(), capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip

    def form(self, token: str, **changed: str) -> dict[str, str]:
        return {
            "grant_type": GRANT_TYPE,
            "subject_token": token,
            "subject_token_type": JWT,
            "public_key": self.public,
            "proof": self.prove(token),
            **changed,
        }


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


async def post(gate: Gate, form: dict[str, str] | bytes, **headers: str) -> httpx.Response:
    context = ssl.create_default_context(cafile=gate.ca_file)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        url = f"{gate.url}/v1/token"
        if isinstance(form, bytes):
            return await client.post(url, content=form, headers=headers)
        return await client.post(url, data=form, headers=headers)


def leaves(config: GatewayConfig) -> list[tuple[str, dict[str, Any]]]:
    with sqlite3.connect(config.server.state_dir / "store.sqlite3") as database:
        rows = database.execute("select type, body from leaf order by idx").fetchall()
    database.close()
    return [(type_, json.loads(body)) for type_, body in rows]


async def test_a_token_becomes_a_live_certificate(
    gate: Gate, config: GatewayConfig, issuer: Issuer, caller: Caller
) -> None:
    before = datetime.now(UTC)
    response = await post(gate, caller.form(issuer.token()))
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"

    ca = load_ssh_key(config.ca.key_file)
    imported = asyncssh.import_certificate(answer["certificate"])
    blob = imported.public_data
    certificate = read(blob)
    check(certificate, [ca.public_data], "claims-db", datetime.now(UTC))
    assert answer["origin"] == origin(ca.public_data)
    assert answer["principals"] == list(certificate.principals)
    expires = datetime.fromisoformat(answer["expires_at"])
    assert before < expires <= datetime.now(UTC) + timedelta(minutes=15)
    assert answer["ssh"] == {"host": "localhost", "port": SSH_PORT}
    assert answer["known_hosts"].startswith(f"@cert-authority [localhost]:{SSH_PORT} ssh-ed25519 ")

    record = await gate.store.certificate(hashlib.sha256(blob).hexdigest())
    assert record is not None
    assert record.identity.name == "reports"
    assert record.identity.accountable == (f"{issuer.url}|boss", f"{issuer.url}|7")
    assert record.identity.annotations == {"run": "1001"}
    assert record.serial == certificate.serial
    (found,) = leaves(config)
    assert found[0] == "certificate.issued"
    assert found[1]["certificate"] == hashlib.sha256(blob).hexdigest()
    assert found[1]["source"] == "127.0.0.1"
    assert found[1]["roles"] == ["reader"]


async def test_a_token_stays_with_its_first_key(
    gate: Gate, issuer: Issuer, caller: Caller, tmp_path: Path
) -> None:
    token = issuer.token()
    assert (await post(gate, caller.form(token))).status_code == 200
    assert (await post(gate, caller.form(token))).status_code == 200
    (tmp_path / "thief").mkdir()
    thief = Caller(tmp_path / "thief")
    response = await post(gate, thief.form(token))
    assert (response.status_code, response.json()["rule"]) == (400, "token.key")


async def test_a_rewritten_signature_is_the_same_token(
    gate: Gate, issuer: Issuer, caller: Caller, tmp_path: Path
) -> None:
    """ECDSA: (r, n - s) verifies too, and would look like a token never seen."""
    token = issuer.token()
    assert (await post(gate, caller.form(token))).status_code == 200
    (tmp_path / "thief").mkdir()
    thief = Caller(tmp_path / "thief")
    response = await post(gate, thief.form(rewritten(token)))
    assert (response.status_code, response.json()["rule"]) == (400, "token.key")


def rewritten(token: str) -> str:
    import base64

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    r, s = raw[:32], int.from_bytes(raw[32:], "big")
    other = r + (order - s).to_bytes(32, "big")
    return f"{signed}.{base64.urlsafe_b64encode(other).decode().rstrip('=')}"


async def test_nobody_binds_a_token_without_its_proof(
    gate: Gate, issuer: Issuer, caller: Caller, tmp_path: Path
) -> None:
    token = issuer.token()
    (tmp_path / "thief").mkdir()
    thief = Caller(tmp_path / "thief")
    wrong = thief.form(token, proof=caller.prove(token))
    assert (await post(gate, wrong)).json()["rule"] == "proof.signer"
    wrong = thief.form(token, proof=thief.prove("other"))
    assert (await post(gate, wrong)).json()["rule"] == "proof.signature"
    wrong = thief.form(token, proof=thief.prove(token, "git"))
    assert (await post(gate, wrong)).json()["rule"] == "proof.namespace"
    assert (await post(gate, caller.form(token))).status_code == 200


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({"aud": "https://elsewhere.test"}, "token.audience"),
        ({"exp": 1}, "token.expired"),
        ({"repository_id": "43"}, "token.no-role"),
        ({"environment": None}, "token.no-role"),
        ({"actor_id": None}, "token.actor"),
        ({"iss": "https://unknown.test"}, "token.issuer"),
    ],
)
async def test_refusals_say_why_and_are_recorded(
    gate: Gate, config: GatewayConfig, issuer: Issuer, caller: Caller,
    claims: dict[str, Any], rule: str,
) -> None:  # fmt: skip
    token = issuer.token(**claims)
    response = await post(gate, caller.form(token))
    answer = response.json()
    assert (response.status_code, answer["error"], answer["rule"]) == (400, "invalid_grant", rule)
    assert answer["reason"]
    assert answer["advice"]
    assert token not in response.text
    assert "43" not in answer["reason"]
    await gate.refusals.flush()
    ((type_, body),) = leaves(config)
    assert (type_, body["source"], body["rule"], body["count"]) == (
        "auth.refused", "127.0.0.1", rule, 1,
    )  # fmt: skip


async def test_an_issuer_that_is_down(gate: Gate, issuer: Issuer, caller: Caller) -> None:
    issuer.status = 503
    response = await post(gate, caller.form(issuer.token()))
    assert (response.status_code, response.json()["rule"]) == (503, "issuer.unavailable")


async def test_no_record_no_certificate(
    config: GatewayConfig, issuer: Issuer, caller: Caller
) -> None:
    async with serve_exchange(config) as gate:
        await gate.store.close()
        response = await post(gate, caller.form(issuer.token()))
    assert response.status_code == 503
    assert "certificate" not in response.json()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "lacks|cannot be read"),
        (b"grant_type", "cannot be read"),
        (b"\xff=1", "cannot be read"),
        (b"a=%ff", "cannot be read"),
        (b"&".join(b"a%d=1" % n for n in range(30)), "cannot be read"),
        (b"proof=1&proof=2", "repeated"),
        (b"grant_type=x", "lacks subject_token"),
        (b"grant_type=x&subject_token=+&subject_token_type=x&public_key=x&proof=x", "lacks subj"),
        (b"grant_type=x&subject_token=x&subject_token_type=x&public_key=x&proof=x", "grant_type"),
        (
            b"grant_type=" + GRANT_TYPE.encode()
            + b"&subject_token=x&subject_token_type=x&public_key=x&proof=x",
            "subject_token_type",
        ),
    ],
)  # fmt: skip
def test_forms_that_are_none(body: bytes, words: str) -> None:
    with pytest.raises(BadForm, match=words):
        read_form(body)


async def test_requests_that_are_no_exchange(gate: Gate, issuer: Issuer, caller: Caller) -> None:
    form = "application/x-www-form-urlencoded"
    assert (await post(gate, b"{}", **{"content-type": "application/json"})).status_code == 400
    long = await post(gate, b"x" * (MAX_BODY_BYTES + 1), **{"content-type": form})
    assert (long.status_code, "longer than" in long.json()["reason"]) == (400, True)
    context = ssl.create_default_context(cafile=gate.ca_file)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        assert (await client.get(f"{gate.url}/v1/token")).status_code == 405
        assert (await client.get(f"{gate.url}/healthz")).json() == {"status": "ok"}
        assert (await client.get(f"{gate.url}/v1/hostca")).text.startswith("@cert-authority ")
        headers = {"x-forwarded-for": "10.9.9.9"}
        await client.post(f"{gate.url}/v1/token", data={"a": "b"}, headers=headers)
    assert {source for source, _ in gate.refusals._counts} == {"127.0.0.1"}


async def test_plain_http_is_not_spoken(gate: Gate) -> None:
    port = int(gate.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b"200" not in await reader.read(4096)
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/token HTTP/1.1\r\nhost: x\r\n"])
async def test_a_silent_connection_is_closed(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("gateway.edge.exchange.HEAD_TIMEOUT_S", 0.2)
    async with serve_exchange(config) as gate:
        port = int(gate.url.rpartition(":")[2])
        context = ssl.create_default_context(cafile=gate.ca_file)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_serves_one_request(gate: Gate) -> None:
    port = int(gate.url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=gate.ca_file)
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.count(b"HTTP/1.1 200") == 1
    writer.close()


def test_known_hosts_line() -> None:
    assert (
        known_hosts_line("ssh-ed25519 AA", ("a", "b"), 22) == "@cert-authority a,b ssh-ed25519 AA\n"
    )
    assert known_hosts_line("k x", ("a",), 2222) == "@cert-authority [a]:2222 k x\n"


class Ledger:
    """A ledger that keeps its leaves in memory, or is broken."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self.broken = False

    async def append(self, *leaves: Leaf) -> list[int]:
        if self.broken:
            raise RecorderFault("the disk is full")
        self.leaves += leaves
        return list(range(len(leaves)))


async def test_refusals_are_summed_bounded_and_not_lost() -> None:
    ledger = Ledger()
    refusals = Refusals(ledger)
    await refusals.flush()
    for _ in range(3):
        refusals.note("10.0.0.1", "token.expired")
    ledger.broken = True
    with pytest.raises(RecorderFault):
        await refusals.flush()
    ledger.broken = False
    for number in range(2 * MAX_SOURCES):
        refusals.note(f"10.1.{number >> 8}.{number & 255}", "token.expired")
    await refusals.flush()
    await refusals.flush()
    counts = {str(leaf.body["source"]): leaf.body["count"] for leaf in ledger.leaves}
    assert len(ledger.leaves) == MAX_SOURCES + 1
    assert counts["10.0.0.1"] == 3
    assert counts[OTHER] == MAX_SOURCES + 1

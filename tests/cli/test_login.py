"""login as a process of its own, the same with curl, and token explain."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.cli import run
from gateway.cli.login import _read_answer
from gateway.config import GatewayConfig
from gateway.errors import TargetUnavailable
from tests.deployment import SSH_PORT, Gate, deploy, serve_exchange
from tests.issuer import AUDIENCE, Issuer, serve_issuer

ROOT = Path(__file__).parents[2]
TOLLHOUSE = (sys.executable, "-c", "from gateway.cli import main; main()")


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


@dataclass
class Done:
    """What a program left."""

    code: int
    out: str
    err: str


async def program(*arguments: str, folder: Path, given: str = "", **environment: str) -> Done:
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, env={**inherited, **environment},
        stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    out, err = await process.communicate(given.encode())
    return Done(process.returncode or 0, out.decode(), err.decode())


async def login(gate: Gate, folder: Path, *more: str, given: str = "", **environment: str) -> Done:
    return await program(
        *TOLLHOUSE, "login", "--gateway", gate.url, "--ca-file", str(gate.ca_file),
        "--dir", str(folder / "kept"), *more,
        folder=folder, given=given, PYTHONPATH=os.pathsep.join(sys.path), **environment,
    )  # fmt: skip


async def test_login_leaves_what_ssh_needs(gate: Gate, issuer: Issuer, tmp_path: Path) -> None:
    token = issuer.token()
    done = await login(gate, tmp_path, "--token-file", "-", given=token + "\n")
    assert done.code == 0, done.err
    kept = tmp_path / "kept"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert stat.S_IMODE((kept / "id_ed25519").stat().st_mode) == 0o600
    listed = await program("ssh-keygen", "-L", "-f", "id_ed25519-cert.pub", folder=kept)
    assert "tollhouse:" in listed.out
    known = (kept / "known_hosts").read_text()
    assert known.startswith(f"@cert-authority [localhost]:{SSH_PORT} ")
    file = tmp_path / "ssh_config"
    file.write_text(done.out)
    effective = (
        await program("ssh", "-G", "-F", str(file), "claims-db@localhost", folder=kept)
    ).out
    assert f"port {SSH_PORT}\n" in effective
    assert f"certificatefile {kept}/id_ed25519-cert.pub\n" in effective
    assert "stricthostkeychecking true\n" in effective
    assert token not in done.out + done.err
    assert all(token not in path.read_text() for path in kept.iterdir())


async def test_login_again_keeps_the_key(gate: Gate, issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(issuer.token())
    config = tmp_path / "ssh_config"
    options = ("--token-file", "token", "--ssh-config", str(config))
    first = await login(gate, tmp_path, *options)
    key = (tmp_path / "kept" / "id_ed25519").read_bytes()
    certificate = (tmp_path / "kept" / "id_ed25519-cert.pub").read_bytes()
    second = await login(gate, tmp_path, *options, "--json")
    assert (first.code, second.code) == (0, 0), second.err
    assert (tmp_path / "kept" / "id_ed25519").read_bytes() == key
    assert (tmp_path / "kept" / "id_ed25519-cert.pub").read_bytes() != certificate
    answer = json.loads(second.out)
    assert answer["targets"] == ["claims-db"]
    assert config.read_text() == answer["ssh_config"]


async def test_refusals_reach_the_caller(gate: Gate, issuer: Issuer, tmp_path: Path) -> None:
    expired = issuer.token(exp=1)
    done = await login(gate, tmp_path, "--token-env", "JOB_TOKEN", "--json", JOB_TOKEN=expired)
    assert done.code == 77
    assert json.loads(done.err)["error"]["rule"] == "token.expired"


async def test_an_issuer_that_is_down(gate: Gate, issuer: Issuer, tmp_path: Path) -> None:
    issuer.status = 500
    done = await login(gate, tmp_path, "--token-env", "JOB_TOKEN", JOB_TOKEN=issuer.token())
    assert (done.code, "status 500" in done.err) == (69, True)


async def test_the_gateway_must_be_the_right_one(
    gate: Gate, issuer: Issuer, tmp_path: Path
) -> None:
    token = issuer.token()
    untrusted = await program(
        *TOLLHOUSE, "login", "--gateway", gate.url, "--dir", "kept", "--token-file", "-",
        folder=tmp_path, given=token, PYTHONPATH=os.pathsep.join(sys.path),
    )  # fmt: skip
    assert (untrusted.code, "not trusted" in untrusted.err) == (69, True), untrusted.err
    assert not (tmp_path / "kept" / "id_ed25519-cert.pub").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gateway", "http://localhost:1", "--token-env", "T"], "not https"),
        (["--gateway", "https://localhost:1"], "no token"),
        (["--gateway", "https://localhost:1", "--token-env", "UNSET_T"], "empty"),
        (
            ["--gateway", "https://localhost:1", "--token-env", "T", "--token-file", "x"],
            "two tokens",
        ),
        (["--gateway", "https://localhost:1", "--token-file", "missing"], "cannot be read"),
    ],
)
def test_bad_arguments(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("T", "secret-token")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run(["login", *arguments]) == 64
    told = capsys.readouterr().err
    assert words in told
    assert "secret-token" not in told


GOOD = {
    "certificate": "ssh-ed25519-cert-v01@openssh.com AAAA",
    "known_hosts": "@cert-authority [a]:22 ssh-ed25519 AAAA\n",
    "ssh": {"host": "gate.example.org", "port": 2222},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"certificate": "ssh-ed25519-cert-v01@openssh.com AAAA\nevil"},
        {"certificate": "ssh-ed25519 AAAA"},
        {"certificate": 5},
        {"known_hosts": "* ssh-ed25519 AAAA"},
        {"known_hosts": "@cert-authority * ssh-ed25519 AAAA"},
        {"known_hosts": "@cert-authority a ssh-ed25519 AAAA\n* ssh-ed25519 BBBB"},
        {"ssh": {"host": "a\n  ProxyCommand evil", "port": 22}},
        {"ssh": {"host": "-oProxyCommand=evil", "port": 22}},
        {"ssh": {"host": "a", "port": "22"}},
        {"ssh": {"host": "a", "port": 0}},
        {"ssh": {}},
        {"ssh": None},
    ],
)
def test_an_answer_becomes_lines_that_ssh_obeys(changed: dict[str, object]) -> None:
    assert _read_answer(dict(GOOD)).port == 2222
    with pytest.raises(TargetUnavailable):
        _read_answer({**GOOD, **changed})


async def test_github_is_asked_for_the_token(gate: Gate, issuer: Issuer, tmp_path: Path) -> None:
    with serve_issuer() as github:
        github.discovery = {"value": issuer.token()}
        url = f"{github.url}/.well-known/openid-configuration"
        done = await login(
            gate, tmp_path, "--audience", AUDIENCE,
            ACTIONS_ID_TOKEN_REQUEST_URL=url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="x",
        )  # fmt: skip
        # The path is asked with the audience, which this issuer does not know.
        assert (done.code, "permission id-token" in done.err) == (69, True)
        assert httpx.URL(github.asked[0]).params["audience"] == AUDIENCE
        github.any_query = True
        done = await login(
            gate, tmp_path, "--audience", AUDIENCE,
            ACTIONS_ID_TOKEN_REQUEST_URL=url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="x",
        )  # fmt: skip
        assert done.code == 0, done.err


async def test_curl_and_ssh_keygen_are_enough(gate: Gate, issuer: Issuer, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "login-with-curl.md").read_text()
    (script,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    (tmp_path / "token").write_text(issuer.token() + "\n")
    curl = f"curl --silent --show-error --fail-with-body --cacert {gate.ca_file}"
    done = await program("bash", "-c", script, folder=tmp_path, GATEWAY=gate.url, CURL=curl)
    assert done.code == 0, done.err
    assert "permit-pty" in done.out
    assert (tmp_path / "known_hosts").read_text().startswith("@cert-authority [localhost]")
    assert stat.S_IMODE((tmp_path / "proof").stat().st_mode) == 0o600
    (tmp_path / "token").write_text(issuer.token(aud="elsewhere"))
    refused = await program("bash", "-c", script, folder=tmp_path, GATEWAY=gate.url, CURL=curl)
    assert refused.code == 1
    assert json.loads(refused.err[refused.err.index("{") :])["rule"] == "token.audience"


class Explained:
    """``token explain`` on a deployment."""

    def __init__(self, config: Path, jwks: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.jwks = jwks
        self._capsys = capsys

    def __call__(self, *more: str) -> tuple[int, str]:
        code = run(["token", "explain", "--config", str(self.config), *more])
        captured = self._capsys.readouterr()
        return code, captured.out + captured.err


@pytest.fixture
def explain(
    config: GatewayConfig, issuer: Issuer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Explained:
    capsys.readouterr()
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": issuer.published()}))
    return Explained(tmp_path / "gate" / "gateway.toml", jwks, capsys)


def test_explain_tells_what_a_certificate_would_hold(explain: Explained, issuer: Issuer) -> None:
    code, out = explain("--jwks", str(explain.jwks), "--json", issuer.token())
    told = json.loads(out)
    assert code == 0
    assert told["verified"] is True
    assert (told["identity"], told["kind"], told["roles"]) == ("reports", "machine", ["reader"])
    assert told["accountable"] == [f"{issuer.url}|boss", f"{issuer.url}|7"]
    principals = told["certificate"]["principals"]
    assert [re.sub(r":[0-9a-f]{8}:", ":O:", name) for name in principals] == [
        "tollhouse:O:gateway", "tollhouse:O:claims-db",
    ]  # fmt: skip
    assert told["certificate"]["ttl_s"] == 900
    assert issuer.asked == []
    code, out = explain(issuer.token())
    assert (code, "identity: reports (machine)" in out) == (0, True)
    assert issuer.asked != []


def test_explain_says_why_not(explain: Explained, issuer: Issuer) -> None:
    code, out = explain("--jwks", str(explain.jwks), "--json", issuer.token(aud="x"))
    assert (code, json.loads(out)["rule"]) == (77, "token.audience")
    code, out = explain("--jwks", str(explain.jwks), "--json", issuer.token(environment="test"))
    told = json.loads(out)
    assert (code, told["verified"], told["rule"]) == (77, True, "token.no-role")
    later = ("--at", "2036-01-01T00:00:00Z")
    code, out = explain("--jwks", str(explain.jwks), *later, issuer.token())
    assert (code, "not verified [token.expired]" in out) == (77, True)
    issuer.status = 500
    code, out = explain("--json", issuer.token())
    assert (code, json.loads(out)["rule"]) == (69, "issuer.unavailable")
    for wrong in (("--at", "noon"), ("--at", "2026-07-01T08:00:00"), ("--jwks", "missing")):
        assert explain(*wrong, "x")[0] == 64


def test_explain_by_the_line(
    explain: Explained, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(*given: str) -> tuple[int, list[dict[str, object]]]:
        import io

        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(given)))
        code, out = explain("--jwks", str(explain.jwks), "--batch")
        return code, [json.loads(line) for line in out.splitlines()]

    good = json.dumps({"token": issuer.token()})
    bad = json.dumps({"token": issuer.token(exp=1)})
    code, told = lines(good, bad, issuer.token(), "")
    assert code == 0
    assert [answer["verified"] for answer in told] == [True, False, True]
    code, told = lines(good, "{", '{"token": 5}', "[]", '"x"', bad)
    assert code == 2
    assert ["error" in answer for answer in told] == [False, True, True, False, True, False]

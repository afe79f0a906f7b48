"""init and check: a deployment that is valid as it stands, and faults that are told."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from gateway.cli import run
from gateway.config import load
from gateway.edge.keys import load_log_key, load_ssh_key, load_symmetric_key, tls_context
from gateway.errors import ConfigError
from gateway.files import read_policies, read_secret, write_new
from gateway.version import VERSION
from recorder.note import parse_vkey, public_key


@pytest.fixture
def gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "gate"
    assert run(["init", str(folder), "--host", "localhost"]) == 0
    capsys.readouterr()
    return folder


def test_init_makes_what_serve_needs(gate: Path) -> None:
    config = load(gate / "gateway.toml")
    assert load_ssh_key(config.ca.key_file).get_algorithm() == "ssh-ed25519"
    blobs = {
        load_ssh_key(path).public_data
        for path in (config.ca.key_file, config.ca.host_key_file, config.server.host_key_file)
    }
    assert len(blobs) == 3
    mac = load_symmetric_key(config.store.mac_key_file)
    seal = load_symmetric_key(config.store.seal_key_file)
    assert len(mac) == len(seal) == 32
    assert mac != seal
    vkey = parse_vkey((gate / "state" / "log.vkey").read_text())
    assert vkey.name == config.recorder.origin == "localhost/tollhouse"
    assert vkey.public == public_key(load_log_key(config.recorder.log_key_file))
    tls_context(config.server.tls_cert_file, config.server.tls_key_file)
    ssl.create_default_context(cafile=config.server.tls_cert_file)


def test_keys_are_closed_to_others(gate: Path) -> None:
    for folder in (gate, gate / "keys", gate / "state"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private = [p for p in (gate / "keys").iterdir() if p.suffix not in (".pub", ".pem")]
    assert len(private) == 7
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_overwrites_nothing(
    gate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in gate.rglob("*") if path.is_file()}
    assert run(["init", str(gate)]) == 64
    assert "exists" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in gate.rglob("*") if path.is_file()}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(["init", str(empty)]) == 64
    assert run(["init", str(tmp_path / "a"), "--host", 'x"\n[ca]']) == 64
    assert not (tmp_path / "a").exists()
    with pytest.raises(FileExistsError):
        write_new(gate / "gateway.toml", b"x")


def test_each_deployment_has_keys_of_its_own(gate: Path, tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "other")]) == 0
    for path in (gate / "keys").iterdir():
        assert path.read_bytes() != (tmp_path / "other" / "keys" / path.name).read_bytes()


def check(path: Path, *more: str) -> int:
    return run(["check", "--config", str(path), *more])


def test_check_finds_nothing_in_what_init_wrote(
    gate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(gate / "gateway.toml") == 0
    assert capsys.readouterr().out == "no faults\n"
    assert check(gate / "gateway.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "faults": []}


def test_check_names_every_key_that_is_none(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (gate / "keys").iterdir():
        path.write_text("spoiled\n")
    assert check(gate / "gateway.toml", "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert {Path(fault["place"]).name for fault in told["faults"]} == {
        "user_ca", "host_ca", "ssh_host_ed25519", "store_mac.key", "store_seal.key", "log.key",
        "tls.pem",
    }  # fmt: skip
    assert "spoiled" not in str(told)


def test_check_reads_the_policies(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (gate / "policies" / "mine.cedar").write_text("permit (principal, action, resource);\nnonsense")
    assert check(gate / "gateway.toml") == 2
    assert "mine.cedar" in capsys.readouterr().out
    for path in (gate / "policies").iterdir():
        path.unlink()
    assert check(gate / "gateway.toml") == 2
    assert "no policy" in capsys.readouterr().out
    (gate / "policies" / "a.cedar").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="as text"):
        read_policies(gate / "policies")


def test_faults_of_a_file_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path / "gateway.toml") == 2
    assert "gateway.toml: cannot be read" in capsys.readouterr().out


def test_keys_of_other_kinds(tmp_path: Path) -> None:
    def put(text: bytes) -> Path:
        path = tmp_path / "key"
        path.unlink(missing_ok=True)
        write_new(path, text)
        return path

    secured = tmp_path / "secured"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", str(secured)]
    subprocess.run(make, check=True)
    locked = secured.read_bytes()
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key("pkcs8-pem")
    for text in (b"", locked, b"\0"):
        with pytest.raises(ConfigError):
            load_ssh_key(put(text))
    for text in (b"", ecdsa):
        with pytest.raises(ConfigError):
            load_log_key(put(text))
    for text in (b"", b"ab" * 31, b"zz" * 32, b"ab" * 33, "é".encode()):
        with pytest.raises(ConfigError):
            load_symmetric_key(put(text))
    with pytest.raises(ConfigError, match="64 KiB"):
        read_secret(put(b"x" * 65_537))


def tollhouse(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "from gateway.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_the_program_itself(tmp_path: Path) -> None:
    assert tollhouse("--version").stdout == f"tollhouse {VERSION}\n"
    for verb in ([], ["init"], ["check"], ["login"], ["token"], ["token", "explain"]):
        told = tollhouse(*verb, "--help")
        assert told.returncode == 0
        assert "Usage: tollhouse" in told.stdout
    assert "Example" in tollhouse("login", "--help").stdout
    wrong = tollhouse("chekc")
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    failed = tollhouse("token", "explain", "--config", str(tmp_path / "x"), "--json")
    assert failed.returncode == 2
    told_json = json.loads(failed.stderr)
    assert told_json["error"]["rule"] == "config"
    assert told_json["faults"][0]["place"] == "x"


WITHOUT_THE_EXTRA = """
import sys
EXTRA = "asyncssh cryptography jwt starlette uvicorn sqlalchemy cedarpy re2 postgast".split()
class Missing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in EXTRA:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
sys.meta_path.insert(0, Missing())
from gateway.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["login", "--help"], 0, "Usage: tollhouse login"),
        (["--version"], 0, VERSION),
        (["check", "--config", "x"], 70, "pip install 'tollhouse[gateway]'"),
        (["init", "x"], 70, "pip install 'tollhouse[gateway]'"),
        (["token", "explain", "--config", "x"], 70, "pip install 'tollhouse[gateway]'"),
    ],
)
def test_the_base_install(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA, *arguments], capture_output=True, text=True,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


def test_an_unforeseen_fault_is_no_traceback_and_quotes_nothing(
    gate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("123-45-6789")

    monkeypatch.setattr("gateway.cli.check.find_faults", fail)
    assert check(gate / "gateway.toml") == 70
    plain = capsys.readouterr().err
    assert "RuntimeError" in plain
    monkeypatch.setenv("TOLLHOUSE_DEBUG", "1")
    assert check(gate / "gateway.toml") == 70
    debug = capsys.readouterr().err
    assert "test_init_check.py" in debug
    assert "123-45" not in plain + debug

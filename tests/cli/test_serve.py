"""serve as a process: ready, one at a time, and an orderly end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.verify import verify_store
from tests.edge.test_targets import configured
from tests.servers import Server

START_S = 60.0
END_S = 30.0


@pytest.fixture
def config(tmp_path: Path, pg16: Server) -> Path:
    configured(tmp_path, pg16, f'psql = "{pg16.psql}"\nreader = {{ user = "th_reader" }}\n')
    file = tmp_path / "gate" / "gateway.toml"
    file.write_text(file.read_text() + '[sandbox]\nrequired = "none"\n')
    return file


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--config", str(config), *more]


def refused(config: Path) -> tuple[int, str]:
    """Exit code and stderr of a gateway that does not come up."""
    done = subprocess.run(
        command(config), capture_output=True, text=True, check=False, timeout=START_S
    )
    return done.returncode, done.stderr


@contextmanager
def serving(config: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    ready = config.with_name("ready.json")
    process = subprocess.Popen(
        command(config, "--ready", str(ready)), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline_s = time.monotonic() + START_S
        while not ready.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield process, json.loads(ready.read_text())
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_it_says_when_it_is_ready_and_ends_in_order(config: Path, number: signal.Signals) -> None:
    with serving(config) as (process, facts):
        assert set(facts) == {"https_port", "known_hosts", "sandbox", "ssh_port"}
        assert str(facts["known_hosts"]).startswith("@cert-authority [localhost]:")
        with socket.create_connection(("127.0.0.1", int(str(facts["ssh_port"]))), 10) as peer:
            assert peer.recv(64).startswith(b"SSH-2.0-Tollhouse")
        process.send_signal(number)
        assert process.wait(END_S) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
        assert [line["event"] for line in lines] == ["gateway.serving"]
    state = config.parent / "state"
    report = verify_store(state, (state / "log.vkey").read_text().strip())
    assert (report.complete, report.leaves) == (True, 3)


def test_one_gateway_a_state_folder(config: Path) -> None:
    with serving(config) as (process, _):
        code, said = refused(config)
        assert code == 70
        assert said.splitlines()[-1].startswith("tollhouse: ")
        assert "Traceback" not in said
        assert process.poll() is None


def test_an_address_that_is_taken(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = config.read_text()
        config.write_text(
            text.replace('ssh_listen = "127.0.0.1:0"', f'ssh_listen = "127.0.0.1:{port}"')
        )
        code, said = refused(config)
    assert code == 70
    assert f"cannot listen on 127.0.0.1:{port}" in said


def test_faults_of_the_configuration_are_told_all_at_once(config: Path) -> None:
    config.write_text(config.read_text() + "[masking]\nnonsense = 1\n[approval]\nmore = 2\n")
    code, said = refused(config)
    assert code == 2
    assert "masking.nonsense" in said
    assert "approval.more" in said


def test_a_policy_that_does_not_hold(config: Path) -> None:
    (config.parent / "policies" / "zz.cedar").write_text("permit (principal, action, resource);")
    code, said = refused(config)
    assert code == 2
    assert "zz.cedar" in said

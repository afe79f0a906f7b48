"""The demo as its readers meet it: the tour, and a demo that runs until it is told to end."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.data import Clinic

ROOT = Path(__file__).parents[2]
START_S = 120.0
END_S = 60.0
SSH_S = 60.0

STORY = (
    r"children run at sandbox level `(namespaces|confined|none)`",
    r"1\. A CI job exchanges its token for a certificate",
    r"certificate until ",
    r"\$ ssh-keygen -L -f id_ed25519-cert\.pub",
    r"tollhouse:[0-9a-f]{8}:claims-db",
    r"2\. It reads; PHI comes back masked",
    r" +1 \| \[NAME\] +\| \[NAME\] +\| \[SSN\] \| \[DATE\]",
    r"3\. An alias does not help",
    r"shoe_size",
    r"\[SSN\]",
    r"4\. The same at a terminal",
    r"claims-db=> select id, note_text",
    r" 1 \| \[NOTE\]",
    r"5\. What nobody permits does not run",
    r"denied \[no-ddl\]",
    r"exit code 77",
    r"6\. A risky command is held",
    r"held \[etl-deletes\]",
    r"Ticket T-1 needs approval by 1 of phi-approvers",
    r"exit code 75",
    r"7\. Nobody lifts the gate for themselves",
    r"your own request",
    r"exit code 77",
    r"8\. Another person looks and grants it",
    r"Tollhouse approvals",
    r"T-1 +pending, needs 1 of phi-approvers",
    r"Ticket T-1: pending",
    r"Ticket T-1 is granted",
    r"9\. The same command now runs, once",
    r"DELETE \d+",
    r"Ticket T-2 needs approval",
    r"exit code 75",
    r"10\. The record proves itself, offline",
    r"verdict: intact, complete",
    r"11\. One byte is changed in a copy",
    r"line \d+: the line is not the one that was recorded",
    r"verdict: NOT INTACT",
    r"exit code 1",
    r"12\. A session is replayed",
    r"\$ tollhouse sessions replay s-",
    r"\[NAME\] +\| \[NAME\] +\| \[SSN\] \| \[DATE\]",
    r"The tour is over",
)
"""Every step of the story, in its order."""


def tells_the_story(output: str) -> None:
    at = 0
    for each in STORY:
        found = re.compile(each).search(output, at)
        assert found is not None, f"{each!r} is missing after:\n{output[:at][-500:]}"
        at = found.end()
    clinic = Clinic()
    planted = {cell for patient in clinic.patients[:4] for cell in (*patient[2:4], *patient[4:8])}
    assert not [cell for cell in planted if re.search(rf"\b{re.escape(cell)}\b", output)]


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "demo", *arguments]


def test_the_tour() -> None:
    done = subprocess.run(
        demo("--tour"), capture_output=True, text=True, check=False, timeout=START_S
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    tells_the_story(done.stdout)


def python_for_anybody(folder: Path) -> Path | None:
    """An environment with our libraries that an ordinary user can reach; None if there is none.

    The one that runs the tests may lie in root's home. Then another interpreter of the
    same version is taken, and told where the libraries are.
    """
    minor = f"python3.{sys.version_info.minor}"
    candidates = (Path(sys.base_prefix) / "bin" / minor, Path("/usr/bin") / minor)
    libraries = [Path(each) for each in sys.path if each.endswith("site-packages")]
    needed = [*libraries, ROOT]
    for python in candidates:
        if not python.exists() or not all(
            open_to_all(path) for path in (python.resolve(), *needed)
        ):
            continue
        subprocess.run([python, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
        (packages / "ours.pth").write_text("".join(f"{path}\n" for path in needed))
        program = folder / "venv" / "bin" / "python"
        player = program.with_name("asciinema")
        player.write_text(f'#!/bin/sh\nexec {program} -m asciinema "$@"\n')
        player.chmod(0o755)
        return program
    return None


def open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in path.parents) and os.access(path, os.R_OK)


def test_the_tour_as_an_ordinary_user(capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() != 0:
        return  # test_the_tour was this
    with tempfile.TemporaryDirectory(prefix="anybody-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        python = python_for_anybody(folder)
        if python is None:
            with capsys.disabled():
                print("\nNOT CHECKED: the demo as an ordinary user; no Python that one can reach")
            return
        nobody = pwd.getpwnam("nobody")
        home = folder / "home"
        home.mkdir()
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        done = subprocess.run(
            [python, "-m", "gateway", "demo", "--tour"],
            capture_output=True, text=True, check=False, timeout=START_S, cwd=home,
            user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
            env={"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    tells_the_story(done.stdout)


@dataclass
class Running:
    """A demo that runs.

    Attributes:
        facts: what ``--ready`` wrote.
    """

    process: subprocess.Popen[bytes]
    facts: dict[str, Any]
    folder: Path

    def ssh(self, destination: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ssh", "-F", self.facts["ssh_config"], destination, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SSH_S,
        )  # fmt: skip

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)


@contextmanager
def started() -> Iterator[Running]:
    # Not below pytest's own folder: PostgreSQL's unprivileged user has to walk there.
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        ready, state = folder / "ready.json", folder / "state"
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                demo("--ready", str(ready), "--state", str(state)), stdout=output, stderr=output
            )
        try:
            deadline_s = time.monotonic() + START_S
            while not ready.exists():
                assert process.poll() is None, (folder / "output").read_text()
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            yield Running(process, json.loads(ready.read_text()), folder)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(END_S)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with started() as found:
        yield found


def test_ready_says_where_everything_is(running: Running) -> None:
    facts = running.facts
    assert set(facts) >= {"ssh", "url", "config", "state", "ssh_config", "claims"}
    assert facts["ssh"]["host"]
    assert 0 < facts["ssh"]["port"] < 65_536
    assert facts["url"].startswith("https://")
    for key in ("config", "state", "ssh_config"):
        assert Path(facts[key]).exists()
        assert (running.folder / "state") in Path(facts[key]).parents
    identities = {"etl", "agent", "analyst", "approver", "approver2", "owner", "auditor"}
    assert set(facts["claims"]) == identities


def test_every_identity_can_use_its_certificate(running: Running) -> None:
    for identity in ("etl", "agent", "analyst"):
        done = running.ssh(f"claims-db@{identity}", "select 1")
        assert done.returncode == 0, done.stderr
        assert done.stdout == " ?column? \n----------\n        1\n(1 row)\n\n"
    for identity in running.facts["claims"]:
        done = running.ssh(f"gateway@{identity}", "whoami --json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["identity"] == identity
    for identity in ("approver", "auditor"):
        assert running.ssh(f"claims-db@{identity}", "select 1").returncode != 0


def test_the_claims_are_good_for_explain(running: Running) -> None:
    def verdict(identity: str, command: str) -> str:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "gateway", "explain", "--config", running.facts["config"]),
                *("--claims", running.facts["claims"][identity], "--target", "claims-db"),
                *("--json", "--", command),
            ],
            capture_output=True, text=True, check=False, timeout=SSH_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["verdict"])

    assert verdict("etl", "select ssn from patients") == "allow"
    assert verdict("etl", "select id from patients where ssn = 'x'") == "ask"
    assert verdict("etl", "delete from claims where id = 1") == "ask"
    assert verdict("agent", "delete from claims where id = 1") == "deny"
    assert verdict("etl", "drop table patients") == "deny"


def test_it_ends_cleanly_and_leaves_no_process(running: Running) -> None:
    # Last in this file: it ends the demo that the tests before used.
    family = descendants(running.process.pid)
    names = " ".join(name for _, name in family)
    assert "postgres" in names
    assert "serve" in names
    assert running.end() == 0, (running.folder / "output").read_text()
    left = [(pid, name) for pid, name in family if started_as(pid) == name]
    assert left == []
    # The folder was named, so it is kept, and its record is whole.
    state = Path(running.facts["state"])
    vkey = (state / "log.vkey").read_text().strip()
    verified = subprocess.run(
        [sys.executable, "-m", "gateway", "verify", "--complete", "--vkey", vkey, str(state)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout


def descendants(pid: int) -> list[tuple[int, str]]:
    """All processes below one, with their command lines."""
    found: list[tuple[int, str]] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [(child, started_as(child)), *descendants(child)]
    return found


def started_as(pid: int) -> str:
    """The command line of a process, empty if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    done = subprocess.run(
        demo("--state", str(tmp_path)), capture_output=True, text=True, check=False, timeout=SSH_S
    )
    assert done.returncode == 64
    assert "is not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "keep"

"""The tour: the whole story, each step with the real command and its real output.

A step that does not end as it should ends the tour with 1: it is a test as well.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte

from gateway.demo.stage import Stage

SELECT = "select id, first_name, last_name, ssn, birth_date from patients order by id limit 4"
ALIAS = "with p as (select ssn as shoe_size from patients) select shoe_size from p limit 2"
PROMPT = "select id, note_text from notes order by id limit 2;"
DROP = "drop table patients"
DELETE = "delete from claims where status = 'denied' and amount < 400"


class TourFailed(Exception):
    """A step did not end as the story goes."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One command that was run.

    Attributes:
        code: its exit code.
        output: stdout, then stderr.
    """

    code: int
    output: str


class Tour:
    """Plays steps on a stage.

    Args:
        stage: a demo that runs.
        colour: whether the terminal takes colours.
    """

    def __init__(self, stage: Stage, colour: bool) -> None:
        self._stage = stage
        self._colour = colour
        self._step = 0

    def say(self, title: str, *words: str) -> None:
        """Begin a step."""
        self._step += 1
        heading = f"{self._step}. {title}"
        print(f"\n{self._paint('1', heading)}")
        for line in words:
            print(f"   {line}")

    def ssh(self, who: str, command: str, *, code: int = 0, holds: Sequence[str] = ()) -> Shown:
        """Run stock ssh as an identity and show both sides."""
        target = "gateway" if command.split()[0] in _DESK else "claims-db"
        config = str(self._stage.deployment.ssh_config)
        arguments = ["ssh", "-F", config, f"{target}@{who}", command]
        shown = f"ssh {target}@{who} {shlex.quote(command)}"
        return self.run(arguments, shown, code=code, holds=holds)

    def run(
        self,
        command: Sequence[str],
        shown: str,
        *,
        code: int = 0,
        holds: Sequence[str] = (),
        text: str = "",
    ) -> Shown:
        """Run a command, print it and what it printed, and see that it ended as expected.

        Args:
            command: what is really run.
            shown: as a reader would type it; paths shortened.
            code: the expected exit code.
            holds: texts that the output must hold.
            text: stdin.
        """
        print(f"   {self._paint('36', '$ ' + shown)}")
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        for line in output.rstrip("\n").split("\n"):
            print(f"   {line}")
        if done.returncode != 0 or code != 0:
            print(f"   {self._paint('2', f'exit code {done.returncode}')}")
        missing = [each for each in holds if each not in output]
        if done.returncode != code or missing:
            raise TourFailed(f"expected exit code {code}" + (f" and {missing}" if missing else ""))
        return Shown(done.returncode, output)

    def terminal(
        self, destination: str, keys: Sequence[tuple[str, float]], *, holds: Sequence[str]
    ) -> None:
        """Type at a terminal of 80×24 and show the screen as it stood before the last key.

        Args:
            destination: ``target@identity``.
            keys: what is typed, and how long to look at the answer, seconds.
            holds: texts that the screen must hold.
        """
        config = str(self._stage.deployment.ssh_config)
        print(f"   {self._paint('36', f'$ ssh -t {destination}')}")
        screen = pyte.Screen(80, 24)
        stream = pyte.ByteStream(screen)
        shown: list[str] = []
        with subprocess.Popen(
            ["ssh", "-F", config, "-tt", destination],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            for text, wait_s in keys:
                shown = [line.rstrip() for line in screen.display]
                process.stdin.write(text.encode())
                process.stdin.flush()
                time.sleep(wait_s)
                stream.feed(process.stdout.read() or b"")
            code = process.wait(20)
        for line in "\n".join(shown).strip("\n").split("\n"):
            print(f"   {line}")
        missing = [each for each in holds if not any(each in line for line in shown)]
        if code != 0 or missing:
            raise TourFailed(f"the terminal showed no {missing}, exit code {code}")

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour else text


_DESK = frozenset({"approve", "deny", "tickets", "whoami", "show"})


def play(stage: Stage) -> int:
    """Play the tour on a stage; 0 if every step went as it should."""
    tour = Tour(stage, sys.stdout.isatty())
    print(f"Tollhouse: children run at sandbox level `{stage.sandbox}`.")
    try:
        _enter(tour, stage)
        _read(tour)
        _ask(tour)
        _prove(tour, stage)
    except TourFailed as failure:
        print(f"\nThe tour failed at this step: {failure}", file=sys.stderr)
        return 1
    print(
        "\nThe tour is over. `tollhouse demo` (.venv/bin/tollhouse demo) keeps all this running\n"
        "and prints commands to try; README.md says how to guard a database of your own."
    )
    return 0


def _enter(tour: Tour, stage: Stage) -> None:
    tour.say(
        "A CI job exchanges its token for a certificate",
        "The OIDC token comes from the issuer; the key was made by ssh-keygen and stays here.",
    )
    tour.run(
        stage.login_command("etl"),
        f"tollhouse login --gateway {stage.deployment.url} --token-file -",
        holds=["certificate until"],
        text=stage.issuer.token("etl"),
    )
    certificate = stage.deployment.login_dir("etl") / "id_ed25519-cert.pub"
    tour.run(
        ["ssh-keygen", "-L", "-f", str(certificate)],
        "ssh-keygen -L -f id_ed25519-cert.pub",
        holds=["tollhouse:", ":claims-db"],
    )


def _read(tour: Tour) -> None:
    tour.say("It reads; PHI comes back masked", "Stock ssh, real psql behind it.")
    tour.ssh("etl", SELECT, holds=["[SSN]", "[NAME]"])
    tour.say(
        "An alias does not help", "Masking follows the column through names, views and expressions."
    )
    tour.ssh("etl", ALIAS, holds=["[SSN]"])
    tour.say(
        "The same at a terminal", "The editor is the gateway's own; psql never sees a keystroke."
    )
    prompt = [("", 4.0), (f"{PROMPT}\r", 4.0), ("\x04", 1.0)]
    tour.terminal("claims-db@etl", prompt, holds=["claims-db=>", "[NOTE]", "(2 rows)"])
    tour.say("What nobody permits does not run", "The refusal names its rule and what to do.")
    tour.ssh("etl", DROP, code=77, holds=["no-ddl"])


def _ask(tour: Tour) -> None:
    tour.say("A risky command is held", "Exit code 75 and a ticket; nothing has run.")
    held = tour.ssh("etl", DELETE, code=75, holds=["Ticket T-"])
    ticket = re.search(r"Ticket (T-\d+)", held.output)
    if ticket is None:
        raise TourFailed("no ticket was named")
    tour.say(
        "Nobody lifts the gate for themselves", "owner answers for this job, so owner cannot vote."
    )
    tour.ssh("owner", f"approve {ticket[1]} --reason 'it is mine'", code=77, holds=["own request"])
    tour.say("Another person looks and grants it", "In the queue, or with a command as below.")
    queue = [("", 8.0), ("q", 2.0)]
    tour.terminal("approvals@approver", queue, holds=["etl-deletes", "delete from claims"])
    tour.ssh("approver", f"show {ticket[1]}", holds=["pending", "delete from claims"])
    reason = f"approve {ticket[1]} --reason 'checked with billing'"
    tour.ssh("approver", reason, holds=["granted"])
    tour.say("The same command now runs, once", "Sent again it is held again: the grant is spent.")
    tour.ssh("etl", DELETE, holds=["DELETE "])
    tour.ssh("etl", DELETE, code=75, holds=["Ticket T-"])


def _prove(tour: Tour, stage: Stage) -> None:
    state = stage.deployment.state
    vkey = (state / "log.vkey").read_text().strip()
    verify = [sys.executable, "-m", "gateway", "verify", "--vkey", vkey]
    tour.say("The record proves itself, offline")
    tour.run([*verify, str(state)], "tollhouse verify state --vkey …", holds=["intact"])
    tour.say("One byte is changed in a copy", "verify names the line.")
    copy = stage.deployment.folder / "tampered"
    shutil.copytree(state, copy)
    cast = _masked_cast(copy)
    _flip(cast)
    tour.run([*verify, str(copy)], "tollhouse verify tampered --vkey …", code=1, holds=["line"])
    shutil.rmtree(copy)
    tour.say("A session is replayed, as the client saw it")
    session = _masked_cast(state).stem
    config = str(stage.deployment.config)
    tour.run(
        [*verify[:3], "sessions", "replay", session, "--config", config, "--cat"],
        f"tollhouse sessions replay {session} --config gateway.toml --cat",
        holds=["[SSN]"],
    )


def _masked_cast(state: Path) -> Path:
    """The recording of the first masked SELECT."""
    casts = sorted((state / "casts").glob("*.cast"), key=lambda path: path.stat().st_mtime_ns)
    return next(path for path in casts if b"[SSN]" in path.read_bytes())


def _flip(cast: Path) -> None:
    """Turn one digit of an output line into another."""
    data = bytearray(cast.read_bytes())
    at = data.index(b"[SSN]")
    data[at + 1] = ord("T")
    cast.chmod(0o600)
    cast.write_bytes(data)

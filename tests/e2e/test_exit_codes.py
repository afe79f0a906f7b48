"""Every exit code of the contract, and how each is told; stock ssh throughout."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess

import pytest

from tests.e2e.processes import until
from tests.e2e.scene import DATABASE, Scene
from tests.servers import MAJORS

TARGETS = [f"db{major}" for major in MAJORS]
ANY = TARGETS[-1]

# psql's arguments, its stdin, and the code that the contract names.
PSQL: dict[str, tuple[list[str], str, int]] = {
    "one command": (["-c", "select 2"], "", 0),
    "an error": (["-c", "select 1/0"], "", 1),
    "an error, then more": (["-c", "select 1/0; select 2"], "", 1),
    "two commands, the last fails": (["-c", "select 2", "-c", "select 1/0"], "", 1),
    "two commands, the first fails": (["-c", "select 1/0", "-c", "select 2"], "", 0),
    "a command that stops on errors": (["-v", "ON_ERROR_STOP=1", "-c", "select 1/0"], "", 1),
    "a script": (["-f", "-"], "select 1;\nselect 2;\n", 0),
    "a script despite an error": (["-f", "-"], "select 1/0;\nselect 2;\n", 0),
    "a script that stops on errors": (
        ["-v", "ON_ERROR_STOP=1", "-f", "-"],
        "select 1;\nselect 1/0;\nselect 2;\n",
        3,
    ),
}


@pytest.mark.parametrize("case", PSQL)
@pytest.mark.parametrize("target", TARGETS)
def test_psqls_own_codes(gate: Scene, target: str, case: str) -> None:
    arguments, script, code = PSQL[case]
    server = gate.servers[int(target[2:])]
    login = ["-X", "-h", str(server.socket_dir), "-p", str(server.port), "-U", "th_reader"]
    own = subprocess.run(
        [str(server.psql), *login, "-d", DATABASE, *arguments],
        input=script.encode(),
        capture_output=True,
        check=False,
        env={"LANG": "C.UTF-8", "PATH": os.defpath},
    )
    done = gate.ssh(f"{target}@etl", shlex.join(["psql", *arguments]), script=script)
    assert (done.returncode, own.returncode) == (code, code), done.stderr.decode()
    assert done.stdout == own.stdout
    if code:
        assert b"ERROR:  division by zero" in done.stderr


def test_the_plain_forms_exit_as_psql_does(gate: Scene) -> None:
    assert gate.ssh(f"{ANY}@etl", "select 1/0").returncode == 1
    script = gate.ssh(f"{ANY}@etl", script="select 1/0;\nselect 2;\n", options=["-T"])
    assert script.returncode == 0
    assert script.stdout == b" ?column? \n----------\n        2\n(1 row)\n\n"
    assert script.stderr == b"ERROR:  division by zero\n"


BAD: dict[str, tuple[list[str], str]] = {
    "no SQL": (["selec 1"], "sql.parse"),
    "quotes that do not close": (["psql -c 'select 1"], "psql."),
    "a flag that is not carried": (["psql --wrong -c 'select 1'"], "psql.flags"),
    "a file of the gateway's": (["psql -f /etc/passwd"], "psql.flags"),
    "nothing": ([], "sql.parse"),
}


@pytest.mark.parametrize("case", BAD)
def test_64_for_what_cannot_be_read(gate: Scene, case: str) -> None:
    command, rule = BAD[case]
    done = gate.ssh(f"{ANY}@etl", *command, options=["-T"])
    _refused(done, 64, rule)


def test_64_and_one_line_for_a_subsystem(gate: Scene) -> None:
    done = gate.ssh(f"{ANY}@etl", "sftp", options=["-s"])
    assert (done.returncode, done.stdout) == (64, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "[channel.subsystem]" in line
    assert "sftp" in line


def test_64_for_a_terminal_at_the_desk_without_a_verb(gate: Scene) -> None:
    done = gate.ssh("gateway@etl", options=["-tt"])
    assert done.returncode == 64, done.stderr
    # A terminal has one stream for both and takes CR LF.
    shown = (done.stdout + done.stderr).decode()
    assert "tollhouse: cannot read this command [" in shown
    assert "What to do: " in shown


def test_69_where_nobody_listens(gate: Scene) -> None:
    _refused(gate.ssh("down@etl", "select 1"), 69, "target.unreachable")


def test_70_where_the_record_cannot_be_kept(gate: Scene) -> None:
    casts, away = gate.state / "casts", gate.state / "casts-away"
    told = secrets.token_hex(8)
    before = gate.ssh(f"{ANY}@etl", f"select '{told}-before'")
    assert before.returncode == 0, before.stderr.decode()
    casts.rename(away)
    try:
        done = gate.ssh(f"{ANY}@etl", f"select '{told}-unrecorded'")
    finally:
        away.rename(casts)
    _refused(done, 70, "recorder.cast")
    log = gate.servers[MAJORS[-1]].log()
    assert f"{told}-before" in log
    assert f"{told}-unrecorded" not in log
    assert gate.ssh(f"{ANY}@etl", "select 1").returncode == 0


def test_75_for_what_is_held(gate: Scene) -> None:
    done = gate.ssh(f"{ANY}@etl", "delete from claims where id = 75")
    assert (done.returncode, done.stdout) == (75, b"")
    told = done.stderr.decode()
    assert told.startswith("tollhouse: held [etl-changes]: ")
    assert "needs approval by 1 of phi-approvers" in told
    assert "ssh gateway@" in told


DENIED = {
    "a rule forbids it": ("drop table codes", "no-ddl"),
    "nothing permits it": ("truncate claims", "default-deny"),
    "a function that does more than compute": (
        "select pg_terminate_backend(pg_backend_pid())",
        "sql.function",
    ),
}


@pytest.mark.parametrize("case", DENIED)
def test_77_for_what_is_denied(gate: Scene, case: str) -> None:
    command, rule = DENIED[case]
    _refused(gate.ssh(f"{ANY}@etl", command), 77, rule)


@pytest.mark.parametrize("target", TARGETS)
def test_a_script_whose_third_statement_is_refused_ran_none(gate: Scene, target: str) -> None:
    server = gate.servers[int(target[2:])]
    told = secrets.token_hex(8)
    first = f"insert into codes values ('{told}-1', 'one');\nselect '{told}-2';\n"
    _refused(
        gate.ssh(f"{target}@etl", script=first + "drop table codes;\n", options=["-T"]),
        77,
        "no-ddl",
    )
    assert told not in server.log()
    count = f"select count(*) from codes where code like '{told}%'"
    assert server.sql(count, database=DATABASE) == "0"
    # The same without the third statement runs, so the log would have shown it.
    done = gate.ssh(f"{target}@etl", script=first)
    assert done.returncode == 0, done.stderr.decode()
    assert f"{told}-1" in server.log()
    assert f"{told}-2" in server.log()
    server.sql(f"delete from codes where code like '{told}%'", database=DATABASE)


def test_several_sessions_on_one_connection(gate: Scene) -> None:
    assert gate.ssh(f"{ANY}@etl", "select 1").returncode == 0
    path = gate.folder / "mux"
    options = ["-o", f"ControlPath={path}"]
    master = subprocess.Popen(
        gate.ssh_command(f"{ANY}@etl", options=["-M", "-N", *options]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        check = gate.ssh_command(f"{ANY}@etl", options=[*options, "-O", "check"])

        def listens() -> bool:
            return subprocess.run(check, capture_output=True, check=False).returncode == 0

        until("a master connection", listens)
        before = set(gate.casts())
        running = [
            subprocess.Popen(
                gate.ssh_command(f"{ANY}@etl", f"select pg_sleep(0.5), {n}", options=options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for n in range(3)
        ]
        for n, each in enumerate(running):
            out, err = each.communicate(timeout=30)
            assert each.returncode == 0, err.decode()
            assert out.split()[-3:-2] == [str(n).encode()], out
        denied = gate.ssh(f"{ANY}@etl", "drop table codes", options=options)
        _refused(denied, 77, "no-ddl")
        made = sorted(set(gate.casts()) - before)
        assert len(made) == 4
        texts = [cast.read_text() for cast in made]
        for n in range(3):
            assert sum(f"pg_sleep(0.5), {n}" in text for text in texts) == 1
    finally:
        master.terminate()
        master.wait(10)


def _refused(done: subprocess.CompletedProcess[bytes], code: int, rule: str) -> None:
    """Nothing on stdout; on stderr the rule, a reason and, for codes of the user's, advice."""
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b""), told
    assert told.startswith("tollhouse: "), told
    assert f"[{rule}" in told
    reason = told.splitlines()[0].partition("]: ")[2]
    assert len(reason) > 10
    assert "What to do: " in told

"""Stock ssh against a served gateway: both forms and every exit code of the contract."""

from __future__ import annotations

import pytest

from tests.e2e.scene import Scene
from tests.servers import MAJORS

TARGETS = [f"db{major}" for major in MAJORS]


@pytest.mark.parametrize("target", TARGETS)
def test_one_command(gate: Scene, target: str) -> None:
    done = gate.ssh(f"{target}@etl", "select id, status from claims order by id limit 2")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == (
        " id | status \n----+--------\n  1 | open\n  2 | paid\n(2 rows)\n\n"
    )
    assert done.stderr == b""


@pytest.mark.parametrize("target", TARGETS)
def test_a_script(gate: Scene, target: str) -> None:
    script = "begin;\nselect count(*) from claims;\nselect sum(amount) from claims;\ncommit;\n"
    done = gate.ssh(f"{target}@etl", script=script)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith("BEGIN\n count \n-------\n     3\n(1 row)\n")
    assert done.stdout.decode().endswith("COMMIT\n")

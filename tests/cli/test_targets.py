"""targets: list, try and classify, against a real server."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from gateway.cli import run
from tests.edge.test_targets import configured
from tests.servers import Server

SCHEMA = """
CREATE TABLE patients (id integer, ssn text, last_name text, quux text);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO th_reader;
"""


@pytest.fixture
def config(tmp_path: Path, pg16: Server, capsys: pytest.CaptureFixture[str]) -> str:
    pg16.add_login("th_reader")
    pg16.create_database("targets", SCHEMA)
    configured(tmp_path, pg16, 'reader = { user = "th_reader" }\n')
    capsys.readouterr()
    return str(tmp_path / "gate" / "gateway.toml")


def test_list(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "list", "--config", config]) == 0
    assert "claims-db" in capsys.readouterr().out
    assert run(["targets", "list", "--config", config, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["database"], row["writes"]) == ("claims-db", "targets", False)


def test_test(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "test", "claims-db", "--config", config, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["reader"], found["relations"], found["columns"]) == ("logs in", 1, 4)
    assert found["server_version"] // 10_000 == 16
    assert "writer" not in found


def test_classify_proposes_toml(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "classify", "claims-db", "--config", config]) == 0
    said = capsys.readouterr().out
    proposed = tomllib.loads(said)
    assert proposed["public.patients.ssn"] == "ssn"
    assert proposed["public.patients.last_name"] == "name"
    assert '# "public.patients.quux" = "?"' in said


def test_an_unknown_name(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "test", "elsewhere", "--config", config]) == 64
    assert "Known: claims-db" in capsys.readouterr().err


def test_a_server_that_does_not_answer(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(config)
    file.write_text(file.read_text().replace("th_reader", "no_such_role"))
    assert run(["targets", "test", "claims-db", "--config", config]) == 69
    assert capsys.readouterr().err.startswith("tollhouse: ")

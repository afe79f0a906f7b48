"""explain: the verdict on a command, from DDL, without running anything."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import run
from gateway.policies import shipped
from tests.deployment import deploy

DDL = """
CREATE TABLE claims (id integer, status text);
CREATE TABLE patients (id integer, ssn text, last_name text);
COMMENT ON COLUMN patients.ssn IS 'phi = yes';
"""
ISSUER = "http://127.0.0.1:9"
CLAIMS = {
    "iss": ISSUER, "sub": "job", "repository_id": "42", "environment": "production",
    "actor_id": "1", "run_id": "9",
}  # fmt: skip
SECRET = "536-22-8726"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    deploy(folder, ISSUER)
    (folder / "schema.sql").write_text(DDL)
    (folder / "claims.json").write_text(json.dumps(CLAIMS))
    (folder / "stranger.json").write_text(json.dumps({"iss": ISSUER, "sub": "nobody"}))
    (folder / "approver.json").write_text(
        json.dumps({"iss": ISSUER, "sub": "ann", "groups": ["approvers"]})
    )
    assert shipped()
    return folder


def arguments(gate: Path, *more: str, claims: str = "claims", ddl: bool = True) -> list[str]:
    base = ["explain", "--config", str(gate / "gate" / "gateway.toml"), "--target", "claims-db"]
    base += ["--claims", str(gate / f"{claims}.json")]
    return [*base, *(("--catalog", str(gate / "schema.sql")) if ddl else ()), *more]


def explained(
    gate: Path, capsys: pytest.CaptureFixture[str], *command: str, **options: Any
) -> dict[str, Any]:
    assert run(arguments(gate, "--json", "--", *command, **options)) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_fields_of_a_verdict(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(gate, capsys, "select id, ssn from patients")
    assert (found["verdict"], found["digest"], found["approval"]) == ("allow", None, None)
    assert found["actions"][0]["verb"] == "select"
    assert found["actions"][0]["object"].startswith("claims.public.patients(")
    assert [(c["index"], c["name"]) for c in found["masked_columns"]] == [(1, "ssn")]


def test_every_verdict_exits_with_0(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = explained(gate, capsys, f"select id from patients where ssn = '{SECRET}'")
    assert asked["verdict"] == "ask"
    assert asked["approval"]["groups"] == ["phi-approvers"]
    assert SECRET not in json.dumps(asked)
    assert explained(gate, capsys, "drop table claims")["verdict"] == "deny"
    assert explained(gate, capsys, "selec 1")["rule"] == "sql.parse"
    assert explained(gate, capsys, "delete from claims where id = 1")["verdict"] == "deny"


def test_in_words(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(gate, "--", "select", "ssn", "from", "patients")) == 0
    said = capsys.readouterr().out
    assert said.startswith("allow [")
    assert "  masked: ssn (" in said
    assert run(arguments(gate, "--", "drop table claims")) == 0
    assert "  What to do: " in capsys.readouterr().out


def test_a_batch_answers_in_order(
    gate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        json.dumps({"command": "select id from claims"}),
        json.dumps({"command": "drop table claims"}),
        "not json",
        json.dumps({"cmd": "x"}),
        json.dumps({"command": 7}),
        json.dumps({"command": "psql -c 'select 1' -c 'select 2'"}),
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    assert run(arguments(gate, "--batch")) == 2
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.get("verdict", "error") for each in found] == [
        "allow", "deny", "error", "error", "error", "allow",
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(lines[0] + "\n"))
    assert run(arguments(gate, "--batch")) == 0


def test_an_identity_without_the_target(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(gate, capsys, "select 1", claims="approver")
    assert (found["verdict"], found["rule"]) == ("deny", "role.target")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (["--batch", "--", "select 1"], 64),
        ([], 64),
        (["--target", "elsewhere", "--", "select 1"], 64),
        (["--claims", "no-such-file", "--", "select 1"], 64),
    ],
)
def test_bad_usage(
    gate: Path, capsys: pytest.CaptureFixture[str], change: list[str], code: int
) -> None:
    assert run(arguments(gate, *change)) == code
    assert capsys.readouterr().err.startswith("tollhouse: ")


def test_claims_that_map_to_no_role(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(gate, "--", "select 1", claims="stranger")) == 77
    assert "tollhouse: " in capsys.readouterr().err


def test_neither_catalog_nor_target_is_69(gate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(gate, "--json", "--", "select 1", ddl=False)) == 69
    assert json.loads(capsys.readouterr().err)["error"]["rule"].startswith("target.")
    (gate / "schema.sql").rename(gate / "moved.sql")
    try:
        assert run(arguments(gate, "--", "select 1")) == 69
    finally:
        (gate / "moved.sql").rename(gate / "schema.sql")

"""sessions: list, show and replay what a real record holds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.core import approval
from gateway.core.events import Summary
from gateway.core.mask import masked_message
from tests.deployment import deploy
from tests.edge.house import SESSION, judgement, open_ledger, open_record


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration whose state holds one closed session."""
    folder = tmp_path_factory.mktemp("sessions")
    state = deploy(folder, "http://127.0.0.1:9").server.state_dir

    async def record() -> None:
        async with open_ledger(state) as ledger:
            made = await open_record(state, ledger)
            found = judgement()
            await made.intent(found, approval.allow(found.verdict, found.fields))
            await made.output(masked_message(" id \n----\n  1\n"))
            await made.finish(Summary(0, 1, 14))
            await made.close("done")

    asyncio.run(record())
    return str(folder / "gate" / "gateway.toml")


def test_list(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sessions", "list", "--config", config]) == 0
    line = capsys.readouterr().out
    assert line.split()[0] == SESSION
    assert line.split()[2:4] == ["etl", "claims-db"]
    assert line.rstrip().endswith("done")
    assert run(["sessions", "list", "--config", config, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["identity_name"], row["reason"]) == (SESSION, "etl", "done")


def test_show(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sessions", "show", "s-", "--config", config]) == 0
    said = capsys.readouterr().out
    assert [line.split()[2] for line in said.splitlines() if line.startswith("#")] == [
        "session.open", "command.decided", "command.finished", "session.close",
    ]  # fmt: skip
    assert "select id from claims" in said
    assert run(["sessions", "show", SESSION, "--config", config, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["session"]["id"] == SESSION
    assert found["leaves"][-1]["body"]["reason"] == "done"


def test_replay(config: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["sessions", "replay", SESSION, "--config", config, "--cat"]) == 0
    assert capfd.readouterr().out == " id \r\n----\r\n  1\r\n"


@pytest.mark.parametrize("verb", ["show", "replay"])
def test_no_such_session(config: str, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run(["sessions", verb, "s-9", "--config", config]) == 64
    assert "there is no such session" in capsys.readouterr().err


def test_a_cast_that_is_gone(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    cast = Path(config).parent / "state" / "casts" / f"{SESSION}.cast"
    away = cast.with_suffix(".away")
    cast.rename(away)
    try:
        assert run(["sessions", "replay", SESSION, "--config", config]) == 69
        assert "tollhouse verify" in capsys.readouterr().err
    finally:
        away.rename(cast)


def test_before_the_first_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(tmp_path, "http://127.0.0.1:9")
    capsys.readouterr()
    config = str(tmp_path / "gate" / "gateway.toml")
    assert run(["sessions", "list", "--config", config, "--json"]) == 69
    assert json.loads(capsys.readouterr().err)["error"]["rule"] == "store.read"

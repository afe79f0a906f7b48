"""From a channel to a session: what is refused before one begins, and what the line is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.config import GatewayConfig
from gateway.core.policy import Policies
from gateway.edge.desk import Desk
from gateway.edge.door import Door
from gateway.edge.execution import Executions
from gateway.edge.judging import Judges
from gateway.edge.ledger import Ledger
from gateway.edge.sandbox.levels import Level
from gateway.edge.sessions import MAX_REASON_CHARS, Sessions, line_of, options_of
from gateway.edge.targets import Targets
from gateway.edge.workers import Workers
from gateway.errors import BadCommand
from gateway.policies import shipped
from gateway.store import CertificateRecord
from recorder.verify import verify_store
from tests.deployment import deploy
from tests.edge.house import DIGEST_KEY, VKEY, admission, open_ledger
from tests.edge.test_desk import Heard
from tests.store.scene import leaf
from tests.tickets import ETL

TIMEOUT_S = 20.0


class Visitor(Heard):
    """A channel with an environment; keeps stderr too."""

    def __init__(
        self, target: str, command: str | None, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(admission(target=target), command)
        self._environment = environment or {}
        self.errors = b""

    @property
    def environment(self) -> Mapping[str, str]:
        return self._environment

    async def send(self, data: object, *, stderr: bool = False) -> None:
        text: bytes = data.data  # type: ignore[attr-defined]
        if stderr:
            self.errors += text
        else:
            self.output += text


@dataclass
class Stage:
    """Sessions over a real ledger; the target does not answer."""

    sessions: Sessions
    ledger: Ledger
    state: Path

    async def serve(self, visitor: Visitor) -> tuple[int | None, str]:
        await asyncio.wait_for(self.sessions.serve(visitor), TIMEOUT_S)
        return visitor.code, visitor.errors.decode()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GatewayConfig:
    made = deploy(tmp_path_factory.mktemp("sessions"), "http://127.0.0.1:9")
    limits = made.limits.model_copy(update={"sessions": 1, "script_bytes": 1_000})
    return made.model_copy(update={"limits": limits})


@pytest.fixture
async def stage(tmp_path: Path, config: GatewayConfig) -> AsyncIterator[Stage]:
    state = tmp_path / "state"
    async with open_ledger(state) as ledger:
        targets = Targets(config)
        soon = datetime.now(UTC) + timedelta(minutes=15)
        record = CertificateRecord(ETL, 7, (), soon, "SHA256:abc")
        await ledger.store.add_certificate("ab" * 32, record, leaf())
        sessions = Sessions(
            config,
            door=Door((), ledger.store, lambda address, rule: None),
            judges=Judges(config, Policies.load(shipped()), Workers(), targets),
            executions=Executions(
                targets, level=Level.NONE, psql={}, runtime_dir=tmp_path, max_output_bytes=1 << 20
            ),
            ledger=ledger,
            desk=Desk(config, ledger),
            casts_dir=state / "casts",
            digest_key=DIGEST_KEY,
        )
        yield Stage(sessions, ledger, state)
        await targets.close()


async def test_sftp_is_refused_with_one_line(stage: Stage) -> None:
    visitor = Visitor("claims-db", None)
    visitor.subsystem = "sftp"
    code, said = await stage.serve(visitor)
    assert code == 64
    assert "[channel.subsystem]" in said
    assert list((stage.state / "casts").iterdir()) == []


async def test_a_prompt_on_a_target_that_does_not_answer(stage: Stage) -> None:
    visitor = Visitor("claims-db", None)
    visitor.terminal = "xterm"
    code, said = await stage.serve(visitor)
    assert (code, "[target.unreachable]" in said) == (69, True)


async def test_a_target_that_is_gone_from_the_configuration(stage: Stage) -> None:
    code, said = await stage.serve(Visitor("retired", "select 1"))
    assert (code, "[channel.target]" in said) == (64, True)


async def test_a_certificate_that_ended_since_the_login(stage: Stage) -> None:
    await stage.ledger.store.revoke(
        datetime.now(UTC), lambda _: leaf("certificate.revoked"), serial=7
    )
    code, said = await stage.serve(Visitor("claims-db", "select 1"))
    assert (code, "[certificate.revoked]" in said) == (77, True)
    assert list((stage.state / "casts").iterdir()) == []


async def test_the_desk_answers_for_gateway(stage: Stage) -> None:
    visitor = Visitor("gateway", "whoami", {"TOLLHOUSE_JSON": "1"})
    assert await stage.serve(visitor) == (0, "")
    assert json.loads(visitor.output)["identity"] == "etl"
    code, said = await stage.serve(Visitor("gateway", "nonsense", {"TOLLHOUSE_JSON": "1"}))
    assert (code, json.loads(said)["rule"]) == (64, "desk.usage")


async def test_a_line_for_a_target_that_does_not_answer_is_recorded(stage: Stage) -> None:
    code, said = await stage.serve(Visitor("claims-db", "select 1"))
    assert code == 69
    assert "tollhouse: target unavailable [" in said
    (cast,) = (stage.state / "casts").glob("*.cast")
    assert b"target unavailable" in cast.read_bytes()
    assert verify_store(stage.state, VKEY).complete


async def test_flags_that_are_not_carried_are_recorded_and_refused(stage: Stage) -> None:
    code, said = await stage.serve(Visitor("claims-db", "psql --host elsewhere -c 'select 1'"))
    assert code == 64
    assert said.startswith("tollhouse: cannot read this command")
    assert len(list((stage.state / "casts").glob("*.cast"))) == 1


async def test_a_script_that_is_too_large(stage: Stage) -> None:
    visitor = Visitor("claims-db", None)
    visitor.data_received(b"select 1;\n" * 200, None)
    visitor.eof_received()
    code, said = await stage.serve(visitor)
    assert (code, "[limits.script]" in said) == (64, True)


async def test_one_session_too_many(stage: Stage) -> None:
    first = Visitor("claims-db", None)  # its script does not end
    serving = asyncio.create_task(stage.sessions.serve(first))
    async with asyncio.timeout(TIMEOUT_S):
        while not list((stage.state / "casts").glob("*.cast")):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        code, said = await stage.serve(Visitor("claims-db", "select 1"))
        assert (code, "[limits.sessions]" in said) == (70, True)
        first.connection_lost(None)
        await serving
    # The place is free again, and the one that left has a closed record.
    assert (await stage.serve(Visitor("claims-db", "select 1")))[0] == 69
    assert await stage.ledger.store.open_sessions() == []


async def test_a_store_that_is_gone_closes_the_gate(stage: Stage) -> None:
    await stage.ledger.store.close()
    code, said = await stage.serve(Visitor("claims-db", "select 1"))
    assert code == 70
    assert said.count("tollhouse:") == 1


async def test_forwarding_that_was_asked_for_is_told(stage: Stage) -> None:
    visitor = Visitor("gateway", "whoami")
    visitor.refused_requests.append("agent forwarding")
    code, said = await stage.serve(visitor)
    assert code == 0
    assert said.startswith("tollhouse: agent forwarding is refused")


async def test_options_come_from_the_environment_only() -> None:
    found = options_of(
        Visitor(
            "claims-db",
            "TOLLHOUSE_WAIT=1 select 1",
            {"TOLLHOUSE_JSON": "1", "TOLLHOUSE_REASON": "x" * 9_999, "PGHOST": "evil"},
        )
    )
    assert (found.as_json, found.waits, len(found.why)) == (True, False, MAX_REASON_CHARS)
    assert not options_of(Visitor("c", "x", {"TOLLHOUSE_JSON": "yes"})).as_json


def test_the_line_of_an_exec_string() -> None:
    plain = line_of("select 1; -- two\nselect 2")
    assert (plain.text, plain.form, plain.parts) == (b"select 1; -- two\nselect 2", "single", ())
    several = line_of("psql -c 'select 1' -c 'select 2'")
    assert several.parts == (b"select 1", b"select 2")
    assert several.text == b"select 1\nselect 2"
    flags = line_of("psql --csv -q -v ON_ERROR_STOP=1")
    assert (flags.form, flags.quiet, flags.stop_on_error) == ("script", True, True)
    assert "format=csv" in flags.arguments
    with pytest.raises(BadCommand):
        line_of("psql -f /etc/passwd")

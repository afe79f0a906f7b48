"""The one loop that performs effects: its order, and that no failure of any step is a pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.core.approval import Grant, Ticket, claim, open_ticket, tally
from gateway.core.events import ClientGone, Event, Judgement, Killed, Line, LineArrived
from gateway.core.mask import Masked, masked_message
from gateway.core.session import Session, State
from gateway.edge.recording import Recording
from gateway.edge.runner import Runner, Sink
from gateway.errors import BadCommand, Denied, RecorderFault, TargetUnavailable
from gateway.store import Store
from tests.edge.house import (
    DENY,
    DROP,
    PLANTED,
    SELECT,
    Client,
    House,
    ScriptedClerk,
    ScriptedExecution,
    forever,
    held,
    judgement,
    open_house,
)
from tests.tickets import APPROVER, NOW, request, vote

TIMEOUT_S = 20.0


@dataclass
class Play:
    """One session on a stage of real recording and scripted rest."""

    house: House
    waits: bool = False
    as_json: bool = False
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = Client(self.log)
        self.clerk = ScriptedClerk(self.log, _judge_select)
        self.execution = ScriptedExecution(self.log)
        self.session = Session(waits=self.waits)

    def runner(self) -> Runner:
        return Runner(
            self.session,
            clerk=self.clerk,
            execution=self.execution,
            record=self.house.record,
            outlet=self.client,
            as_json=self.as_json,
        )

    async def run(self, line: Line = SELECT) -> int:
        """Play to the end and return the exit code."""
        runner = self.runner()
        runner.post(LineArrived(line))
        await asyncio.wait_for(runner.run(), TIMEOUT_S)
        assert len(self.client.exits) == 1
        return self.client.exits[0]

    async def run_until(self, state: State, event: Event) -> int:
        """Play until the session stands somewhere, then let an event come in."""
        runner = self.runner()
        runner.post(LineArrived(SELECT))
        running = asyncio.create_task(runner.run())
        async with asyncio.timeout(TIMEOUT_S):
            while self.session.state is not state:  # noqa: ASYNC110  # a table has no event
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            runner.post(event)
            await running
        assert len(self.client.exits) == 1
        return self.client.exits[0]

    def told(self) -> str:
        return self.client.stderr.decode()


async def _judge_select(line: Line) -> Judgement:
    return judgement(line=line)


async def _judge_held(line: Line) -> Judgement:
    return held()


def ticket_of(judged: Judgement) -> Ticket:
    """A pending ticket for exactly this line."""
    asked = request(judged.line.text)
    return open_ticket(
        type(asked)(asked.identity, "s-1", judged.fields, "…", judged.verdict), 1, b"t" * 32, NOW
    )


def granted(judged: Judgement) -> Grant:
    ticket = tally(ticket_of(judged), [vote(APPROVER)], NOW)
    return claim(ticket, judged.fields, NOW)


def raising(error: Exception) -> Callable[..., Awaitable[None]]:
    async def fail(*_: object) -> None:
        raise error

    return fail


async def test_an_allowed_line_is_on_the_disk_before_it_runs(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)
        seen: list[list[str]] = []

        async def look(sink: Sink) -> None:
            seen.append([code for code, _ in house.events()])
            seen.append(house.types())
            await sink(masked_message("ssn: 536-22-8726\n"), False)

        play.execution.running = look
        assert await play.run() == 3
        assert seen == [["h", "i", "m", "h"], ["session.open", "command.decided"]]
        assert play.log[:6] == ["judge", "prepare", "run", "sent", "stop", "exit"]
        assert play.client.stdout == b"ssn: [SSN]\n"
        assert house.types()[2:] == ["command.finished", "session.close"]
        assert house.body("command.finished")["exit_code"] == 3
        assert house.body("session.close")["reason"] == "done"
        report = house.verified()
    assert report.state.label == "intact"
    assert PLANTED.encode() not in kept(tmp_path)


def kept(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


class Noting(Recording):
    """Notes when output was given to the record."""

    log: list[str]

    async def output(self, data: Masked) -> None:
        await super().output(data)
        self.log.append("recorded")


async def test_output_is_recorded_before_it_is_sent(tmp_path: Path) -> None:
    async with open_house(tmp_path, record=Noting) as house:
        play = Play(house)
        assert isinstance(house.record, Noting)
        house.record.log = play.log

        async def speak(sink: Sink) -> None:
            await sink(masked_message("one\n"), False)
            await sink(masked_message("two\n"), True)

        play.execution.running = speak
        await play.run()
    said = [word for word in play.log if word.startswith(("recorded", "sent"))]
    assert said == ["recorded", "sent", "recorded", "sent stderr"]


async def test_output_that_cannot_be_recorded_is_not_sent(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)

        async def fill_and_speak(sink: Sink) -> None:
            house.fill_disk()
            for _ in range(40):
                await sink(masked_message("x" * 60_000 + "\n"), False)

        play.execution.running = fill_and_speak
        assert await play.run() == 70
        assert len(play.client.stdout) < 1_100_000
        assert "recorder.cast" in play.told()
        assert play.log.count("sent stderr") == 1
        assert house.body("session.close")["cast_root"] is None


async def test_a_full_disk_before_the_intent_means_that_nothing_runs(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)

        async def fill() -> None:
            house.fill_disk()

        play.execution.preparing = fill
        assert await play.run() == 70
        assert "run" not in play.log
        assert play.log.count("sent stderr") == 1
        assert "[recorder.cast]" in play.told()
        assert "No space left on device" in play.told()
        assert "command.decided" not in house.types()


class Failing(Store):
    """A store whose intents are refused, as by a disk that is gone."""

    async def commit_intent(self, *_: object, **__: object) -> int:
        raise RecorderFault("The store cannot be written", rule="store.write")


async def test_a_ledger_that_fails_before_the_intent_means_that_nothing_runs(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, store=Failing) as house:
        play = Play(house)
        assert await play.run() == 70
        assert "run" not in play.log
        assert "[store.write]" in play.told()
        assert house.body("session.close")["reason"] == "store.write"


async def test_a_record_that_cannot_be_closed_is_told_once(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)

        async def take_store(sink: Sink) -> None:
            await house.ledger.sign()
            await house.ledger.store.close()
            await sink(masked_message("late\n"), False)

        play.execution.running = take_store
        assert await play.run() == 70
        assert play.log.count("sent stderr") == 1
        assert play.told().count("tollhouse:") == 1
    report = house.verified()
    assert (report.state.label, report.complete) == ("intact", False)  # it was never closed


async def test_a_refusal_that_cannot_be_recorded_ends_with_70(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)

        async def deny_on_a_full_disk(line: Line) -> Judgement:
            house.fill_disk()
            return judgement(DENY, DROP)

        play.clerk.judging = deny_on_a_full_disk
        assert await play.run(DROP) == 70
        assert "[no-ddl]" in play.told()
        assert play.told().count("[recorder.cast]") == 1
        assert house.body("session.close")["reason"] == "recorder.cast"


async def test_an_end_that_cannot_be_recorded_is_no_success(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)

        async def fill(sink: Sink) -> None:
            house.fill_disk()

        play.execution.running = fill
        assert await play.run() == 70
        assert play.told().count("[recorder.cast]") == 1
        assert "command.finished" not in house.types()
        assert house.body("session.close")["reason"] == "recorder.cast"


@pytest.mark.parametrize("step", ["judge", "seek", "settled", "prepare", "run", "stop"])
async def test_an_exception_in_any_step_closes_and_says_nothing_of_its_text(
    tmp_path: Path, step: str
) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house, waits=step == "settled")
        fail = raising(ValueError(f"row ({PLANTED})"))
        if step in ("seek", "settled"):
            play.clerk.judging = _judge_held

            async def to_ticket(judged: Judgement) -> Ticket:
                return ticket_of(judged)

            play.clerk.seeking = to_ticket
        match step:
            case "judge":
                play.clerk.judging = fail  # type: ignore[assignment]
            case "seek":
                play.clerk.seeking = fail  # type: ignore[assignment]
            case "settled":
                play.clerk.settling = fail  # type: ignore[assignment]
            case "prepare":
                play.execution.preparing = fail
            case "run":
                play.execution.running = fail
            case _:
                play.execution.stopping = fail
        assert await play.run() == 70
        assert play.told().count("[gateway.internal]") == 1
        assert house.body("session.close")["reason"] == "gateway.internal"
        assert ("run" in play.log) == (step in ("run", "stop"))
        assert PLANTED not in play.told()
        assert PLANTED.encode() not in house.cast.read_bytes()


async def test_a_refusal_is_recorded_and_told_once(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)

        async def deny(line: Line) -> Judgement:
            return judgement(DENY, DROP)

        play.clerk.judging = deny
        assert await play.run(DROP) == 77
        assert play.told() == (
            "tollhouse: denied [no-ddl]: definitions change elsewhere\n"
            "  What to do: use a migration\n"
        )
        assert play.log[:3] == ["judge", "sent stderr", "exit"]
        assert house.body("command.decided")["verdict"] == "deny"
        marker = json.loads(next(data for code, data in house.events() if code == "m"))
        assert marker == {"rule": "no-ddl", "verdict": "deny"}
        assert house.verified().complete


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadCommand("not SQL", rule="sql.syntax"), 64), (Denied("too deep", rule="sql.deep"), 77)],
)
async def test_what_cannot_be_judged_does_not_run(
    tmp_path: Path, error: BadCommand | Denied, code: int
) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)
        play.clerk.judging = raising(error)  # type: ignore[assignment]
        assert await play.run() == code
        assert "run" not in play.log
        assert house.body("command.decided")["rule"] == error.rule


async def test_an_unreachable_target_spends_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)
        play.execution.preparing = raising(TargetUnavailable("no answer", rule="target.connect"))
        assert await play.run() == 69
        assert "command.decided" not in house.types()
        assert "[target.connect]" in play.told()


async def test_a_held_line_ends_with_75(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house, as_json=True)
        play.clerk.judging = _judge_held

        async def to_ticket(judged: Judgement) -> Ticket:
            return ticket_of(judged)

        play.clerk.seeking = to_ticket
        assert await play.run() == 75
        told = json.loads(play.told())
        assert (told["type"], told["ticket"], told["waits"]) == ("held", "T-1", False)
        assert "prepare" not in play.log
        assert ("m", '{"rule": "etl-deletes", "ticket": "T-1", "verdict": "ask"}') in house.events()


async def test_a_waiting_line_whose_ticket_is_refused_does_not_run(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house, waits=True)
        play.clerk.judging = _judge_held

        async def to_ticket(judged: Judgement) -> Ticket:
            return ticket_of(judged)

        async def refuse(judged: Judgement, ticket: Ticket) -> Grant:
            raise Denied("Ticket T-1 is refused", rule="ticket.state")

        play.clerk.seeking, play.clerk.settling = to_ticket, refuse
        assert await play.run() == 77
        assert "prepare" not in play.log
        assert play.log.count("sent stderr") == 2  # that it waits, and that it was refused


class Hanging(Recording):
    """A record whose intent does not become durable."""

    async def intent(self, judgement: Judgement, grant: Grant) -> None:
        await forever()


@pytest.mark.parametrize(
    "state", ["judging", "asking", "waiting", "preparing", "committing", "running"]
)
@pytest.mark.parametrize("event", [ClientGone(), Killed("by ann")], ids=["gone", "killed"])
async def test_a_client_that_leaves_or_is_killed_in_any_state(
    tmp_path: Path, state: str, event: Event
) -> None:
    record = Hanging if state == "committing" else Recording
    async with open_house(tmp_path, record=record) as house:
        play = Play(house, waits=True)

        async def hang(*_: object) -> None:
            await forever()

        async def to_ticket(judged: Judgement) -> Ticket:
            return ticket_of(judged)

        if state in ("asking", "waiting"):
            play.clerk.judging = _judge_held
        play.clerk.seeking = to_ticket
        match state:
            case "judging":
                play.clerk.judging = hang  # type: ignore[assignment]
            case "asking":
                play.clerk.seeking = hang  # type: ignore[assignment]
            case "waiting":
                play.clerk.settling = hang  # type: ignore[assignment]
            case "preparing":
                play.execution.preparing = hang
            case "running":
                play.execution.running = hang
            case _:
                pass
        assert await play.run_until(State(state), event) == 70
        assert ("run" in play.log) == (state == "running")
        assert "stop" in play.log
        gone = isinstance(event, ClientGone)
        assert house.body("session.close")["reason"] == (
            "client gone" if gone else "session.killed"
        )
        assert ("by ann" in play.told()) == (not gone)
        assert house.verified().complete


async def test_a_granted_line_runs_with_its_own_grant(tmp_path: Path) -> None:
    class Spending(Store):
        async def commit_intent(self, leaf: object, grant: Grant, *_: object) -> int:
            grants.append(grant)
            return 0

    grants: list[Grant] = []
    async with open_house(tmp_path, store=Spending) as house:
        play = Play(house)
        play.clerk.judging = _judge_held

        async def to_grant(judged: Judgement) -> Grant:
            return granted(judged)

        play.clerk.seeking = to_grant
        assert await play.run() == 3
    assert [grant.ticket for grant in grants] == ["T-1"]


async def test_with_json_the_childs_stderr_is_json_lines(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house, as_json=True)

        async def complain(sink: Sink) -> None:
            await sink(masked_message("ERROR:  one\nLINE 1: two\n"), True)

        play.execution.running = complain
        await play.run()
        lines = [json.loads(line) for line in play.told().splitlines()]
    assert lines == [
        {"type": "stderr", "text": "ERROR:  one"},
        {"type": "stderr", "text": "LINE 1: two"},
    ]


async def test_a_cancelled_runner_lets_go_and_says_70(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        play = Play(house)
        play.execution.running = lambda sink: forever()
        runner = play.runner()
        runner.post(LineArrived(SELECT))
        running = asyncio.create_task(runner.run())
        while play.session.state is not State.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert play.log[-2:] == ["stop", "exit"]
        assert play.client.exits == [70]

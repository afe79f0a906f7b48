"""One session's record: what is on the disk when, and what a failure leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from gateway.core import approval
from gateway.core.approval import Grant
from gateway.core.events import Line, Summary
from gateway.core.mask import masked_message
from gateway.edge.recording import SYNC_BYTES, UNREAD_SHOWN_BYTES
from gateway.errors import BadCommand, RecorderFault
from gateway.store import SessionRecord, Store
from gateway.store.reading import leaves
from recorder.leaf import Leaf
from tests.edge.house import (
    DENY,
    DROP,
    PLANTED,
    SESSION,
    House,
    judgement,
    open_descriptors,
    open_house,
    open_ledger,
    open_record,
)


def grant() -> Grant:
    found = judgement()
    return approval.allow(found.verdict, found.fields)


class Watching(Store):
    """Looks at the cast at the moment in which a leaf is about to be committed."""

    folder: Path
    seen: dict[str, list[str]]
    cast: Path

    def look(self, type_: str) -> None:
        lines = self.cast.read_text().splitlines()[1:]
        self.seen[type_] = [json.loads(line)[1] for line in lines]

    async def open_session(self, record: SessionRecord, *leaves: Leaf) -> None:
        self.cast = self.folder / "casts" / record.cast
        self.seen = {}
        self.look("session.open")
        await super().open_session(record, *leaves)

    async def commit_intent(
        self, leaf: Leaf, grant: Grant, now: datetime, also: Sequence[Leaf] = ()
    ) -> int:
        self.look(leaf.type)
        return await super().commit_intent(leaf, grant, now, also)

    async def append(self, *leaves: Leaf) -> list[int]:
        self.look(leaves[0].type)
        return await super().append(*leaves)

    async def close_session(
        self, session_id: str, closed: datetime, reason: str, *leaves: Leaf
    ) -> None:
        self.look("session.close")
        await super().close_session(session_id, closed, reason, *leaves)


async def test_the_cast_is_on_the_disk_before_each_leaf(tmp_path: Path) -> None:
    class Here(Watching):
        folder = tmp_path / "state"

    async with open_house(tmp_path, store=Here) as house:
        record, store = house.record, house.ledger.store
        assert isinstance(store, Here)
        await record.intent(judgement(), grant())
        await record.output(masked_message("(1 row)\n"))
        await record.finish(Summary(0, 1, 8))
        await record.refusal(DROP, judgement(DENY, DROP), BadCommand("no", rule="r"))
        await record.close("done")
        told = ["h", "i", "m", "h"]
        assert store.seen == {
            "session.open": ["h"],
            "command.decided": [*told, "o", "h", "i", "m", "h"],
            "command.finished": [*told, "o", "h"],
            "session.close": [*told, "o", "h", "i", "m", "h"],
        }
        assert house.verified().complete


async def test_the_intent_is_anchored_and_tells_no_text_of_phi(tmp_path: Path) -> None:
    line = Line(f"select id from patients where ssn = '{PLANTED}'".encode(), "single")
    async with open_house(tmp_path) as house:
        found = judgement(line=line)
        await house.record.intent(found, approval.allow(found.verdict, found.fields))
        body = house.body("command.decided")
        assert (body["verdict"], body["rule"], body["bytes"]) == (
            "allow",
            "etl-reads",
            len(line.text),
        )
        assert body["lines"] == len(house.cast.read_bytes().splitlines())
        assert PLANTED not in json.dumps(body)
        assert PLANTED.encode() not in house.cast.read_bytes()
        codes = [code for code, _ in house.events()]
        assert codes == ["h", "i", "m", "h"]


@pytest.mark.parametrize("before", [UNREAD_SHOWN_BYTES - n for n in (0, 1, 3, 5, 8, 11, 12)])
async def test_a_bomb_is_shown_in_part_and_counted_whole(tmp_path: Path, before: int) -> None:
    text = b"(" * (before - 1) + b" " + PLANTED.encode() + b"(" * 1_000_000
    async with open_house(tmp_path) as house:
        await house.record.refusal(Line(text, "script"), None, BadCommand("deep", rule="sql.size"))
        body = house.body("command.decided")
    assert body["bytes"] == len(text)
    assert len(body["command"]) < UNREAD_SHOWN_BYTES + 100
    assert not any(part in body["command"] for part in ("536", "53", "22-"))
    left = re.search(r" … \((\d+) more bytes\)$", body["command"])
    assert left is not None
    assert len(text) - UNREAD_SHOWN_BYTES <= int(left[1]) <= len(text) - before + 1


async def test_line_feeds_become_crlf_and_crlf_stays(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.record.output(masked_message("one\r\ntwo\nthree"))
        await house.record.output(masked_message("\n"))
        await house.record.output(masked_message(""))
        await house.record.close("done")
        shown = "".join(data for code, data in house.events() if code == "o")
    assert shown == "one\r\ntwo\r\nthree\r\n"


async def test_a_typed_script_is_shown_line_by_line(tmp_path: Path) -> None:
    line = Line(b"select 1;\r\nselect 2;\n", "script")
    async with open_house(tmp_path) as house:
        found = judgement(line=line)
        await house.record.intent(found, approval.allow(found.verdict, found.fields))
        typed = next(data for code, data in house.events() if code == "i")
    assert "\n" not in typed.replace("\r\n", "")
    assert typed.startswith("select 1;\r\nselect 2;")
    assert typed.endswith("\r\n")


async def test_flowing_output_is_synced_before_the_writer_would_block(tmp_path: Path) -> None:
    piece = masked_message("x" * 32_767 + "\n")
    async with open_house(tmp_path) as house:
        for _ in range(SYNC_BYTES // len(piece)):
            await house.record.output(piece)
        assert house.cast.stat().st_size > SYNC_BYTES
        assert house.events()[-1][0] == "h"


async def test_closing_twice_is_one_leaf_and_one_checkpoint(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.record.close("done")
        size = (await house.ledger.store.tree())[0]
        await house.record.close("again")
        assert (await house.ledger.store.tree())[0] == size
        assert house.types() == ["session.open", "session.close"]
        assert house.body("session.close")["reason"] == "done"
        last = await house.ledger.store.last_checkpoint()
        assert last is not None
        assert last.size == size
        assert house.verified().complete


async def poison(house: House) -> None:
    house.fill_disk()
    with pytest.raises(RecorderFault):
        await house.record.intent(judgement(), grant())


async def test_after_a_failure_everything_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await poison(house)
        for work in (
            house.record.intent(judgement(), grant()),
            house.record.output(masked_message("late\n")),
            house.record.finish(Summary(0)),
            house.record.held(judgement(), "T-1"),
            house.record.refusal(DROP, None, BadCommand("no", rule="r")),
        ):
            with pytest.raises(RecorderFault) as caught:
                await work
            assert caught.value.rule == "recorder.cast"
        assert house.types() == ["session.open"]


async def test_a_failed_recording_is_closed_without_a_root(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await poison(house)
        await house.record.close("recorder.cast")
        assert house.body("session.close")["cast_root"] is None
        report = house.verified()
    assert (report.state.label, report.complete) == ("intact", False)
    assert report.sessions[0].recording_failed


async def test_a_ledger_that_refuses_the_opening_leaves_no_open_files(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_ledger(state) as ledger:
        await ledger.store.close()
        before = open_descriptors()
        with pytest.raises(RecorderFault):
            await open_record(state, ledger)
        assert open_descriptors() == before
    # The cast lies there, with a header and no events: verify says so and forgives it.
    assert len((state / "casts" / f"{SESSION}.cast").read_bytes().splitlines()) == 2


async def test_a_folder_that_refuses_the_cast_opens_no_session(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_ledger(state) as ledger:
        (state / "casts").rmdir()
        with pytest.raises(RecorderFault) as caught:
            await open_record(state, ledger)
        assert caught.value.rule == "recorder.cast"
        assert await ledger.store.open_sessions() == []


async def test_the_same_session_id_is_not_recorded_over(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        before = house.cast.read_bytes()
        with pytest.raises(RecorderFault):
            await open_record(house.state, house.ledger)
        assert house.cast.read_bytes() == before


async def test_equal_bytes_have_equal_digests_and_no_others(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        for index, text in enumerate((b"select 1", b"select 1", b"select 2")):
            await house.record.sent(text, index)
        sent = [
            leaf["body"] for leaf in leaves(house.state, SESSION) if leaf["type"] == "request.sent"
        ]
    assert [body["index"] for body in sent] == [0, 1, 2]
    one, two, three = (body["text_hmac"] for body in sent)
    assert (one == two, one == three) == (True, False)
    assert "select" not in json.dumps(sent)

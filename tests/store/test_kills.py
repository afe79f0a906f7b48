"""The intent is durable across cast, store and grant, whenever the gateway dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.kills import Outcome, check, kill_once, kill_repeatedly


def test_twenty_kills(tmp_path: Path) -> None:
    outcome = kill_repeatedly(tmp_path, 20, seed=5)
    assert outcome.counts["kills"] == 20
    assert outcome.counts["intents acknowledged"] > 0


@pytest.mark.long
def test_three_hundred_kills(tmp_path: Path) -> None:
    outcome = kill_repeatedly(tmp_path, 300, seed=20260701)
    assert outcome.counts["kills"] == 300
    # Kills fell into each gap that could tear the three apart.
    assert outcome.counts["kills between cast and commit"] > 0
    assert outcome.counts["kills between commit and acknowledgement"] > 0


def test_the_check_sees_a_lie(tmp_path: Path) -> None:
    acknowledged = kill_once(tmp_path / "state", "s-0", None, 0.1)
    assert acknowledged
    check(tmp_path / "state", "s-0", Outcome(acknowledged=acknowledged))
    lie = acknowledged | {("s-0", 10**6): ("-", 10**6)}
    with pytest.raises(AssertionError, match="acknowledged and is not in the ledger"):
        check(tmp_path / "state", "s-0", Outcome(acknowledged=lie))

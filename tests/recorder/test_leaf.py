from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from recorder.canonical import MAX_INTEGER, canonical
from recorder.errors import LeafInvalid
from recorder.leaf import LEAF_TYPES, Leaf, body_hash, envelope_bytes, envelope_from, time_text

NOW = datetime(2026, 7, 1, 8, 0, 0, 250, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_canonical_json_is_what_another_implementation_writes(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]
    assert canonical(json.loads(canonical(value))) == canonical(value)


def test_keys_are_ordered_as_utf_16() -> None:
    keys = {"\U0001f600": 1, "\ue000": 2, "a": 3}
    assert canonical(keys) == '{"a":3,"\U0001f600":1,"\ue000":2}'.encode()


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), [0.5], 2**53, -(2**53), {1: 2}, "\ud800", {"\ud800": 1}, b"", nested(40)],
)
def test_values_that_are_not_exact_everywhere_are_refused(value: object) -> None:
    with pytest.raises(LeafInvalid):
        canonical(value)


def test_an_envelope_is_the_written_formula() -> None:
    leaf = Leaf("session.open", NOW, "s1", {"b": 1, "a": "ü"}, bytes(range(32)))
    inner = hashlib.sha256(bytes(range(32)) + '{"a":"ü","b":1}'.encode()).hexdigest()
    expected = (
        f'{{"body":"{inner}","session":"s1",'
        '"time":"2026-07-01T08:00:00.000250Z","type":"session.open"}'
    )
    assert envelope_bytes(leaf) == expected.encode()


def test_time_is_utc_with_microseconds() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert time_text(local) == time_text(NOW) == "2026-07-01T08:00:00.000250Z"
    with pytest.raises(LeafInvalid):
        time_text(NOW.replace(tzinfo=None))


def test_the_types_are_those_of_the_written_format() -> None:
    assert len(LEAF_TYPES) == 24
    for type_ in LEAF_TYPES:
        envelope_bytes(Leaf(type_, NOW, "", {}, bytes(32)))


def test_what_is_no_leaf_is_refused() -> None:
    with pytest.raises(LeafInvalid, match="type"):
        envelope_bytes(Leaf("session.opened", NOW, "", {}, bytes(32)))
    with pytest.raises(LeafInvalid, match="salt"):
        envelope_bytes(Leaf("session.open", NOW, "", {}, bytes(31)))
    with pytest.raises(LeafInvalid, match="float"):
        envelope_bytes(Leaf("session.open", NOW, "", {"a": 1.5}, bytes(32)))
    with pytest.raises(LeafInvalid, match="digest"):
        envelope_from("session.open", time_text(NOW), "", b"short")
    with pytest.raises(LeafInvalid, match="65535"):
        envelope_bytes(Leaf("session.open", NOW, "s" * 65_536, {}, bytes(32)))
    with pytest.raises(LeafInvalid, match="salt"):
        body_hash(b"", b"{}")

from __future__ import annotations

import re
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.patterns import (
    MAX_MATCH_CHARS,
    PATTERNS,
    Pattern,
    Searcher,
    is_card,
    is_luhn,
    is_ssn,
)

SEARCHER = Searcher()

FOUND = [
    ("ssn", "123-45-6789"),
    ("ssn", " 17 | 123-45-6789 | open"),
    ("ssn", "123 45 6789"),
    ("ssn", "SSN123-45-6789"),
    ("ssn", '"ssn": "123456789"'),
    ("ssn", '"patientSSN":"123456789"'),
    ("ssn", "ssn                 | 123456789"),
    ("ssn", "ssn=900-12-3456"),
    ("ssn", "Social Security No.: 123.45.6789"),
    ("ssn", "SS# 123456789"),
    ("email", "ann.b+c@mail.example.org"),
    ("email", "<ann@example.com>"),
    ("email", "mailto:ann@example.com?x"),
    ("email", "x=ann@example.com."),
    ("email", "ann@example.com12"),
    ("phone", "(212) 555-0143"),
    ("phone", "(212)555-0143"),
    ("phone", "212-555-0143"),
    ("phone", "212.555.0143"),
    ("phone", "212 555 0143"),
    ("phone", "+1 212-555-0143"),
    ("phone", "1-212-555-0143 | x"),
    ("phone", "+493012345678"),
    ("phone", "+44 20 7946 0958"),
    ("phone", '"phone": "2125550143"'),
    ("phone", "home_phone | 2125550143"),
    ("phone", "tel: 555-0143"),
    ("card", "4111111111111111"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5555-5555-5555-4444"),
    ("card", "3782 822463 10005"),
    ("card", "378282246310005,"),
    ("card", "6011000990139424"),
    ("birth_date", "DOB: 1980-01-31"),
    ("birth_date", "dob=01/31/1980"),
    ("birth_date", "D.O.B. 1/3/80"),
    ("birth_date", '"birthDate": "1980-01-31"'),
    ("birth_date", '"birthDate":19800131'),
    ("birth_date", '<birthDate value="1980-01-31"/>'),
    ("birth_date", "birth_date          | 1980-01-31"),
    ("birth_date", "birth_datetime | 1980-12-31 10:20:30.5"),
    ("birth_date", "patient_dob: 1980-12-31T10:20"),
    ("birth_date", "date of birth January 31, 1980"),
    ("birth_date", "born on 31 January 1980"),
    ("birth_date", "born the 31-Jan-1980"),
    ("mbi", "1EG4-TE5-MK73"),
    ("mbi", "1EG4TE5MK73 |"),
]


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_an_identifier_is_found(name: str, text: str) -> None:
    spans = SEARCHER.find(text.encode())
    assert [span.pattern.name for span in spans] == [name]
    hidden = text[spans[0].start : spans[0].end]
    rest = text[: spans[0].start] + text[spans[0].end :]
    assert hidden
    # Whatever digits remain belong to the neighbours, never to the finding.
    assert not re.search(r"[0-9]{3}|@", rest.replace("17 |", ""))


NEAR_MISSES = [
    "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000",
    "1123-45-6789", "123-45-67890", "123456789", "12345-6789", "123-456-789",
    "v1.2.3", "120.0.6099.109", "10.212.55.143", "2001:db8::1",
    "550e8400-e29b-41d4-a716-446655440000", "12345678-1234-1234-1234-123456789012",
    "2026-11-23 21:04:46.123456+00", "2026-11-23T21:04:46+05:30", "20261123210446123456",
    "1700000000", "1700000000123456", "ORD-2026-000123", "INV 4012888888881882",
    "4111111111111112", "0.4111111111111111", "4111111111111111.5", "1234567812345670",
    "E11.9", "Z00.00", "8480-6", "0002-7510-01", "50242-040-62", "978-0-306-40615-7",
    "user@host", "pkg@1.2.3", "@property", "a@b.c", "git@", "x+12345678",
    "112-555-0143", "212-155-0143", "phone: 2026-11-23", "hotel 12", "+0530", "+1 234",
    "birth weight 3200 g", "birth 12", "dob", "1980-01-31", "stillborn",
    "1EG4-TE5-MK7", "1SG4-TE5-MK73", "a1EG4TE5MK73", "deadbeef1eg4te5mk73",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "rows: 1,234,567", "cost=0.00..431.00 rows=21000 width=4",
]  # fmt: skip


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_a_near_miss_is_left_alone(text: str) -> None:
    assert SEARCHER.find(text.encode()) == []


def test_a_finding_behind_a_near_miss_is_found() -> None:
    (span,) = SEARCHER.find(b"000-12-123-45-6789")
    assert (span.start, span.end) == (7, 18)
    (span,) = SEARCHER.find(b"31-212-555-0143")
    assert (span.start, span.end) == (3, 15)


def test_findings_that_touch_are_one() -> None:
    text = b"ssn: 123-45-6789@example.com"
    (span,) = SEARCHER.find(text)
    assert text[span.start : span.end] == b"123-45-6789@example.com"


def test_no_finding_crosses_a_line() -> None:
    assert (
        SEARCHER.find(b"123-45-\n6789\ndob:\n1980-01-31\nann@\nexample.com\nssn\n123456789") == []
    )


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: str(pattern.expression[:24]))
def test_no_pattern_is_longer_than_the_overlap_relies_on(pattern: Pattern) -> None:
    # The standard library's parser gives the widest match of the same expression.
    parser = __import__("re._parser", fromlist=["parse"])
    assert parser.parse(pattern.expression).getwidth()[1] + 2 <= MAX_MATCH_CHARS


def test_checksums() -> None:
    assert is_luhn([7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 3])
    assert not is_luhn([7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 4])
    assert is_ssn([7, 7, 2, 1, 2, 3, 4, 5, 6])
    assert not is_ssn([1, 2, 3])
    assert not is_card([4] * 12)


def test_a_searcher_without_patterns_finds_nothing() -> None:
    assert Searcher(()).find(b"123-45-6789") == []


_INNOCENT = st.one_of(
    st.uuids().map(str),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat(" ")),
    st.floats().map(repr),
    st.integers(0, 999_999_999_999).map(str),
    st.ip_addresses().map(str),
)


@settings(deadline=None)
@given(st.lists(_INNOCENT, max_size=8), st.sampled_from([" | ", ",", "\t", '", "']))
def test_what_records_are_made_of_is_left_alone(values: list[str], separator: str) -> None:
    assert SEARCHER.find(separator.join(values).encode()) == []

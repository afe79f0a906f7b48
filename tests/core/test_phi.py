from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.phi import (
    CONSTANT,
    TAGS,
    ColumnFacts,
    classify,
    kind_by_name,
    propose,
    tag,
    unmatched,
)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("ssn", "ssn"),
        ("SSN", "ssn"),
        ("Social-Security_Number", "ssn"),
        ("birthDate", "date"),
        ("birth_datetime", "date"),
        ("BIRTHDATE", "date"),
        ("DRIVERS", "license"),
        ("PASSPORT", "license"),
        ("FIRST", "name"),
        ("MAIDEN", "name"),
        ("name.family", "name"),
        ("telecom", "phone"),
        ("person_source_value", "mrn"),
        ("note_text", "note"),
        ("LAT", "address"),
        ("postalCode", "zip"),
        ("member_id", "plan"),
        ("ip_address", "ip"),
        ("id", None),
        ("patient_id", None),
        ("status", None),
        ("amount", None),
    ],
)
def test_names_known_by_default(column: str, kind: str | None) -> None:
    assert kind_by_name(column) == kind


@pytest.mark.parametrize(
    ("column", "type_name", "comment", "overrides", "verdict"),
    [
        ("ssn", "text", None, {}, ("yes", "ssn")),
        ("x", "text", None, {}, ("unclassified", None)),
        # the configuration beats the comment, the comment the name
        ("ssn", "text", "phi=yes kind=name", {"s.t.ssn": "no"}, ("no", None)),
        ("ssn", "text", "phi=no", {"t.ssn": "mrn"}, ("yes", "mrn")),
        ("ssn", "text", "phi=no", {}, ("no", None)),
        ("x", "text", "The number. phi=yes kind=ssn.", {}, ("yes", "ssn")),
        ("x", "text", "PHI = YES, KIND = mrn", {}, ("yes", "mrn")),
        ("ssn", "text", "phi=yes", {}, ("yes", "ssn")),
        ("x", "text", "phi=yes", {}, ("yes", "other")),
        ("x", "text", "phi=yes kind=secret", {}, ("yes", "other")),
        # the nearest key wins
        ("x", "text", None, {"s.t.*": "no", "t.x": "phone"}, ("yes", "phone")),
        ("x", "text", None, {"t.x": "phone", "s.t.x": "no"}, ("no", None)),
        ("x", "text", None, {"t.*": "no"}, ("no", None)),
        ("x", "text", None, {"t.*": "no", "s.t.*": "email"}, ("yes", "email")),
        # an override that nobody knows masks
        ("x", "text", None, {"t.x": "NO"}, ("yes", "other")),
        ("x", "text", None, {"t.x": "harmless"}, ("yes", "other")),
        # names in overrides are as stored
        ("X", "text", None, {"t.x": "no"}, ("unclassified", None)),
        # what only mentions the words is no marker
        ("x", "text", "holds no phi", {}, ("unclassified", None)),
    ],
)
def test_order_of_classification(
    column: str,
    type_name: str,
    comment: str | None,
    overrides: dict[str, str],
    verdict: tuple[str, str | None],
) -> None:
    assert classify("s", "t", column, type_name, comment, overrides) == verdict


@pytest.mark.parametrize(
    "comment",
    ["phi=nope", "phi=", "phi=no phi=yes", "phi=no kind=ssn", "phi=yes kind=a kind=b", "phi=n0"],
)
def test_an_unreadable_marker_is_never_a_no(comment: str) -> None:
    assert classify("s", "t", "x", "text", comment, {}) == ("unclassified", None)
    assert classify("s", "t", "ssn", "text", comment, {}) == ("yes", "ssn")
    # An unclassified number would be shown, so it counts as PHI.
    assert classify("s", "t", "x", "integer", comment, {}) == ("yes", "other")


@given(st.text(), st.sampled_from(["text", "integer", "date"]))
def test_only_a_clean_marker_says_no(comment: str, type_name: str) -> None:
    phi, kind = classify("s", "t", "x", type_name, comment, {})
    assert (phi == "yes") == (kind is not None)
    if phi == "no":
        assert "phi" in comment.casefold()
        assert "no" in comment.casefold()


def test_tags() -> None:
    assert tag("ssn") == "[SSN]"
    assert tag(None) == tag("no such kind") == tag("other") == CONSTANT
    assert all(t.startswith("[") and t.endswith("]") for t in TAGS.values())
    assert len(set(TAGS.values())) == len(TAGS)


def test_proposals_come_from_names_and_types() -> None:
    def facts(column: str, type_name: str = "text") -> ColumnFacts:
        return ColumnFacts("public", "t", column, type_name)

    proposed = propose(
        [
            facts("ssn"),
            facts("amount", "numeric(10,2)"),
            facts("status"),
            facts("seen", "timestamp with time zone"),
            facts("source", "inet"),
            facts("remarks"),
        ]
    )
    assert [(p.phi, p.kind) for p in proposed] == [
        ("yes", "ssn"),
        ("no", None),
        ("no", None),
        ("yes", "date"),
        ("yes", "ip"),
        ("unclassified", None),
    ]
    assert proposed[0].column == "public.t.ssn"
    assert all(p.why for p in proposed)


def test_overrides_that_name_nothing_are_found() -> None:
    columns = [ColumnFacts("public", "t", "a", "text")]
    overrides = {"public.t.a": "no", "t.*": "no", "t.b": "ssn", "T.a": "no"}
    assert unmatched(columns, overrides) == ["T.a", "t.b"]


@pytest.mark.parametrize("column", ["ssn_num", "patient_ssn", "mrn-no", "work_phone_nr"])
def test_a_number_column_with_a_telling_part_is_phi(column: str) -> None:
    assert classify("public", "t", column, "bigint", None, {})[0] == "yes"


@pytest.mark.parametrize("column", ["session_id", "passnumber", "account_id", "date_key", "total"])
def test_a_number_column_without_one_stays_open(column: str) -> None:
    assert classify("public", "t", column, "bigint", None, {}) == ("unclassified", None)

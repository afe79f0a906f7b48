"""The demo's patients: made up, the same everywhere, and worth masking."""

from __future__ import annotations

import re

from gateway.core.mask import mask_text
from gateway.demo.data import PATIENTS, Clinic, copy_script


def test_the_same_seed_gives_the_same_rows() -> None:
    assert Clinic(7, 50).tables() == Clinic(7, 50).tables()
    assert Clinic(7, 50).tables() != Clinic(8, 50).tables()


def test_numbers_fit_their_columns_and_are_unique() -> None:
    clinic = Clinic()
    assert len(clinic.patients) == PATIENTS
    numbers = [patient[4] for patient in clinic.patients]
    assert len(set(numbers)) == PATIENTS
    assert all(re.fullmatch(r"[1-6]\d\d-\d\d-\d{4}", number) for number in numbers)
    assert not any(number.startswith("666") for number in numbers)
    assert len({patient[1] for patient in clinic.patients}) == PATIENTS


def test_references_hold() -> None:
    clinic = Clinic(1, 100)
    patients = {row[0] for row in clinic.patients}
    visits = {row[0] for row in clinic.visits}
    assert {row[1] for row in clinic.visits} <= patients
    assert {row[1] for row in clinic.claims} <= patients
    assert {row[1] for row in clinic.notes} <= visits


def test_the_numbers_are_such_that_the_masker_has_work() -> None:
    for patient in Clinic(1, 200).patients:
        assert patient[4] not in mask_text(f"ssn {patient[4]}")
        assert patient[6] not in mask_text(patient[6])


def test_the_script_copies_every_row() -> None:
    clinic = Clinic(1, 5)
    lines = copy_script(clinic).splitlines()
    rows = sum(len(table) for table in clinic.tables().values())
    assert len(lines) == rows + 2 * len(clinic.tables()) + 1
    assert lines[0] == "COPY patients FROM STDIN;"
    assert lines.count("\\.") == len(clinic.tables())
    assert not any(
        "\\" in cell for table in clinic.tables().values() for row in table for cell in row
    )

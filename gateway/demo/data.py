"""Synthetic patients, visits, claims and notes: the same for every run of one seed.

Nobody real: names are drawn from lists, numbers from a generator. The Social
Security numbers have the form of real ones, so that the masker has work to do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

SEED = 20260715
PATIENTS = 3_000

_FIRST = (
    "Ada Alma Amir Ben Bianca Carlos Chen Clara Dara David Elif Emil Esme Farid Grace "
    "Hana Hugo Ines Ivan Jada Jonas Kaya Lara Leo Lina Luis Maja Marta Milo Mina "
    "Nadia Nils Noor Olga Omar Petra Quinn Rosa Ruben Sana Silas Tara Tomas Uma Vera "
    "Victor Wanda Yara Yusuf Zoe"
).split()
_LAST = (
    "Abara Alder Baptiste Bergstrom Castillo Cohen Dabrowski Devereaux Eriksen Farouk "
    "Fontaine Garza Haddad Hargrove Ibarra Jansen Kaminski Keller Lindqvist Lombardi "
    "Marchetti Mbeki Nakamura Novak Okafor Ostrowski Pemberton Pereira Quintero "
    "Ramires Rosenthal Sandoval Schreiber Tanaka Thorne Ulrich Valdez Villanueva "
    "Whitlock Yamamoto Zielinski"
).split()
_STREETS = (
    "Birch Cedar Elm Harbor Hill Juniper Lake Maple Mill Orchard Park River Spring Walnut"
).split()
_REASONS = ("E11.9", "I10", "J06.9", "M54.5", "R07.9", "Z00.00", "Z23", "K21.9", "F41.1", "N39.0")
_STATUSES = ("paid", "paid", "paid", "open", "open", "denied", "appealed")
_COMPLAINTS = (
    "chest pain",
    "a persistent cough",
    "lower back pain",
    "fatigue",
    "a rash",
    "headaches",
)

Row = tuple[str, ...]


class Clinic:
    """One clinic's data; each table is a list of rows of text, ready for COPY.

    Args:
        seed: same seed, same rows.
        patients: how many; the other tables grow with it.
    """

    def __init__(self, seed: int = SEED, patients: int = PATIENTS) -> None:
        # Not for secrets: the rows must be the same on every machine.
        self._random = random.Random(seed)  # noqa: S311
        self.patients = [self._patient(number) for number in range(1, patients + 1)]
        self.visits = list(self._visits())
        self.claims = list(self._claims())
        self.notes = list(self._notes())

    def tables(self) -> dict[str, list[Row]]:
        """Rows by table, in an order that foreign keys allow."""
        return {
            "patients": self.patients,
            "visits": self.visits,
            "claims": self.claims,
            "notes": self.notes,
        }

    def _patient(self, number: int) -> Row:
        draw = self._random
        first, last = draw.choice(_FIRST), draw.choice(_LAST)
        born = date(1932, 1, 1) + timedelta(days=draw.randrange(33_000))
        area = draw.choice([n for n in range(100, 660, 7) if n != 666])
        # The serial follows the number, so that no two patients share one.
        ssn = f"{area:03}-{10 + number // 9000:02}-{1000 + number % 9000:04}"
        return (
            str(number),
            f"MRN-{draw.randrange(10**7, 10**8)}{number % 10}",
            first,
            last,
            ssn,
            born.isoformat(),
            f"{first}.{last}{number}@example.org".lower(),
            f"({draw.randrange(201, 990)}) 555-{draw.randrange(100, 200):04}",
            f"{draw.randrange(1, 9999)} {draw.choice(_STREETS)} Street",
            f"{draw.randrange(1000, 99950):05}",
        )

    def _visits(self) -> Iterator[Row]:
        start = datetime(2024, 1, 8, 8, tzinfo=UTC)
        for number in range(1, len(self.patients) * 2 + 1):
            at = start + timedelta(minutes=15 * self._random.randrange(70_000))
            patient = self._random.choice(self.patients)[0]
            yield str(number), patient, at.isoformat(), self._random.choice(_REASONS)

    def _claims(self) -> Iterator[Row]:
        for number in range(1, len(self.patients) * 3 + 1):
            patient = self._random.choice(self.patients)[0]
            amount = f"{self._random.randrange(2_000, 950_000) / 100:.2f}"
            yield str(number), patient, amount, self._random.choice(_STATUSES)

    def _notes(self) -> Iterator[Row]:
        by_id = {patient[0]: patient for patient in self.patients}
        for number, visit in enumerate(self.visits[::2], start=1):
            patient = by_id[visit[1]]
            text = (
                f"{patient[2]} {patient[3]}, born {patient[5]}, came in with "
                f"{self._random.choice(_COMPLAINTS)}. "
                f"Reached at {patient[7]}; SSN on file {patient[4]}. "
                f"Plan: follow-up in {self._random.randrange(1, 12)} weeks."
            )
            yield str(number), visit[0], text


def copy_script(clinic: Clinic) -> str:
    """All rows as one psql script of COPY … FROM STDIN blocks."""
    parts: list[str] = []
    for table, rows in clinic.tables().items():
        parts.append(f"COPY {table} FROM STDIN;")
        parts += ["\t".join(row) for row in rows]
        parts.append("\\.")
    parts.append("ANALYZE;\n")
    return "\n".join(parts)

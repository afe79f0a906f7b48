"""Which columns hold protected health information, and of which kind.

The kinds follow the 18 identifiers of 45 CFR 164.514(b)(2); names are the ones
that FHIR, OMOP and Synthea use, and common ones. A column is judged by, in this
order: the configuration, its comment, its name; else it is unclassified.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.sql.catalog import Phi, is_shown_type

CONSTANT = "[PHI]"
"""What a cell shows that is no plain copy of one classified column."""

TAGS: Mapping[str, str] = {
    "name": "[NAME]",
    "address": "[ADDRESS]",
    "zip": "[ZIP]",
    "date": "[DATE]",
    "age": "[AGE]",
    "phone": "[PHONE]",
    "email": "[EMAIL]",
    "ssn": "[SSN]",
    "mrn": "[MRN]",
    "plan": "[PLAN]",
    "account": "[ACCOUNT]",
    "license": "[LICENSE]",
    "vehicle": "[VEHICLE]",
    "device": "[DEVICE]",
    "url": "[URL]",
    "ip": "[IP]",
    "biometric": "[BIOMETRIC]",
    "photo": "[PHOTO]",
    "note": "[NOTE]",
    "other": CONSTANT,
}
"""Kinds of PHI and the tag that a plain copy shows. ``plan`` is a health plan
beneficiary number, ``note`` free text, ``other`` any unique identifier."""

# Written as one splits them; matched without case, blanks, "_", "-" and ".".
_DEFAULT_NAMES: Mapping[str, str] = {
    "name": (
        "name first_name last_name middle_name full_name display_name maiden maiden_name first "
        "last middle given given_name family family_name surname forename fname lname nickname "
        "alias patient_name member_name person_name mother_maiden_name mothers_maiden_name "
        "guarantor_name emergency_contact contact_name next_of_kin name.family name.given "
        "name.text name.prefix name.suffix prefix suffix"
    ),
    "address": (
        "address address1 address2 address_line address_line1 address_line2 addr street "
        "street_address home_address mailing_address address_1 address_2 address.line address.city "
        "address.district address.text address.postalCode city town county lat lon latitude "
        "longitude birthplace birth_place geocode location_source_value"
    ),
    "zip": "zip zip_code zip5 zip9 zipcode postal_code postcode",
    "date": (
        "dob birth_date birthdate date_of_birth birth_datetime birthday birth_time day_of_birth "
        "month_of_birth death_date death_datetime deathdate date_of_death deceased_date dod "
        "deceasedDateTime admission_date admit_date discharge_date visit_date visited_at "
        "service_date date_of_service dos visit_start_date visit_end_date visit_start_datetime "
        "visit_end_datetime encounter_date appointment_date"
    ),
    "age": "age age_years age_at_visit",
    "phone": (
        "phone phone_number telephone tel mobile mobile_phone cell cell_phone home_phone "
        "work_phone fax fax_number telecom telecom.value contact_phone emergency_phone "
        "phone1 phone2"
    ),
    "email": "email email_address e_mail mail contact_email",
    "ssn": (
        "ssn ssn4 last4_ssn ssn_last4 social_security_number social_security social_security_no "
        "tax_id tin itin"
    ),
    "mrn": (
        "mrn medical_record_number medical_record_no record_number chart_number patient_number "
        "person_source_value patient_source_value identifier.value identifier"
    ),
    "plan": (
        "member_id member_number subscriber_id beneficiary_id beneficiary_number mbi hicn "
        "medicare_id medicaid_id policy_number insurance_id health_plan_id group_number"
    ),
    "account": "account account_number account_no acct iban card_number credit_card cc_number",
    "license": (
        "license licence license_number drivers drivers_license driver_license dl_number passport "
        "passport_number certificate_number dea dea_number npi"
    ),
    "vehicle": "vin vehicle_id license_plate plate_number vehicle_identification_number",
    "device": "device_id device_serial serial_number udi imei mac_address device_identifier imsi",
    "url": "url website homepage profile_url web_address",
    "ip": "ip ip_address ip_addr ipv4 ipv6 client_ip remote_addr remote_ip",
    "biometric": "biometric fingerprint voiceprint retina iris_scan face_print dna_sequence",
    "photo": "photo photograph picture portrait face_image image selfie avatar",
    "note": (
        "note notes note_text note_title comment comments clinical_note free_text narrative "
        "chief_complaint history_of_present_illness assessment text.div report_text value_as_string"
    ),
}


def _fold(name: str) -> str:
    return re.sub(r"[\s_.\-]+", "", name).casefold()


_KIND_BY_NAME: Mapping[str, str] = {
    _fold(name): kind for kind, names in _DEFAULT_NAMES.items() for name in names.split()
}


def tag(kind: str | None) -> str:
    """What a masked cell of that kind shows; the constant for None and unknown kinds."""
    return TAGS.get(kind, CONSTANT) if kind else CONSTANT


def kind_by_name(column: str) -> str | None:
    """The kind that a column's name alone suggests, or None.

    Case, blanks, ``_``, ``-`` and ``.`` in the name do not matter.
    """
    return _KIND_BY_NAME.get(_fold(column))


_NUMBER_KINDS = frozenset({"ssn", "mrn", "phone"})


def _kind_by_part(column: str) -> str | None:
    """The kind that a part of a number column's name tells, as in ``ssn_num``.

    Text that nobody classified is masked anyway; a number would be shown.
    """
    kinds = (_KIND_BY_NAME.get(part) for part in re.split(r"[^a-z0-9]+", column.lower()))
    return next((kind for kind in kinds if kind in _NUMBER_KINDS), None)


def classify(
    schema: str,
    table: str,
    column: str,
    type_name: str,
    comment: str | None,
    overrides: Mapping[str, str],
) -> tuple[Phi, str | None]:
    """Judge one column.

    Args:
        schema, table, column: as stored (unquoted, case kept).
        type_name: as ``format_type`` prints it.
        comment: its COMMENT ON COLUMN; ``phi=yes``, ``phi=yes kind=ssn`` or ``phi=no``
            anywhere in it is a marker. A marker that cannot be read never means
            no: the name decides, else the column counts as unclassified, and as
            PHI where an unclassified one would be shown.
        overrides: ``schema.table.column``, ``table.column``, ``schema.table.*`` or
            ``table.*`` (the first of these that is there wins, names exactly as
            stored) to ``no`` or a kind; any other value masks as ``other``.

    Returns:
        yes, no or unclassified; and the kind, set if and only if it is yes.
    """
    configured = _override(schema, table, column, overrides)
    if configured is not None:
        return ("no", None) if configured == "no" else ("yes", _known(configured))
    by_name = kind_by_name(column)
    marker = _marker(comment or "")
    if marker == "no":
        return "no", None
    if marker is not None and marker != "unreadable":
        return "yes", by_name or "other" if marker == "yes" else _known(marker)
    if by_name is not None:
        return "yes", by_name
    if is_shown_type(type_name) and (part := _kind_by_part(column)) is not None:
        return "yes", part
    if marker == "unreadable" and is_shown_type(type_name):
        return "yes", "other"
    return "unclassified", None


def _known(kind: str) -> str:
    return kind if kind in TAGS else "other"


def _override_keys(schema: str, table: str, column: str) -> tuple[str, ...]:
    return (f"{schema}.{table}.{column}", f"{table}.{column}", f"{schema}.{table}.*", f"{table}.*")


def _override(schema: str, table: str, column: str, overrides: Mapping[str, str]) -> str | None:
    keys = _override_keys(schema, table, column)
    return next((overrides[key] for key in keys if key in overrides), None)


_MARKER = re.compile(r"\b(phi|kind)\s*=\s*([^\s,;]*)", re.IGNORECASE)


def _marker(comment: str) -> str | None:
    """``no``, ``yes``, a kind, ``unreadable``, or None where there is no marker."""
    found = [(m[1].lower(), m[2].rstrip(".").lower()) for m in _MARKER.finditer(comment)]
    verdicts = {value for key, value in found if key == "phi"}
    kinds = {value for key, value in found if key == "kind"}
    if not verdicts:
        return None
    if len(verdicts) > 1 or len(kinds) > 1 or not verdicts <= {"yes", "no"}:
        return "unreadable"
    if verdicts == {"no"}:
        return "unreadable" if kinds else "no"
    return next(iter(kinds), "yes")


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What ``propose`` may look at: names and types, never a value."""

    schema: str
    table: str
    column: str
    type_name: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed classification.

    Attributes:
        column: ``schema.table.column``.
        phi: what to write into the configuration; unclassified stays for people.
        kind: set if phi is yes.
        why: for the person who decides.
    """

    column: str
    phi: Phi
    kind: str | None
    why: str


_KEY_NAME = re.compile(r"(?:^|_)(?:id|key|count|qty|quantity|amount|total|status|code|type|flag)$")
_DATE_TYPES = ("date", "timestamp", "time")


def propose(columns: Iterable[ColumnFacts]) -> list[Proposal]:
    """Propose ``phi = yes | no`` for columns by their names and types alone.

    A proposal is for people to confirm: it writes nothing and reveals nothing.
    """
    return [_propose(c) for c in columns]


def _propose(facts: ColumnFacts) -> Proposal:
    name = f"{facts.schema}.{facts.table}.{facts.column}"
    kind = kind_by_name(facts.column)
    if kind is not None:
        return Proposal(name, "yes", kind, f"the name says {kind}")
    if facts.type_name.startswith(_DATE_TYPES):
        return Proposal(name, "yes", "date", "dates finer than a year are identifiers")
    if facts.type_name in ("inet", "cidr", "macaddr", "macaddr8"):
        return Proposal(name, "yes", "ip", "a network address")
    if is_shown_type(facts.type_name):
        return Proposal(name, "no", None, "a number or boolean with no telling name")
    if _KEY_NAME.search(facts.column.lower()):
        return Proposal(name, "no", None, "the name says a code, a status or a key")
    return Proposal(name, "unclassified", None, "could hold an identifier; masked until decided")


def unmatched(columns: Iterable[ColumnFacts], overrides: Mapping[str, str]) -> list[str]:
    """Override keys that name no column, sorted: most likely mistyped."""
    used = {k for c in columns for k in _override_keys(c.schema, c.table, c.column)}
    return sorted(set(overrides) - used)

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import NoteInvalid, SignatureInvalid
from recorder.note import (
    Checkpoint,
    VerificationKey,
    checkpoint_text,
    format_vkey,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    public_key,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
    verify_note,
)
from tests.recorder.records import KEY, LOG_SEED

PUBLISHED_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLISHED_TEXT = "This is an example message.\n"
PUBLISHED_SIGNATURE = (
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
)
PUBLISHED_NOTE = f"{PUBLISHED_TEXT}\n— example.com/foo {PUBLISHED_SIGNATURE}\n"

ROOT = bytes(range(32))
CHECKPOINT = Checkpoint(KEY.name, 7, ROOT)
NOTE = sign_checkpoint(CHECKPOINT, LOG_SEED)


def test_the_published_note_verifies() -> None:
    key = parse_vkey(PUBLISHED_VKEY)
    assert format_vkey(key) == PUBLISHED_VKEY
    assert key.key_id.hex() == "530d903a"
    assert verify_note(PUBLISHED_NOTE, key) == PUBLISHED_TEXT


def test_a_checkpoint_is_three_lines_and_reads_back() -> None:
    encoded = base64.b64encode(ROOT).decode()
    assert checkpoint_text(CHECKPOINT) == f"log.example/clinic\n7\n{encoded}\n"
    assert verify_checkpoint(NOTE, KEY) == CHECKPOINT


def test_other_signatures_are_ignored_and_none_is_not_enough() -> None:
    stranger = bytes(32)
    line = sign_note(checkpoint_text(CHECKPOINT), "witness.example", stranger).rsplit("\n\n", 1)[1]
    assert verify_checkpoint(NOTE + line, KEY) == CHECKPOINT
    only = checkpoint_text(CHECKPOINT) + "\n" + line
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(only, KEY)


def test_the_same_name_with_another_key_is_another_key() -> None:
    other = VerificationKey(KEY.name, public_key(bytes(32)))
    with pytest.raises(SignatureInvalid):
        verify_checkpoint(NOTE, other)


def test_a_bad_signature_by_the_right_key_is_not_outvoted_by_a_good_one() -> None:
    bad = sign_checkpoint(Checkpoint(KEY.name, 8, ROOT), LOG_SEED).rsplit("\n\n", 1)[1]
    for note in (NOTE + bad, NOTE.replace("\n\n", "\n\n" + bad)):
        with pytest.raises(SignatureInvalid):
            verify_checkpoint(note, KEY)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    note = sign_note(checkpoint_text(Checkpoint("other.example", 7, ROOT)), KEY.name, LOG_SEED)
    with pytest.raises(NoteInvalid):
        verify_checkpoint(note, KEY)


def test_every_changed_character_of_a_note_is_refused() -> None:
    for at in range(len(NOTE)):
        for letter in "A\n ":
            if NOTE[at] != letter:
                with pytest.raises((NoteInvalid, SignatureInvalid)):
                    verify_checkpoint(NOTE[:at] + letter + NOTE[at + 1 :], KEY)
        with pytest.raises((NoteInvalid, SignatureInvalid)):
            verify_checkpoint(NOTE[:at] + NOTE[at + 1 :], KEY)
        with pytest.raises((NoteInvalid, SignatureInvalid)):
            verify_checkpoint(NOTE[:at], KEY)


@given(st.data())
def test_random_changes_of_a_note_are_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(NOTE)))
    end = data.draw(st.integers(at, len(NOTE)))
    changed = NOTE[:at] + data.draw(st.text(max_size=20)) + NOTE[end:]
    if changed == NOTE:
        return
    with pytest.raises((NoteInvalid, SignatureInvalid)):
        verify_checkpoint(changed, KEY)


@given(st.text(max_size=300))
def test_the_parsers_raise_only_their_own_error(text: str) -> None:
    for parse in (parse_note, parse_checkpoint, parse_vkey):
        with pytest.raises(NoteInvalid):
            parse(text)


@pytest.mark.parametrize(
    "vkey",
    [
        PUBLISHED_VKEY.replace("530d903a", "530d903b"),
        PUBLISHED_VKEY.replace("530d903a", "530D903A"),
        PUBLISHED_VKEY.replace("example.com/foo", "example.com/bar"),
        PUBLISHED_VKEY.replace("+Aek", "+Bek"),
        PUBLISHED_VKEY[:-1],
        PUBLISHED_VKEY + "=",
        "",
    ],
)
def test_a_changed_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteInvalid):
        parse_vkey(vkey)


@pytest.mark.parametrize(
    "text",
    [
        "log\n7\n",
        "log\n07\n" + base64.b64encode(ROOT).decode() + "\n",
        "log\n-7\n" + base64.b64encode(ROOT).decode() + "\n",
        "log\n7\n" + base64.b64encode(ROOT[:-1]).decode() + "\n",
        "log\n7\n" + base64.b64encode(ROOT).decode() + "\nextension\n",
        "a log\n7\n" + base64.b64encode(ROOT).decode() + "\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        parse_checkpoint(text)


@pytest.mark.parametrize("text", ["no line feed", "a\x00b\n", "tab\t\n", "\ud800\n"])
def test_a_text_that_no_note_may_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteInvalid):
        sign_note(text, KEY.name, LOG_SEED)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n"])
def test_a_name_that_no_key_may_have_is_not_signed_with(name: str) -> None:
    with pytest.raises(NoteInvalid):
        sign_note("text\n", name, LOG_SEED)


def test_a_note_has_a_size_limit() -> None:
    with pytest.raises(NoteInvalid, match="longer"):
        parse_note("x" * 70_000)
    with pytest.raises(NoteInvalid, match="many"):
        parse_note(NOTE + NOTE.rsplit("\n\n", 1)[1] * 64)

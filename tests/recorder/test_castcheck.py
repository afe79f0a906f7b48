"""Every change of a cast shows, and the first bad line is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.castcheck import Closing, Expectation, check_cast
from recorder.chain import Chain, inner_digest, salt_for
from recorder.report import CastReport, State
from recorder.salts import erased_line, salt_line, salts_path
from recorder.verify import verify_cast
from tests.recorder.records import GENESIS, SEED, closed_cast, new_writer

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return closed_cast(tmp_path).path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def with_lines(path: Path, lines: list[bytes]) -> CastReport:
    path.write_bytes(b"".join(lines))
    return verify_cast(path)


def bad_line(report: CastReport) -> int | None:
    assert report.state is State.NOT_INTACT
    assert report.problem is not None
    return report.problem.line


def test_an_untouched_cast_is_intact_and_complete(path: Path) -> None:
    report = verify_cast(path)
    assert report.state is State.INTACT
    assert report.complete
    assert report.proven_lines == report.lines == len(lines_of(path))
    assert report.session == "s1"
    assert list(report.text())


def test_every_one_byte_change_fails_and_its_line_is_named(path: Path) -> None:
    whole = path.read_bytes()
    for at, byte in enumerate(whole):
        path.write_bytes(whole[:at] + bytes([byte ^ 1]) + whole[at + 1 :])
        assert bad_line(verify_cast(path)) == whole[:at].count(b"\n") + 1, at


@in_one_folder
@given(st.data())
def test_any_other_byte_fails_too(path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    report = verify_cast(path)
    path.write_bytes(whole)
    assert bad_line(report) == whole[:at].count(b"\n") + 1


def test_every_one_byte_change_of_the_salts_fails_and_the_line_is_named(path: Path) -> None:
    salts = salts_path(path)
    whole = salts.read_bytes()
    for at, byte in enumerate(whole):
        salts.write_bytes(whole[:at] + bytes([byte ^ 1]) + whole[at + 1 :])
        assert bad_line(verify_cast(path)) == whole[:at].count(b"\n") + 1, at


def test_every_deleted_line_fails_but_the_last_which_looks_like_a_crash(path: Path) -> None:
    lines = lines_of(path)
    for at in range(len(lines) - 1):
        assert bad_line(with_lines(path, lines[:at] + lines[at + 1 :])) == at + 1
    report = with_lines(path, lines[:-1])
    assert (report.state, report.missing_lines, report.complete) == (State.INTACT, 1, False)
    assert report.unproven_lines == 1


def test_every_moved_or_swapped_line_fails(path: Path) -> None:
    lines = lines_of(path)
    for at in range(len(lines)):
        for to in range(len(lines)):
            if at == to:
                continue
            moved = lines[:at] + lines[at + 1 :]
            moved.insert(to, lines[at])
            assert bad_line(with_lines(path, moved)) == min(at, to) + 1
            swapped = list(lines)
            swapped[at], swapped[to] = swapped[to], swapped[at]
            assert bad_line(with_lines(path, swapped)) == min(at, to) + 1


@pytest.mark.parametrize("added", [b"\n", b"x", b'[60.000000,"o","added"]\n', b"[", None])
def test_every_added_line_fails(path: Path, added: bytes | None) -> None:
    lines = lines_of(path)
    for at in range(len(lines) + 1):
        new = lines[max(0, at - 1)] if added is None else added
        report = with_lines(path, [*lines[:at], new, *lines[at:]])
        # A copy of a line bends the record only after it.
        assert bad_line(report) == (2 if added is None and at == 0 else at + 1)


def test_truncation_at_each_byte_never_proves_more_than_is_there(path: Path) -> None:
    whole = path.read_bytes()
    heads = [n for n, line in enumerate(lines_of(path), 1) if b',"h","' in line]
    header_end = whole.index(b"\n") + 1
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        report = verify_cast(path)
        if size < header_end:
            assert report.state is State.UNREADABLE, size
            continue
        complete_lines = whole[:size].count(b"\n")
        assert report.state is State.INTACT, size
        assert not report.complete
        assert report.lines == complete_lines
        assert report.proven_lines == max((n for n in heads if n <= complete_lines), default=0)
        assert bool(report.torn_bytes) == (not whole[:size].endswith(b"\n"))


def test_torn_salts_prove_up_to_the_last_head_before_the_tear(path: Path) -> None:
    salts = salts_path(path)
    whole = salts.read_bytes()
    heads = [n for n, line in enumerate(lines_of(path), 1) if b',"h","' in line]
    for size in range(len(whole)):
        salts.write_bytes(whole[:size])
        report = verify_cast(path)
        there = whole[:size].count(b"\n")
        if size % 130 == 0:
            # No crash cuts between lines: salts are durable before their lines.
            assert bad_line(report) == there + 1
        elif there == 0:
            assert report.state is State.UNREADABLE
        else:
            assert report.state is State.INTACT, size
            assert report.proven_lines == max((n for n in heads if n <= there), default=0)
            assert report.unproven_lines == report.lines - report.proven_lines > 0


def test_missing_salts_are_unreadable(path: Path) -> None:
    salts_path(path).unlink()
    report = verify_cast(path)
    assert report.state is State.UNREADABLE
    assert report.problem is not None
    assert "salts" in report.problem.reason


def test_a_missing_cast_and_what_is_no_file_are_unreadable(tmp_path: Path) -> None:
    assert verify_cast(tmp_path / "none.cast").state is State.UNREADABLE
    os.mkfifo(tmp_path / "pipe.cast")
    assert verify_cast(tmp_path / "pipe.cast").state is State.UNREADABLE
    assert verify_cast(tmp_path).state is State.UNREADABLE


def test_wide_permissions_are_remarked(path: Path) -> None:
    salts_path(path).chmod(0o640)
    report = verify_cast(path)
    assert report.state is State.INTACT
    assert any("0600" in remark for remark in report.remarks)


def rewrite(path: Path, change: Callable[[list[bytes]], None], *, heads: bool) -> str:
    """Forge with all that lies on the disk: lines, salts and, if asked, every head."""
    lines = lines_of(path)
    change(lines)
    chain, proofs = Chain(GENESIS), []
    for index, old in enumerate(lines):
        line = old
        if heads and b',"h","' in old:
            time = old.split(b",", 1)[0].decode()
            line = f'{time},"h","{chain.lines}:{chain.head}"]\n'.encode()
        lines[index] = line
        salt = salt_for(SEED, index)
        proofs.append(salt_line(salt, chain.add(salt, line)))
    path.write_bytes(b"".join(lines))
    salts_path(path).write_bytes(b"".join(proofs))
    return chain.head


def forge_line_4(lines: list[bytes]) -> None:
    lines[3] = lines[3].replace(b"allow", b"denyX")


def test_a_line_that_was_changed_with_its_digest_fails_at_the_next_head(path: Path) -> None:
    rewrite(path, forge_line_4, heads=False)
    report = verify_cast(path)
    assert bad_line(report) == 3
    assert report.problem is not None
    assert "lines 3 to 7" in report.problem.reason
    assert report.problem.expected.startswith("6:")


def test_a_head_has_the_time_of_the_line_before_it(path: Path) -> None:
    def delay_the_head(lines: list[bytes]) -> None:
        lines[6] = lines[6].replace(b"[0.5", b"[0.6")

    rewrite(path, delay_the_head, heads=False)
    assert bad_line(verify_cast(path)) == 7


def test_a_recomputed_chain_passes_alone_and_fails_against_the_ledger(path: Path) -> None:
    honest = verify_cast(path)
    rewrite(path, forge_line_4, heads=True)
    alone = verify_cast(path)
    assert alone.state is State.INTACT
    assert any("ledger" in remark for remark in alone.remarks)
    known = Expectation("s1", None, {honest.lines: honest.root}, Closing(honest.lines, honest.root))
    assert bad_line(check_cast(path, known)) == 1


def test_a_cut_at_a_head_fails_against_the_ledger(path: Path) -> None:
    honest = verify_cast(path)
    known = Expectation("s1", None, {honest.lines: honest.root}, Closing(honest.lines, honest.root))
    assert check_cast(path, known).state is State.INTACT
    lines, salts = lines_of(path), lines_of(salts_path(path))
    salts_path(path).write_bytes(b"".join(salts[:7]))
    assert with_lines(path, lines[:7]).complete
    assert bad_line(check_cast(path, known)) == 8


def test_lines_added_with_salts_fail_against_the_ledger_only(path: Path) -> None:
    honest = verify_cast(path)
    known = Expectation("s1", None, {honest.lines: honest.root}, Closing(honest.lines, honest.root))
    rewrite(path, lambda lines: lines.append(b'[60.000000,"o","added"]\n'), heads=False)
    alone = verify_cast(path)
    assert (alone.state, alone.unproven_lines) == (State.INTACT, 1)
    assert bad_line(check_cast(path, known)) == honest.lines + 1


def test_header_and_anchors_of_another_session_fail(path: Path) -> None:
    assert bad_line(check_cast(path, Expectation("s2"))) == 1
    assert bad_line(check_cast(path, Expectation("s1", "ff" * 32))) == 1
    assert check_cast(path, Expectation("s1", GENESIS.hex())).state is State.INTACT
    assert bad_line(check_cast(path, Expectation("s1", None, {7: "ff" * 32}))) == 1


def test_a_session_that_closed_after_its_recording_failed_keeps_what_is_there(path: Path) -> None:
    lines = len(lines_of(path))
    assert check_cast(path, Expectation("s1", None, {}, Closing(lines, None))).complete
    assert bad_line(check_cast(path, Expectation("s1", None, {}, Closing(lines + 1, None))))


def test_an_erased_line_is_counted_and_the_rest_still_proves(path: Path) -> None:
    lines, salts = lines_of(path), lines_of(salts_path(path))
    salts[3] = erased_line(inner_digest(salt_for(SEED, 3), lines[3]))
    salts_path(path).write_bytes(b"".join(salts))
    assert bad_line(verify_cast(path)) == 4
    lines[3] = b'[0.000000,"m","[erased]"]\n'
    report = with_lines(path, lines)
    assert (report.state, report.erased_lines, report.complete) == (State.INTACT, 1, True)
    lines[3] = b'[0.000000,"m","invented"]\n'
    assert bad_line(with_lines(path, lines)) == 4


def test_a_header_cannot_be_erased(path: Path) -> None:
    lines, salts = lines_of(path), lines_of(salts_path(path))
    salts[0] = erased_line(inner_digest(salt_for(SEED, 0), lines[0]))
    salts_path(path).write_bytes(b"".join(salts))
    assert bad_line(verify_cast(path)) == 1


def test_a_line_over_the_limit_is_named(path: Path) -> None:
    lines = lines_of(path)
    lines[4] = b"x" * 70_000 + b"\n"
    assert bad_line(with_lines(path, lines)) == 5
    assert bad_line(with_lines(path, [*lines_of(path)[:4], b"x" * 70_000])) == 5


@in_one_folder
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_noise_is_reported_and_never_raised(tmp_path: Path, cast: bytes, salts: bytes) -> None:
    path = tmp_path / "noise.cast"
    path.write_bytes(cast)
    salts_path(path).write_bytes(salts)
    assert verify_cast(path).state is not State.INTACT


def test_a_growing_cast_is_intact_at_each_moment(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    for number in range(20):
        writer.write("o", "x" * 100, number)
        writer.head()
        writer.sync()
        assert verify_cast(writer.path).complete
    writer.close()

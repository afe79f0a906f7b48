"""Levels are tried and chosen; the filter, the loader's list and the users behind them."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from gateway.edge.sandbox import levels, seccomp
from gateway.edge.sandbox.levels import Level, Trial, available, choose
from gateway.edge.sandbox.orders import ChildLimits, write_order
from gateway.edge.sandbox.programs import examine, find_psql
from gateway.edge.sandbox.syscalls import ALLOWED, JUDGED
from gateway.edge.sandbox.users import CHILD_UIDS, lend_user
from gateway.edge.sandbox.zygote import decode_order, encode_order
from gateway.errors import GatewayFault

_UNISTD_X86_64 = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def test_some_level_confines_here() -> None:
    found = available()
    print("sandbox levels that work here:", *found)
    assert found == tuple(level for level in Level if level in found)  # best first
    assert found[0] is not Level.NONE, [levels.try_level(level) for level in Level]
    assert choose("none") is found[0]


def test_where_bubblewrap_works_at_all_namespaces_do() -> None:
    plain = ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true"]
    works = False
    if shutil.which("bwrap") is not None:
        user = "nobody" if os.geteuid() == 0 else None
        works = subprocess.run(plain, user=user, capture_output=True, check=False).returncode == 0
    if not works:
        print("NOT CHECKED: the level namespaces, for want of bubblewrap or user namespaces")
    assert levels.try_level(Level.NAMESPACES).works == works


def test_below_the_required_level_is_a_fault_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_none(level: Level) -> Trial:
        return Trial(True) if level is Level.NONE else Trial(False, "a reason")

    monkeypatch.setattr(levels, "try_level", only_none)
    assert available() == (Level.NONE,)
    assert choose("none") is Level.NONE
    for required, remedy in (("confined", "landlock"), ("namespaces", "bubblewrap")):
        with pytest.raises(GatewayFault) as raised:
            choose(required)
        assert "a reason" in raised.value.reason
        assert remedy in raised.value.advice


def test_orders_survive_the_wire() -> None:
    order = write_order(
        Level.CONFINED,
        examine(find_psql()),
        ("-c", "\udcff é"),
        {"LANG": "C.UTF-8"},
        socket_dir=None,
        uid=None,
        limits=ChildLimits(),
    )
    again = decode_order(encode_order(order))
    assert again._replace(limits=[(a, b) for a, b in again.limits]) == order


class Machine:
    """Runs a seccomp filter as the kernel would: the few instructions that it has."""

    def __init__(self, program: bytes) -> None:
        self._code = list(struct.iter_unpack("=HBBI", program))

    def judge(self, audit: int, number: int, *arguments: int) -> int:
        """The filter's return value for one call."""
        filled = (*arguments, *(0,) * (6 - len(arguments)))
        data = struct.pack("=IIQ6Q", number, audit, 0, *filled)
        at, loaded = 0, 0
        while True:
            operation, if_true, if_false, value = self._code[at]
            at += 1
            if operation == 0x06:
                return int(value)
            if operation == 0x20:
                loaded = struct.unpack_from("=I", data, value)[0]
                continue
            held = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}
            at += if_true if held[operation] else if_false


_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_LOOKING = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_CHANGING = (
    *(
        0x5402,
        0x5403,
        0x5404,
        0x402C542B,
        0x5409,
        0x540A,
        0x540B,
    ),  # TCSETS*, TCSBRK, -XONC, -FLSH
    *(0x540E, 0x5410, 0x5412, 0x5414, 0x541C),  # TIOCSCTTY, -SPGRP, -STI, -SWINSZ, -LINUX
    *(0x541D, 0x5422, 0x5423, 0x5441, 0x5452),  # TIOCCONS, -NOTTY, -SETD, -GPTPEER, FIOASYNC
    *(0x8912, 0x8927, 0xC0045878, 0),  # SIOCGIFCONF, SIOCGIFHWADDR, FIFREEZE
)
_EPERM, _ENOSYS, _EAFNOSUPPORT = 0x50001, 0x50026, 0x50061


@pytest.mark.parametrize("name", seccomp.ARCHITECTURES)
def test_the_filter_allows_what_is_listed_and_nothing_else(name: str) -> None:
    audit, column = seccomp.ARCHITECTURES[name]
    machine = Machine(seccomp.assemble(name, 77))
    allowed = {numbers[column] for numbers in ALLOWED.values()} - {None}
    judged = {numbers[column] for numbers in JUDGED.values()}
    assert not allowed & judged
    for number in range(600):
        if number not in judged:
            expected = _ALLOW if number in allowed else _ENOSYS
            assert machine.judge(audit, number) == expected
    assert machine.judge(0x40000003, 3) == _KILL  # 32-bit calls have other numbers
    if name == "x86_64":
        assert machine.judge(audit, 0x40000000 | 1) == _KILL


@pytest.mark.parametrize("name", seccomp.ARCHITECTURES)
def test_the_filter_judges_arguments(name: str) -> None:
    audit, column = seccomp.ARCHITECTURES[name]
    machine = Machine(seccomp.assemble(name, 77))

    def judge(call: str, *arguments: int) -> int:
        number = JUDGED[call][column]
        assert number is not None
        return machine.judge(audit, number, *arguments)

    assert judge("socket", 1, 1) == _ALLOW
    assert {judge("socket", family) for family in (0, 2, 10, 16, 17, 40)} == {_EAFNOSUPPORT}
    assert judge("clone", 0x003D0F00) == _ALLOW  # as pthread_create calls it
    assert judge("clone", 17) == judge("clone", 0x10000000 | 17) == _EPERM
    assert judge("tgkill", 77) == judge("kill", 77) == _ALLOW
    assert {judge("kill", pid) for pid in (0, 1, 78, 0xFFFFFFFF)} == {_EPERM}
    assert judge("prlimit64", 0) == judge("prlimit64", 77) == _ALLOW
    assert judge("prlimit64", 78) == _EPERM
    assert {judge("ioctl", 1, request) for request in _LOOKING} == {_ALLOW}
    assert {judge("ioctl", 1, request) for request in _CHANGING} == {_EPERM}
    assert judge("ioctl", 1, 0xFF00005412) == _EPERM  # the kernel reads the low half only


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(OSError, match="riscv64"):
        seccomp.assemble("riscv64", None)


def test_the_numbers_are_the_kernels() -> None:
    if not _UNISTD_X86_64.exists():
        pytest.skip("NOT CHECKED: the kernel's headers are not installed")
    header = _UNISTD_X86_64.read_text()
    real = {m[1]: int(m[2]) for m in re.finditer(r"__NR_(\w+)\s+(\d+)", header)}
    for name, (number, _) in (ALLOWED | JUDGED).items():
        assert real[name] == number, name


def test_what_must_not_be_listed() -> None:
    forbidden = (
        "ptrace process_vm_readv process_vm_writev mount umount2 pivot_root chroot bpf keyctl "
        "add_key userfaultfd io_uring_setup perf_event_open unshare setns memfd_create execveat "
        "bind listen accept sendmsg prctl seccomp fork vfork clone3 setsid setpgid link rename "
        "unlink mknod truncate chmod pidfd_getfd pidfd_send_signal kcmp quotactl swapon reboot"
    )
    assert not set(forbidden.split()) & set(ALLOWED | JUDGED)


def test_a_program_needs_its_libraries_and_its_interpreter() -> None:
    psql = examine(find_psql())
    names = [Path(name).name for name, _ in psql.files]
    assert any(name.startswith("libpq") for name in names)
    assert any(name.startswith("libc.so") for name in names)
    assert Path(psql.interpreter).name.startswith("ld-")
    assert all(Path(real).exists() and not Path(real).is_symlink() for _, real in psql.files)


def test_a_script_is_no_program(tmp_path: Path) -> None:
    script = tmp_path / "psql"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(GatewayFault, match="binary"):
        examine(script)


def test_each_child_of_root_has_a_user_of_its_own() -> None:
    with lend_user() as first, lend_user() as second:
        if os.geteuid() != 0:
            assert first is None
            assert second is None
        else:
            assert first in CHILD_UIDS
            assert second in CHILD_UIDS
            assert first != second

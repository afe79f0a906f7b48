"""The upstream login against servers that lie, in any cut of their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramMechanism

from gateway.errors import TargetUnavailable
from gateway.guards.pgwire import codec
from gateway.guards.pgwire.codec import frame
from gateway.guards.pgwire.login import Login, LoginRequest
from gateway.guards.pgwire.notices import own_error
from gateway.guards.pgwire.settings import session_sql

PASSWORD = "correct horse"
OK = frame("R", bytes(4))
REQUEST = LoginRequest("u", "d", PASSWORD)
IDLE = (
    codec.parameter_status("standard_conforming_strings", "on")
    + codec.parameter_status("client_encoding", "UTF8")
    + frame("K", b"\0\0\0\x01SECR")
    + codec.ready("I")
)


def sasl(method: int, body: bytes) -> bytes:
    return frame("R", method.to_bytes(4, "big") + body)


def scram(server_password: str, login: Login, *, binding: bytes | None = None) -> bytes:
    """Play an honest server with that password up to its proof; the proof is returned."""
    name = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    mechanism = ScramMechanism(name)
    known = mechanism.make_auth_info(server_password)
    server = mechanism.make_server(
        lambda user: known,
        channel_binding=("tls-server-end-point", binding) if binding else None,
    )
    offer = name.encode() + b"\0" + (b"SCRAM-SHA-256\0" if binding else b"") + b"\0"
    first = login.receive(sasl(10, offer))
    assert first[5:].startswith(name.encode() + b"\0")
    server.set_client_first(first[5 + len(name) + 5 :].decode())
    final = login.receive(sasl(11, server.get_server_first().encode()))
    server.set_client_final(final[5:].decode())
    return sasl(12, server.get_server_final().encode())


@pytest.mark.parametrize("binding", [None, b"x" * 32])
def test_scram_proves_both_sides(binding: bytes | None) -> None:
    login = Login(LoginRequest("u", "d", PASSWORD, channel_binding=binding))
    assert PASSWORD.encode() not in login.start()
    login.receive(scram(PASSWORD, login, binding=binding))
    assert login.receive(OK + IDLE) == b""
    assert login.done
    assert login.parameters["client_encoding"] == "UTF8"
    assert login.key == codec.BackendKey(1, b"SECR")


def test_a_server_that_proves_nothing_is_left() -> None:
    login = Login(REQUEST)
    scram(PASSWORD, login)  # its proof is withheld
    with pytest.raises(TargetUnavailable, match="did not prove"):
        login.receive(OK)
    for proof in (b"v=AAAA", b"e=other-error", b"\xff", b""):
        login = Login(REQUEST)
        scram(PASSWORD, login)
        with pytest.raises(TargetUnavailable, match="did not prove"):
            login.receive(sasl(12, proof))


@pytest.mark.parametrize("method", [2, 3, 5, 6, 7, 9, 99])
def test_methods_that_expose_a_password_are_refused(method: int) -> None:
    with pytest.raises(TargetUnavailable, match="expose") as refused:
        Login(REQUEST).receive(sasl(method, b"salt"))
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("offer", [b"\0", b"SCRAM-SHA-1\0\0", b"SCRAM-SHA-256-PLUS\0\0"])
def test_no_other_mechanism_is_spoken(offer: bytes) -> None:
    with pytest.raises(TargetUnavailable, match="no SCRAM-SHA-256"):
        Login(REQUEST).receive(sasl(10, offer))


def test_an_iteration_count_that_would_block_is_refused() -> None:
    login = Login(REQUEST)
    first = login.receive(sasl(10, b"SCRAM-SHA-256\0\0"))
    nonce = first.rpartition(b"r=")[2]
    with pytest.raises(TargetUnavailable):
        login.receive(sasl(11, b"r=" + nonce + b"x,s=AAAAAAAAAAAAAAAAAAAAAA==,i=9000000"))


def test_settings_are_pinned_before_the_login_is_done() -> None:
    sql = session_sql(("pg_catalog", 'we"ird'), statement_timeout_ms=5, read_only=True)
    assert 'SET search_path = "pg_catalog", "we""ird";' in sql
    login = Login(LoginRequest("u", "d", settings_sql=sql))
    assert login.receive(OK + IDLE) == codec.query(sql.encode())
    assert login.receive(b"") == b""
    login.receive(codec.command_complete(b"SET") + codec.ready("I"))
    assert login.done
    login = Login(LoginRequest("u", "d", settings_sql=sql))
    login.receive(OK + IDLE)
    with pytest.raises(TargetUnavailable, match="a setting that the gateway pins"):
        login.receive(own_error("42501", "permission denied for PASSWORD"))


@pytest.mark.parametrize(
    ("name", "value"), [("standard_conforming_strings", "off"), ("client_encoding", "SQL_ASCII")]
)
def test_a_session_that_reads_text_otherwise_is_refused(name: str, value: str) -> None:
    with pytest.raises(TargetUnavailable):
        Login(REQUEST).receive(
            OK
            + IDLE[: -len(codec.ready("I"))]
            + codec.parameter_status(name, value)
            + codec.ready("I")
        )


@given(st.binary(max_size=150))
def test_any_bytes_raise_only_target_unavailable(data: bytes) -> None:
    for cut in (len(data) or 1, 1):
        login = Login(REQUEST)
        try:
            for at in range(0, len(data), cut):
                login.receive(data[at : at + cut])
        except TargetUnavailable:
            continue

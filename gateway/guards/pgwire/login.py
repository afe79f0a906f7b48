"""The gateway's own login at the server: it alone knows the password.

Sans-I/O. The edge opens the connection and wraps it in TLS where the server agrees
(``ssl_request``), then feeds this machine until ``done``. Only SCRAM-SHA-256 (bound to
the TLS channel where the server offers that) and ``trust`` are spoken: MD5 and cleartext
would hand a password, or what is as good, to whoever answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from scramp import ScramClient, ScramException

from gateway.errors import GuardBroken, TargetUnavailable
from gateway.guards.pgwire.codec import (
    BackendKey,
    FrameReader,
    Message,
    Run,
    cstring,
    frame,
    parse_backend_key,
    parse_parameter,
    parse_status,
    query,
    startup,
)
from gateway.guards.pgwire.notices import read_error

_MAX_LOGIN_BYTES = 65_536

MAX_SCRAM_ITERATIONS = 600_000
"""A server may ask for more work than this only to keep the gateway busy."""

_AUTH_NAMES = {2: "Kerberos", 3: "a cleartext password", 5: "MD5", 7: "GSSAPI", 9: "SSPI"}
_PLUS, _PLAIN = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"


class AuthMethod(IntEnum):
    """Authentication requests that are answered; all others are refused."""

    OK = 0
    SASL = 10
    SASL_CONTINUE = 11
    SASL_FINAL = 12


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """Who logs in, and how the session is set up before anything else runs in it.

    Attributes:
        user, database: as the server knows them.
        password: empty for a server that trusts; never shown by ``repr``.
        application_name: what ``pg_stat_activity`` shows.
        settings_sql: one Query that runs right after the login (search_path, timeouts);
            empty for none. Any error in it fails the login.
        channel_binding: hash of the server's certificate (RFC 5929,
            tls-server-end-point), or None without TLS.
    """

    user: str
    database: str
    password: str = field(default="", repr=False)
    application_name: str = "tollhouse"
    settings_sql: str = ""
    channel_binding: bytes | None = field(default=None, repr=False)


class Login:
    """One login, from StartupMessage to the first idle ReadyForQuery.

    Call ``start`` once, then ``receive`` with what the server sends, and send what
    they return. When ``done``, ``parameters`` and ``key`` hold what the server told;
    nothing of the connection is left unread (the server stays silent until asked).
    """

    def __init__(self, request: LoginRequest) -> None:
        self._request = request
        self._reader = FrameReader(_MAX_LOGIN_BYTES)
        self._scram: ScramClient | None = None
        self._server_proved = False
        self._accepted = False
        self._pinning = False
        self.parameters: dict[str, str] = {}
        self.key: BackendKey | None = None
        self.done = False

    def start(self) -> bytes:
        """The StartupMessage."""
        request = self._request
        return startup(
            {
                "user": request.user,
                "database": request.database,
                "application_name": request.application_name,
                "client_encoding": "UTF8",
            }
        )

    def receive(self, data: bytes) -> bytes:
        """Take the server's bytes; the answer may be empty.

        Raises:
            TargetUnavailable: the server refused, asked for a method that is not
                spoken, failed to prove that it knows the password, or refused a
                setting. The message holds no password and no text of the server's.
        """
        out: list[bytes] = []
        try:
            self._reader.feed(data)
            while not self.done:
                message = self._reader.take()
                if message is None:
                    break
                if isinstance(message, Run):
                    self._expect_pinning()
                    continue
                out.append(self._answer(message))
            if self.done and self._reader.pending_bytes:
                raise _not_postgresql()
        except GuardBroken:
            raise _not_postgresql() from None
        return b"".join(out)

    def _answer(self, message: Message) -> bytes:
        match message.letter:
            case "R":
                return self._authenticate(message.body)
            case "E":
                raise self._refused(message.body)
            case "S":
                name, value = parse_parameter(message.body)
                self.parameters[name] = value
            case "K":
                self.key = parse_backend_key(message.body)
            case "Z":
                return self._ready(message.body)
            case "N":
                pass
            case "C" | "T" | "I":
                self._expect_pinning()
            case _:
                raise _not_postgresql()
        return b""

    def _authenticate(self, body: bytes) -> bytes:
        if len(body) < 4 or self._accepted:
            raise _not_postgresql()
        method, rest = int.from_bytes(body[:4], "big"), body[4:]
        match method:
            case AuthMethod.OK:
                return self._accept()
            case AuthMethod.SASL:
                return self._begin_scram(rest)
            case AuthMethod.SASL_CONTINUE | AuthMethod.SASL_FINAL:
                return self._continue_scram(method, rest)
            case _:
                raise TargetUnavailable(
                    f"the server asks for {_AUTH_NAMES.get(method, 'an unknown method')}, "
                    "which would expose the password",
                    "Set password_encryption = 'scram-sha-256' on the server, set the login's "
                    "password again, and use scram-sha-256 in pg_hba.conf",
                    rule="pgwire.login.method",
                )

    def _accept(self) -> bytes:
        # A server that asked for SCRAM must have proved that it knows the password too.
        if self._scram is not None and not self._server_proved:
            raise _unproved()
        self._accepted = True
        return b""

    def _begin_scram(self, offered: bytes) -> bytes:
        if self._scram is not None:
            raise _not_postgresql()
        names = [name.decode("ascii", "replace") for name in offered.split(b"\0") if name]
        mechanisms = [name for name in (_PLUS, _PLAIN) if name in names]
        binding = self._request.channel_binding
        if binding is None:
            mechanisms = [name for name in mechanisms if name != _PLUS]
        if not mechanisms:
            raise TargetUnavailable(
                "the server offers no SCRAM-SHA-256", rule="pgwire.login.method"
            )
        if not self._request.password:
            raise TargetUnavailable(
                "the server asks for a password and the configuration has none for this login",
                "Set password_file or password_env of the login",
                rule="pgwire.login.password",
            )
        try:
            self._scram = ScramClient(
                mechanisms,
                "*",  # the server takes the name from the StartupMessage
                self._request.password,
                channel_binding=None if binding is None else ("tls-server-end-point", binding),
            )
            first = self._scram.get_client_first().encode()
        except ScramException:
            raise _unproved() from None
        chosen = cstring(self._scram.mechanism_name.encode())
        return frame("p", chosen + len(first).to_bytes(4, "big") + first)

    def _continue_scram(self, method: int, body: bytes) -> bytes:
        if self._scram is None:
            raise _not_postgresql()
        try:
            text = body.decode()
            if method == AuthMethod.SASL_CONTINUE:
                if _iterations(text) > MAX_SCRAM_ITERATIONS:
                    raise _unproved()
                self._scram.set_server_first(text)
                return frame("p", self._scram.get_client_final().encode())
            self._scram.set_server_final(text)
        except (ScramException, UnicodeDecodeError):
            raise _unproved() from None
        self._server_proved = True
        return b""

    def _ready(self, body: bytes) -> bytes:
        if not self._accepted or parse_status(body) != "I":
            raise _not_postgresql()
        if self._request.settings_sql and not self._pinning:
            self._pinning = True
            return query(self._request.settings_sql.encode())
        self.done = True
        _check_parameters(self.parameters)
        return b""

    def _expect_pinning(self) -> None:
        if not self._pinning:
            raise _not_postgresql()

    def _refused(self, body: bytes) -> TargetUnavailable:
        error = read_error(body)
        state = f"SQLSTATE {error.sqlstate} {error.condition}"
        if self._pinning:
            return TargetUnavailable(
                f"the server refused a setting that the gateway pins ({state})",
                "See the server's log; the login may lack a right",
                rule="pgwire.login.settings",
            )
        return TargetUnavailable(
            f"the server refused the gateway's login ({state})",
            "Check the login's user, password, database and pg_hba.conf; the server's log "
            "has the details",
            rule="pgwire.login.refused",
        )


def _iterations(server_first: str) -> int:
    """The count in ``r=…,s=…,i=…``; 0 if it has none, which scramp refuses itself."""
    count = server_first.rpartition(",i=")[2]
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


def _check_parameters(parameters: Mapping[str, str]) -> None:
    if parameters.get("standard_conforming_strings") != "on":
        raise TargetUnavailable(
            "the server reads backslashes in plain strings as escapes",
            "Set standard_conforming_strings = on for the login",
            rule="pgwire.login.strings",
        )
    if parameters.get("client_encoding") != "UTF8":
        raise TargetUnavailable("the server does not speak UTF-8", rule="pgwire.login.encoding")


def _unproved() -> TargetUnavailable:
    return TargetUnavailable(
        "the server did not prove that it knows the login's password, or the password cannot "
        "be used with SCRAM",
        "Check that host and certificate are the right server's, and the password",
        rule="pgwire.login.proof",
    )


def _not_postgresql() -> TargetUnavailable:
    return TargetUnavailable(
        "what answers does not speak PostgreSQL's protocol as expected",
        "Check host and port",
        rule="pgwire.login.protocol",
    )

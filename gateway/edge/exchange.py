"""The HTTPS side of enrolment: forms in, JSON out, served by uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.core.certificate import Terms
from gateway.edge.enrol import Enrolment, Issued
from gateway.errors import GatewayFault, LoginRefused, TargetUnavailable, TollhouseError

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPES = frozenset(
    {"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}
)
ISSUED_TYPE = "urn:tollhouse:params:token-type:ssh-certificate"

MAX_BODY_BYTES = 65_536
HEAD_TIMEOUT_S = 10.0
_BODY_TIMEOUT_S = 10.0
_MAX_FIELDS = 20
_MAX_CONNECTIONS = 200
_FIELDS = ("grant_type", "subject_token", "subject_token_type", "public_key", "proof")

_log = structlog.get_logger("tollhouse")


class BadForm(TollhouseError):
    """The request is not a token exchange; nothing was looked at."""


def application(
    enrolment: Enrolment,
    *,
    note: Callable[[str, str], None],
    host_ca: str,
    host_names: tuple[str, ...],
    ssh_port: int,
) -> Starlette:
    """The routes ``POST /v1/token``, ``GET /v1/hostca`` and ``GET /healthz``.

    Args:
        enrolment: decides.
        note: told of each refusal by (address, rule), for the ledger.
        host_ca: the host CA's public key line, which clients are to trust.
        host_names: the names in the host certificate.
        ssh_port: where the gateway's SSH server listens.
    """
    known_hosts = known_hosts_line(host_ca, host_names, ssh_port)

    async def token(request: Request) -> Response:
        source = request.client.host if request.client else ""
        try:
            form = await _read_form(request)
            issued = await enrolment.exchange(
                form["subject_token"], form["public_key"], form["proof"], source
            )
        except LoginRefused as refusal:
            note(source, refusal.rule)
            return _refusal(400, "invalid_grant", refusal)
        except BadForm as refusal:
            note(source, refusal.rule)
            return _refusal(400, "invalid_request", refusal)
        except (TargetUnavailable, GatewayFault) as fault:
            note(source, fault.rule)
            return _refusal(503, "temporarily_unavailable", fault)
        return JSONResponse(
            _answer(issued, enrolment.origin, known_hosts, host_names, ssh_port), headers=_NO_STORE
        )

    async def hostca(_: Request) -> Response:
        return PlainTextResponse(known_hosts)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/token", token, methods=["POST"]),
            Route("/v1/hostca", hostca, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ],
        exception_handlers={Exception: _failed},
    )


_NO_STORE = {"cache-control": "no-store"}


def known_hosts_line(host_ca: str, names: tuple[str, ...], port: int) -> str:
    """The ``@cert-authority`` line by which a stock client knows this gateway.

    Args:
        host_ca: public key line of the host CA, without comment.
        names: the names in the host certificate.
        port: of the SSH server; other ports than 22 are written in brackets.
    """
    patterns = [f"[{name}]:{port}" if port != 22 else name for name in names]
    return f"@cert-authority {','.join(patterns)} {host_ca}\n"


def _answer(
    issued: Issued, origin: str, known_hosts: str, names: tuple[str, ...], port: int
) -> Mapping[str, object]:
    terms: Terms = issued.terms
    return {
        "certificate": issued.certificate,
        "expires_at": terms.valid_before.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "issued_token_type": ISSUED_TYPE,
        "token_type": "N_A",
        "identity": issued.identity.name,
        "roles": list(issued.identity.roles),
        "targets": list(issued.identity.targets),
        "principals": list(terms.principals),
        "serial": f"{terms.serial:016x}",
        "origin": origin,
        "known_hosts": known_hosts,
        "ssh": {"host": names[0], "port": port},
    }


def _refusal(status: int, error: str, refusal: TollhouseError) -> Response:
    return JSONResponse(
        {
            "error": error,
            "error_description": str(refusal),
            "rule": refusal.rule,
            "reason": refusal.reason,
            "advice": refusal.advice,
        },
        status,
        headers=_NO_STORE,
    )


async def _failed(request: Request, error: Exception) -> Response:
    # The kind of the error only: its text might quote the request.
    _log.error("exchange.failed", error=type(error).__name__)
    return _refusal(500, "server_error", GatewayFault("the gateway failed", "Tell its operator"))


async def _read_form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise _bad("the body is not a form", "Send application/x-www-form-urlencoded")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise _bad(f"the body is longer than {MAX_BODY_BYTES} bytes", "Send less")
    except (TimeoutError, ClientDisconnect):
        raise _bad("the body did not arrive in time", "Send it again") from None
    return read_form(bytes(body))


def read_form(body: bytes) -> dict[str, str]:
    """Read the exchange's fields; others are ignored, as RFC 6749 says.

    Raises:
        BadForm: a field is missing, empty or repeated, or names another exchange.
    """
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True,
            encoding="utf-8", errors="strict", max_num_fields=_MAX_FIELDS,
        )  # fmt: skip
    except (UnicodeDecodeError, ValueError):
        raise _bad("the body cannot be read as a form", "See RFC 8693 section 2.1") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _bad("a field is repeated", "Send each field once")
    missing = [name for name in _FIELDS if not form.get(name, "").strip()]
    if missing:
        raise _bad(
            f"the form lacks {', '.join(missing)}", "docs/login-with-curl.md shows a request"
        )
    if form["grant_type"] != GRANT_TYPE:
        raise _bad("the grant_type is not token-exchange", f"Send {GRANT_TYPE}")
    if form["subject_token_type"] not in TOKEN_TYPES:
        raise _bad("the subject_token_type is not a JWT's", f"Send one of {sorted(TOKEN_TYPES)}")
    form["subject_token"] = form["subject_token"].strip()
    return form


def _bad(reason: str, advice: str) -> BadForm:
    return BadForm(reason, advice, "exchange.form")


class _Hurried(H11Protocol):
    """A connection that must show a whole request soon.

    uvicorn waits for ever for the end of a request's head, so that a few hundred
    silent connections would keep everyone else out.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_TIMEOUT_S, self._see_progress)

    def _see_progress(self) -> None:
        # uvicorn makes the cycle once a request's head is complete, and types it as always there.
        if getattr(self, "cycle", None) is None:
            self.transport.close()


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: the gateway ends itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpsServer:
    """The exchange on its socket.

    Attributes:
        port: the port it listens on, known once it is open.
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._server = server
        self._task = asyncio.create_task(server.serve(sockets=[listener]))

    @classmethod
    async def open(
        cls, app: Starlette, listen: str, cert_file: Path, key_file: Path
    ) -> HttpsServer:
        """Listen and serve until ``aclose``.

        Args:
            app: from ``application``.
            listen: ``host:port``; port 0 takes a free one.
            cert_file: chain in PEM.
            key_file: its key in PEM, permissions already checked.

        Raises:
            GatewayFault: the address cannot be had or TLS cannot be set up.
        """
        try:
            listener = listen_on(listen)
        except OSError as error:
            raise GatewayFault(
                f"cannot listen on {listen} ({(error.strerror or 'error').lower()})",
                "See server.https_listen",
            ) from None
        config = uvicorn.Config(
            app, http=_Hurried, ws="none", lifespan="off", log_config=None, access_log=False,
            headers=[("connection", "close")],
            # Addresses come from the socket: a header could say anything.
            proxy_headers=False, server_header=False, limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=5,
            ssl_certfile=str(cert_file), ssl_keyfile=str(key_file),
        )  # fmt: skip
        try:
            config.load()
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            listener.close()
            raise GatewayFault("TLS cannot be set up", "See server.tls_cert_file") from None
        server = cls(_QuietServer(config), listener)
        while not server._server.started:
            if server._task.done():
                raise GatewayFault("the HTTPS server did not start", "See the log")
            await asyncio.sleep(0.01)
        return server

    async def aclose(self) -> None:
        """Stop listening; requests under way get five seconds."""
        self._server.should_exit = True
        await self._task


def listen_on(listen: str) -> socket.socket:
    """A listening socket for ``host:port``, an IPv6 address in brackets.

    Raises:
        OSError: the address cannot be had.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=128)

"""The demo's stage: database, issuer and gateway, started in order and taken down again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gateway.demo.deployment import IDENTITIES, Deployment, default_folder, make
from gateway.demo.issuer import DemoIssuer
from gateway.demo.postgres import DemoPostgres
from gateway.errors import GatewayFault

START_TIMEOUT_S = 60.0
RENEW_EVERY_S = 8 * 60
"""Certificates live 15 minutes; a renewal that fails once still leaves time for the next."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A demo that runs.

    Attributes:
        deployment: where everything lies.
        issuer: gives tokens to the demo's identities.
        sandbox: the level that children get.
    """

    deployment: Deployment
    issuer: DemoIssuer
    sandbox: str
    gateway: subprocess.Popen[bytes]

    def log_in(self, identity: str) -> subprocess.CompletedProcess[str]:
        """Run ``tollhouse login`` for an identity, with a fresh token on its stdin.

        Raises:
            GatewayFault: the gateway gave no certificate; the output says why.
        """
        done = subprocess.run(
            self.login_command(identity),
            input=self.issuer.token(identity),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise GatewayFault(f"{identity} cannot log in", done.stderr.strip(), rule="demo.login")
        return done

    def login_command(self, identity: str) -> list[str]:
        """The command line of ``log_in``."""
        place = self.deployment
        command = [sys.executable, "-m", "gateway", "login", "--gateway", place.url]
        command += ["--ca-file", str(place.ca_file), "--dir", str(place.login_dir(identity))]
        return [*command, "--token-file", "-"]

    def ready(self) -> dict[str, object]:
        """What ``--ready`` writes (contract: the command line in the design)."""
        place = self.deployment
        return {
            "ssh": {"host": "localhost", "port": place.ssh_port},
            "url": place.url,
            "issuer": place.issuer_url,
            "config": str(place.config),
            "state": str(place.state),
            "ssh_config": str(place.ssh_config),
            "claims": {name: str(place.claims_file(name)) for name in IDENTITIES},
            "sandbox": self.sandbox,
        }


@contextmanager
def staged(folder: Path | None, tell: Callable[[str], None]) -> Iterator[Stage]:
    """Start everything; stop it in reverse order at the end.

    Args:
        folder: kept afterwards; None for a temporary one that is removed.
        tell: progress, one line each.

    Raises:
        BadCommand: the folder is not empty.
        TargetUnavailable: the database does not start.
        GatewayFault: the issuer or the gateway does not.
    """
    with ExitStack() as stack:
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="tollhouse-", dir=default_folder())
            folder = Path(stack.enter_context(made))
        # The database's unprivileged user passes through; what is private below is 0700.
        folder.chmod(0o711)
        tell("starting PostgreSQL with 3,000 synthetic patients …")
        postgres = DemoPostgres(folder)
        deployment = make(folder, postgres.psql)
        stack.callback(postgres.stop)
        passwords = {f"{name}_password": deployment.password(name) for name in ("reader", "writer")}
        postgres.start(passwords)
        tell("starting an OpenID Connect issuer …")
        issuer = DemoIssuer(deployment.issuer_url, deployment.url, IDENTITIES)
        stack.enter_context(_serving(issuer, deployment.issuer_port))
        tell("starting the gateway …")
        gateway, facts = stack.enter_context(_gateway(deployment))
        stage = Stage(deployment, issuer, str(facts["sandbox"]), gateway)
        for identity in IDENTITIES:
            stage.log_in(identity)
        yield stage


@contextmanager
def renewing(stage: Stage) -> Iterator[None]:
    """Renew the identities' certificates in the background."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(RENEW_EVERY_S):
            for identity in IDENTITIES:
                try:
                    stage.log_in(identity)
                except GatewayFault as fault:
                    print(f"tollhouse: {fault}", file=sys.stderr)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def _serving(issuer: DemoIssuer, port: int) -> Iterator[None]:
    config = uvicorn.Config(
        issuer.app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline_s:
            raise GatewayFault("The demo's issuer does not start", rule="demo.issuer")
        time.sleep(0.02)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def _gateway(deployment: Deployment) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, object]]]:
    ready = deployment.folder / "gateway.ready"
    ready.unlink(missing_ok=True)
    log = deployment.folder / "gateway.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway", "serve"),
                *("--config", str(deployment.config), "--ready", str(ready)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C is for the demo, which then ends the gateway in order.
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                said = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise GatewayFault(
                    "The gateway does not start", "\n".join(said), rule="demo.gateway"
                )
            time.sleep(0.05)
        yield process, json.loads(ready.read_text())
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

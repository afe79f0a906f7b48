"""One gateway: everything that serves, put together and taken down in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import structlog

from gateway.config import GatewayConfig
from gateway.core.policy import Policies
from gateway.edge import exchange, keys, ssh
from gateway.edge.channel import Channel
from gateway.edge.child import choose, find_psql, harden_process
from gateway.edge.desk import Desk
from gateway.edge.door import Door
from gateway.edge.enrol import Enrolment
from gateway.edge.execution import Executions
from gateway.edge.internal import loop_fault
from gateway.edge.issuers import Issuers
from gateway.edge.judging import Judges
from gateway.edge.ledger import Ledger
from gateway.edge.refusals import Refusals
from gateway.edge.sessions import Sessions
from gateway.edge.targets import Targets
from gateway.edge.ticketing import TicketLeaves
from gateway.edge.workers import Workers
from gateway.errors import GatewayFault, RecorderFault
from gateway.files import read_policies
from gateway.store import Store
from gateway.version import VERSION

log = structlog.get_logger("tollhouse")

HOUSEKEEPING_S = 60.0
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves.

    Attributes:
        ssh_port, https_port: where it listens; known also if the configuration said 0.
        sandbox: the level that children get.
        known_hosts: the ``@cert-authority`` line by which clients know it.
        ledger: for callers that add facts of their own.
        failed: set when the record cannot be kept any more; whoever runs it has to end it.
    """

    ssh_port: int
    https_port: int
    sandbox: str
    known_hosts: str
    ledger: Ledger
    failed: asyncio.Event


@asynccontextmanager
async def serving(config: GatewayConfig) -> AsyncIterator[Gateway]:
    """Open the gate; close it in order at the end.

    Raises:
        ConfigError: keys or policies cannot be used.
        GatewayFault: a listener, the sandbox or the store cannot be had.
        TargetUnavailable: no psql that can be locked is installed.
    """
    harden_process()
    # Its default would print exceptions with their text, which may quote a cell.
    asyncio.get_running_loop().set_exception_handler(loop_fault)
    policies = Policies.load(read_policies(config.policy.dir))
    # On this thread: children die with the thread that started their zygote.
    level = choose(config.sandbox.required)
    async with AsyncExitStack() as stack:
        store = await _open_store(config, stack)
        ledger = Ledger(
            store, keys.load_log_key(config.recorder.log_key_file), config.recorder.origin
        )
        await _announce(ledger, config, policies, str(level))
        workers = Workers(
            memory_mb=config.limits.decide_memory_mb, timeout_ms=config.limits.decide_timeout_ms
        )
        await workers.start()
        stack.push_async_callback(workers.stop)
        targets = Targets(config)
        stack.push_async_callback(targets.close)
        executions = Executions(
            targets,
            level=level,
            psql={target.name: find_psql(target.psql) for target in config.target},
            runtime_dir=_runtime_dir(stack),
            max_output_bytes=config.limits.output_bytes,
        )
        ca = keys.load_ssh_key(config.ca.key_file)
        refusals = Refusals(store)
        door = Door((ca.public_data,), store, refusals.note)
        sessions = Sessions(
            config,
            door=door,
            judges=Judges(config, policies, workers, targets),
            executions=executions,
            ledger=ledger,
            desk=Desk(config, ledger),
            casts_dir=config.casts_dir,
            digest_key=keys.load_symmetric_key(config.store.mac_key_file),
        )
        gateway = await _listen(
            config, ca, door, sessions, store, refusals, ledger, str(level), stack
        )
        _keep(gateway, config, refusals, stack)
        log.info("gateway.serving", ssh_port=gateway.ssh_port, https_port=gateway.https_port)
        yield gateway


async def _open_store(config: GatewayConfig, stack: AsyncExitStack) -> Store:
    state = config.server.state_dir
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.casts_dir.mkdir(mode=0o700, exist_ok=True)
    store = await Store.open(
        state,
        mac_key=keys.load_symmetric_key(config.store.mac_key_file),
        seal_key=keys.load_symmetric_key(config.store.seal_key_file),
    )
    stack.push_async_callback(store.close)
    return store


async def _announce(
    ledger: Ledger, config: GatewayConfig, policies: Policies, sandbox: str
) -> None:
    """What an auditor must know before the first session."""
    await ledger.store.append(
        ledger.leaf("gateway.started", "", {"sandbox": sandbox, "version": VERSION}),
        ledger.leaf(
            "config.loaded",
            "",
            {
                "issuers": {issuer.name: issuer.url for issuer in config.issuer},
                "roles": [role.name for role in config.role],
                "targets": [target.name for target in config.target],
            },
        ),
        ledger.leaf(
            "policy.loaded",
            "",
            {"policies": dict(read_policies(config.policy.dir)), "version": policies.version},
        ),
    )
    await ledger.sign()


def _runtime_dir(stack: AsyncExitStack) -> Path:
    """A private folder with a short path: a socket's name has 107 bytes (unix(7))."""
    folder = Path(tempfile.mkdtemp(prefix="th-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    if os.geteuid() == 0:
        # Children have a user of their own then, and must reach their one folder in it.
        folder.chmod(0o711)
    return folder


async def _listen(
    config: GatewayConfig,
    ca: asyncssh.SSHKey,
    door: Door,
    sessions: Sessions,
    store: Store,
    refusals: Refusals,
    ledger: Ledger,
    sandbox: str,
    stack: AsyncExitStack,
) -> Gateway:
    server = config.server
    host_key = keys.load_ssh_key(server.host_key_file)
    host_ca = keys.load_ssh_key(config.ca.host_key_file)
    serial = secrets.randbits(63) | 1
    certificate = keys.sign_host(
        host_ca, host_key, server.host_certificate_names, serial, datetime.now(UTC)
    )
    channels: set[Channel] = set()
    host, _, port = server.ssh_listen.rpartition(":")
    try:
        acceptor = await ssh.listen(
            host.strip("[]"),
            int(port),
            door=door,
            serve=sessions.serve,
            host_key=host_key,
            host_certificate=certificate,
            channels=channels,
        )
    except OSError as error:
        raise GatewayFault(
            f"cannot listen on {server.ssh_listen} ({(error.strerror or 'error').lower()})",
            "See server.ssh_listen",
            rule="server.ssh_listen",
        ) from None
    stack.push_async_callback(_drain, acceptor, channels)
    ssh_port = acceptor.get_port()
    host_ca_line = " ".join(host_ca.export_public_key("openssh").decode().split()[:2])
    https = await exchange.HttpsServer.open(
        exchange.application(
            Enrolment(config, Issuers.of(config), ca, store),
            note=refusals.note,
            host_ca=host_ca_line,
            host_names=server.host_certificate_names,
            ssh_port=ssh_port,
        ),
        server.https_listen,
        server.tls_cert_file,
        server.tls_key_file,
    )
    stack.push_async_callback(https.aclose)
    known_hosts = exchange.known_hosts_line(host_ca_line, server.host_certificate_names, ssh_port)
    return Gateway(ssh_port, https.port, sandbox, known_hosts, ledger, asyncio.Event())


async def _drain(acceptor: asyncssh.SSHAcceptor, channels: set[Channel]) -> None:
    """No new sessions; the running ones get a moment to close their records."""
    acceptor.close()
    open_now = list(channels)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await asyncio.gather(*(channel.hang_up() for channel in open_now))
    await acceptor.wait_closed()


def _keep(
    gateway: Gateway, config: GatewayConfig, refusals: Refusals, stack: AsyncExitStack
) -> None:
    """Checkpoints at their interval; once a minute expiries and refused logins."""

    def failed(fault: RecorderFault) -> None:
        gateway.failed.set()  # before the words: a full disk may take those neither
        log.error("record.failed", rule=fault.rule, reason=fault.reason)

    async def keep_house() -> None:
        leaves = TicketLeaves(gateway.ledger)
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                await refusals.flush()
                await gateway.ledger.store.expire(gateway.ledger.now(), leaves.expired)
            except RecorderFault as fault:
                failed(fault)

    async def finish() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RecorderFault):
            await refusals.flush()
            await gateway.ledger.sign()

    interval_s = config.recorder.checkpoint_interval.total_seconds()
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(gateway.ledger.run(interval_s, failed)),
        loop.create_task(keep_house()),
    ]
    stack.push_async_callback(finish)

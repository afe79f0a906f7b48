"""A deployment made by ``tollhouse init``, then pointed at a test's issuer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.cli import run
from gateway.config import GatewayConfig, load
from gateway.edge.enrol import Enrolment
from gateway.edge.exchange import HttpsServer, application
from gateway.edge.issuers import Issuers
from gateway.edge.keys import load_ssh_key, load_symmetric_key
from gateway.edge.refusals import Refusals
from gateway.store import Store
from tests.issuer import AUDIENCE

SSH_PORT = 2222

_TEMPLATE = """
[server]
ssh_listen = "127.0.0.1:0"
https_listen = "127.0.0.1:0"
url = "{audience}"
host_key_file = "keys/ssh_host_ed25519"
host_certificate_names = ["localhost"]
tls_cert_file = "keys/tls.pem"
tls_key_file = "keys/tls.key"
state_dir = "state"
[ca]
key_file = "keys/user_ca"
host_key_file = "keys/host_ca"
[[issuer]]
name = "ci"
url = "{issuer}"
allow_http = true
[[role]]
name = "reader"
issuer = "ci"
match = {{ repository_id = "42", environment = "production" }}
identity = "reports"
kind = "machine"
owner = "ci|boss"
actor_claim = "actor_id"
targets = ["claims-db"]
annotations = {{ run = "run_id" }}
[[role]]
name = "approver"
issuer = "ci"
match = {{ groups = "approvers" }}
identity = "{{sub}}"
kind = "person"
groups = ["phi-approvers"]
[[target]]
name = "claims-db"
type = "psql"
host = "127.0.0.1"
database = "claims"
tls = "disable"
reader = {{ user = "reader" }}
[policy]
dir = "policies"
[recorder]
log_key_file = "keys/log.key"
origin = "localhost/tollhouse"
[store]
mac_key_file = "keys/store_mac.key"
seal_key_file = "keys/store_seal.key"
"""


def deploy(folder: Path, issuer_url: str) -> GatewayConfig:
    """Make a deployment in ``folder``/gate that trusts one issuer on loopback."""
    gate = folder / "gate"
    assert run(["init", str(gate)]) == 0
    text = _TEMPLATE.format(audience=AUDIENCE, issuer=issuer_url)
    (gate / "gateway.toml").write_text(text)
    return load(gate / "gateway.toml")


@dataclass
class Gate:
    """An exchange that runs: its URL, its store and the CA file that clients trust."""

    url: str
    ca_file: Path
    store: Store
    refusals: Refusals


@asynccontextmanager
async def serve_exchange(config: GatewayConfig) -> AsyncIterator[Gate]:
    """Serve the real exchange over TLS with a real store."""
    store = await Store.open(
        config.server.state_dir,
        mac_key=load_symmetric_key(config.store.mac_key_file),
        seal_key=load_symmetric_key(config.store.seal_key_file),
    )
    refusals = Refusals(store)
    host_ca = load_ssh_key(config.ca.host_key_file)
    host_ca.set_comment(None)
    app = application(
        Enrolment(config, Issuers.of(config), load_ssh_key(config.ca.key_file), store),
        note=refusals.note,
        host_ca=host_ca.export_public_key("openssh").decode().strip(),
        host_names=config.server.host_certificate_names,
        ssh_port=SSH_PORT,
    )
    server = await HttpsServer.open(
        app, config.server.https_listen, config.server.tls_cert_file, config.server.tls_key_file
    )
    try:
        yield Gate(f"https://localhost:{server.port}", config.server.tls_cert_file, store, refusals)
    finally:
        await server.aclose()
        await store.close()

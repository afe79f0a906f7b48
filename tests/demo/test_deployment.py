"""The demo's deployment: valid as it stands, private where it must be, its issuer a real one."""

from __future__ import annotations

import json
import stat
import subprocess

import httpx
import jwt
import pytest

from gateway.cli.check import find_faults
from gateway.config import load
from gateway.core.roles import map_identity
from gateway.core.token import Claims
from gateway.demo.deployment import IDENTITIES, Deployment, make
from gateway.demo.issuer import DemoIssuer
from tests.servers import BIN_DIRS

PSQL = BIN_DIRS[16] / "psql"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make(tmp_path_factory.mktemp("demo"), PSQL)


def test_the_configuration_has_no_fault(made: Deployment) -> None:
    assert find_faults(made.config) == ()


def test_what_is_private_is_closed_to_others(made: Deployment) -> None:
    for name in ("keys", "state", "logins", "claims", "policies"):
        assert stat.S_IMODE((made.folder / name).stat().st_mode) == 0o700
    for login in ("reader", "writer"):
        file = made.folder / "keys" / f"{login}_password"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.password("reader") != made.password("writer")


def test_each_identity_is_who_it_should_be(made: Deployment) -> None:
    config = load(made.config)
    found = {}
    for name in IDENTITIES:
        claims = json.loads(made.claims_file(name).read_text())
        found[name] = map_identity(
            Claims(claims["iss"], claims["sub"], 0, claims), config.role_rules
        )
    assert {name: identity.name for name, identity in found.items()} == {n: n for n in IDENTITIES}
    assert found["etl"].accountable == found["agent"].accountable
    assert found["owner"].id in found["etl"].accountable
    targets = {name for name, identity in found.items() if identity.targets}
    assert targets == {"etl", "agent", "analyst"}
    voters = {name for name, identity in found.items() if "phi-approvers" in identity.groups}
    assert voters == {"approver", "approver2", "owner"}


def test_ssh_itself_reads_the_config(made: Deployment) -> None:
    for name in IDENTITIES:
        told = subprocess.run(
            ["ssh", "-G", "-F", str(made.ssh_config), f"claims-db@{name}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        lines = told.splitlines()
        assert f"port {made.ssh_port}" in lines
        assert "user claims-db" in lines
        assert f"identityfile {made.login_dir(name) / 'id_ed25519'}" in lines
        assert "stricthostkeychecking true" in lines


async def test_the_issuer_speaks_openid_connect(made: Deployment) -> None:
    issuer = DemoIssuer(made.issuer_url, made.url, IDENTITIES)
    transport = httpx.ASGITransport(issuer.app)
    async with httpx.AsyncClient(transport=transport, base_url=made.issuer_url) as client:
        discovered = (await client.get("/.well-known/openid-configuration")).json()
        assert discovered["issuer"] == made.issuer_url
        keys = jwt.PyJWKSet.from_dict((await client.get("/jwks")).json())
        form = {"grant_type": "client_credentials", "client_id": "etl"}
        assert (await client.post("/token", data=form)).status_code == 401
        assert (await client.post("/token", data=form | {"client_secret": "é"})).status_code == 401
        secret = issuer.secrets["etl"]
        wrong = {"client_id": "etl", "client_secret": secret, "grant_type": "password"}
        assert (await client.post("/token", data=wrong)).status_code == 400
        answer = await client.post("/token", data=form | {"client_secret": secret})
        assert answer.headers["cache-control"] == "no-store"
        token = answer.json()["access_token"]
        basic = await client.post(
            "/token", data={"grant_type": "client_credentials"}, auth=("etl", secret)
        )
        assert basic.status_code == 200
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=made.url, issuer=made.issuer_url)
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("etl", 300)

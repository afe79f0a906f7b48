"""gateway.toml: what loads, and that every fault is told at once, in its place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.cli import run
from gateway.cli.init import render
from gateway.config import GatewayConfig, load
from gateway.core.phi import TAGS
from gateway.errors import ConfigError, Fault
from gateway.reference import render as render_reference

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gate = tmp_path_factory.mktemp("config") / "gate"
    assert run(["init", str(gate), "--host", "gate.example.org"]) == 0
    return gate


@pytest.fixture
def edit(made: Path) -> Callable[[str, str], Path]:
    """Write the file of init with one text replaced by another."""

    def write(old: str, new: str) -> Path:
        text = render("gate.example.org", 2222, 8443)
        assert old in text
        path = made / "changed.toml"
        path.write_text(text.replace(old, new))
        return path

    return write


def faults(path: Path) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(fault.reason and fault.remedy for fault in caught.value.faults)
    return caught.value.faults


def test_what_init_wrote_loads(made: Path) -> None:
    config = load(made / "gateway.toml")
    assert config.server.url == "https://gate.example.org:8443"
    assert config.ca.certificate_ttl == timedelta(minutes=15)
    assert config.ca.key_file == made / "keys" / "user_ca"
    assert config.casts_dir == made / "state" / "casts"
    (rules,) = config.issuer_rules
    assert (rules.audience, rules.algorithms) == (config.server.url, ("RS256",))
    (role,) = config.role_rules
    assert role.owner == "https://token.actions.githubusercontent.com|octocat"
    assert role.match == {"repository_id": "123456789", "environment": "production"}
    target = config.find_target("claims-db")
    assert target is not None
    assert target.pinned_search_path == ("pg_catalog", "public", "pg_temp")
    assert target.classification["public.claims.status"] == "no"
    assert config.find_target("other") is None


def test_models_are_frozen(made: Path) -> None:
    config = load(made / "gateway.toml")
    with pytest.raises(ValidationError):
        config.server.url = "https://other.test"


READER = '"CLAIMS_DB_READER_PASSWORD"'
STATUS = '"public.claims.status" = "no"'

CASES = [
    ('url = "https://gate', 'url = "http://gate', "server.url", "not an https URL"),
    ('url = "https://gate', 'url = "https://u:p@gate', "server.url", "not an https URL"),
    ('"0.0.0.0:2222"', '"2222"', "server.ssh_listen", "not host:port"),
    ('"0.0.0.0:2222"', '"0.0.0.0:70000"', "server.ssh_listen", "not host:port"),
    ('"0.0.0.0:2222"', "2222", "server.ssh_listen", "not text"),
    ('ttl = "15m"', 'ttl = "16m"', "ca.certificate_ttl", "too long"),
    ('ttl = "15m"', "ttl = 15", "ca.certificate_ttl", "not a duration"),
    ('ttl = "15m"', 'ttl = "0m"', "ca.certificate_ttl", "not a duration"),
    ('ttl = "15m"', 'tll = "15m"', "ca.certificate_tll", "not a key"),
    ("keys/user_ca", "keys/none", "ca.key_file", "cannot be read"),
    ("keys/user_ca", "keys", "ca.key_file", "not a file"),
    ("keys/tls.pem", "keys/none", "server.tls_cert_file", "not there"),
    ('["RS256"]', '["HS256"]', "issuer[0].algorithms[0]", "not known"),
    ('["RS256"]', '["none"]', "issuer[0].algorithms[0]", "not known"),
    ('["RS256"]', "[]", "issuer[0].algorithms", "empty"),
    ('["RS256"]', '"RS256"', "issuer[0].algorithms", "not a list"),
    ('["RS256"]', '["RS256"]\nleeway = "61s"', "issuer[0].leeway", "too long"),
    ('"https://token.actions', '"http://token.actions', "issuer[0].url", "not https"),
    ('["RS256"]', '["RS256"]\nallow_http = 1', "issuer[0].allow_http", "not true or false"),
    ('issuer = "github"', 'issuer = "gitlab"', "role[0].issuer", "no issuer"),
    ('"github|octocat"', '"octocat"', "role[0].owner", "not written as"),
    ('"github|octocat"', '"gitlab|octocat"', "role[0].owner", "no issuer"),
    ('owner = "github|octocat"', "", "role[0].owner", "no owner"),
    ('kind = "machine"', 'kind = "robot"', "role[0].kind", "not known"),
    ('kind = "machine"', 'kind = "person"', "role[0].owner", "person an owner"),
    ('kind = "machine"', 'kind = "machine"\ngroups = ["a"]', "role[0].groups", "machine vote"),
    ('"production"', '"prod*uction"', "role[0].match.environment", "not at its end"),
    ('"production"', '"*"', "role[0].match.environment", "longer names"),
    ('"production"', '"prod*"', "role[0].match.environment", "longer names"),
    ('"production"', '""', "role[0].match.environment", "not a pattern"),
    ('"production"', "1.5", "role[0].match.environment", "not a pattern"),
    ('targets = ["claims-db"]', 'targets = ["claims"]', "role[0].targets[0]", "no target"),
    ('name = "claims-db"', 'name = "gateway"', "target[0].name", "reserved"),
    ('name = "claims-db"', 'name = "a,b"', "target[0].name", "not written as"),
    ('name = "claims-db"', 'name = "A"', "target[0].name", "not written as"),
    ('type = "psql"', 'type = "mysql"', "target[0].type", "not known"),
    ('type = "psql"', "", "target[0].type", "missing"),
    ("port = 5432", 'port = "5432"', "target[0].port", "not a whole number"),
    ("port = 5432", "port = 0", "target[0].port", "out of range"),
    ("port = 5432", "port = true", "target[0].port", "not a whole number"),
    ('"verify-full"', '"disable"', "target[0].tls", "in the clear"),
    ('"verify-full"', '"require"', "target[0].tls", "not known"),
    ('host = "db.internal.example"', "", "target[0].host", "one way"),
    ("port = 5432", 'port = 5432\nsocket_dir = "x"', "target[0].host", "one way"),
    ('"tollhouse_writer"', '"tollhouse_reader"', "target[0].writer.user", "one login"),
    (f"password_env = {READER}", 'password = "hunter2"', "target[0].reader.password", "not a key"),
    (READER, '"X", password_file = "keys/log.key"', "target[0].reader", "two passwords"),
    ('path = ["public"]', 'path = ["a b"]', "target[0].search_path[0]", "not written as"),
    (STATUS, '"status" = "no"', "target[0].classification", "not a column"),
    (STATUS, '"a.b" = "hunter2"', "target[0].classification", "does not exist"),
    ('patterns = "all"', 'patterns = "some"', "masking.patterns", "not known"),
    ('"gate.example.org/tollhouse"', '"a b"', "recorder.origin", "not written as"),
    ("sessions = 200", "sessions = 0", "limits.sessions", "out of range"),
    ("sessions = 200", "sesions = 200", "limits.sesions", "not a key"),
    ("[sandbox]", "[sandbags]", "sandbags", "not a key"),
    ("[store]", "[stores]", "store", "missing"),
    ("[store]", "[[store]]", "store", "not a table"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "words"), CASES)
def test_one_fault(
    edit: Callable[[str, str], Path], old: str, new: str, key: str, words: str
) -> None:
    found = faults(edit(old, new))
    (fault,) = [f for f in found if f.place == f"changed.toml: {key}"]
    assert words in fault.reason
    assert "hunter2" not in "".join(map(str, found))
    assert "pydantic" not in str(fault).lower()


def test_did_you_mean(edit: Callable[[str, str], Path]) -> None:
    assert faults(edit("sessions = 200", "sesions = 200"))[0].remedy == "Did you mean sessions?"
    assert "Known here: statement_bytes" in faults(edit("sessions = 200", "zzz = 1"))[0].remedy
    secret = faults(edit(f"password_env = {READER}", 'password = "hunter2"'))
    assert "password_file" in secret[0].remedy


def test_all_faults_at_once(made: Path) -> None:
    text = render("gate.example.org", 2222, 8443)
    changes = [
        (old, new, key)
        for old, new, key, _ in CASES
        if key.split(".")[0] in ("server", "limits", "masking")
    ]
    taken: set[str] = set()
    expected = set()
    for old, new, key in changes:
        if old not in taken and old in text:
            text = text.replace(old, new)
            expected.add(f"changed.toml: {key}")
            taken.add(old)
    text = text.replace('issuer = "github"', 'issuer = "gitlab"')
    path = made / "changed.toml"
    path.write_text(text)
    places = {fault.place for fault in faults(path)}
    assert expected | {"changed.toml: role[0].issuer"} <= places
    assert len(expected) >= 5


def test_duplicates(made: Path) -> None:
    text = render("gate.example.org", 2222, 8443)
    doubled = text[text.index("[[issuer]]") : text.index("[policy]")]
    path = made / "changed.toml"
    path.write_text(text + "\n" + doubled)
    assert {fault.place for fault in faults(path)} == {
        f"changed.toml: {key}"
        for key in ("issuer[1].name", "issuer[1].url", "role[1].name", "target[1].name")
    }


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o611, 0o777])
def test_a_key_that_others_can_reach(made: Path, mode: int) -> None:
    key = made / "keys" / "log.key"
    key.chmod(mode)
    try:
        (fault,) = faults(made / "gateway.toml")
    finally:
        key.chmod(0o600)
    assert fault.place == "gateway.toml: recorder.log_key_file"
    assert f"{mode:04o}" in fault.reason
    assert "chmod 600" in fault.remedy


def test_a_key_of_another_user(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        key = made / "keys" / "log.key"
        os.chown(key, 65534, -1)
        try:
            found = faults(made / "gateway.toml")
        finally:
            os.chown(key, 0, -1)
    else:  # nobody else can give a file away: be somebody else instead
        other = os.geteuid() + 1
        monkeypatch.setattr("os.geteuid", lambda: other)
        found = faults(made / "gateway.toml")
    assert all("another user" in fault.reason for fault in found)


def test_without_the_files_only_the_text_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(render("gate.example.org", 2222, 8443))
    assert {"ca.key_file", "server.tls_cert_file"} <= {
        fault.place.partition(": ")[2] for fault in faults(path)
    }
    assert isinstance(load(path, files=False), GatewayConfig)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[server", "not TOML"),
        (b"a = 1\na = 2", "not TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"# " + b"x" * (1 << 20), "larger than 1 MiB"),
        (b"server = 5", "not a table"),
        (b"role = [5]\n", "not a table"),
        (b"[role]\nname = 'x'", "not a list"),
        (b"", "missing"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(data)
    assert any(words in fault.reason for fault in faults(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "no such file" in faults(tmp_path / "gateway.toml")[0].reason


def test_a_syntax_fault_tells_the_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[server]\nurl = = 1\n")
    assert faults(path)[0].place == "gateway.toml: line 2, column 7"


def test_a_classification_file_is_joined(made: Path, edit: Callable[[str, str], Path]) -> None:
    (made / "columns.toml").write_text('"public.a.b" = "no"\n"public.patients.ssn" = "no"\n')
    change = ('tls = "verify-full"', 'tls = "verify-full"\nclassification_file = "columns.toml"')
    found = load(edit(*change)).target[0].classification
    assert found["public.a.b"] == "no"
    assert found["public.patients.ssn"] == "ssn", "the target's own entry wins"
    for text in ('"public.a.b" = "what"', '"public.a.b" = 5', '"b" = "no"', "x"):
        (made / "columns.toml").write_text(text)
        (fault,) = faults(edit(*change))
        assert "target[0].classification_file" in fault.place


def test_an_http_issuer_on_loopback_only(edit: Callable[[str, str], Path]) -> None:
    url = '"https://token.actions.githubusercontent.com"'
    assert load(edit(url, '"http://127.0.0.1:80"\nallow_http = true')).issuer[0].allow_http
    for other in ('"http://10.0.0.1"\nallow_http = true', '"http://127.0.0.1"'):
        assert faults(edit(url, other))[0].place == "changed.toml: issuer[0].url"


def test_the_reference_is_what_the_models_say() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == render_reference(), (
        "run: python -m gateway.reference > docs/configuration.md"
    )


def test_the_example_is_what_init_writes() -> None:
    example = (ROOT / "deploy" / "examples" / "gateway.toml").read_text()
    assert example == render("gateway.example.org", 2222, 8443)


def test_every_key_is_read_by_somebody() -> None:
    """A key that nobody reads would promise something that does not happen."""
    sources = "\n".join(
        path.read_text() for path in (ROOT / "gateway").rglob("*.py") if path.name != "reference.py"
    )
    keys = set(re.findall(r"^\| `(\w+)`", render_reference(), re.MULTILINE))
    unread = {key for key in keys if not re.search(rf"\.{key}\b", sources)}
    assert unread == set()


def test_kinds_of_phi_are_the_classifications(edit: Callable[[str, str], Path]) -> None:
    for kind in (*TAGS, "no"):
        load(edit('"public.patients.ssn" = "ssn"', f'"public.patients.ssn" = "{kind}"'))

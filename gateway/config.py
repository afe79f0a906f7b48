"""gateway.toml as frozen models; ``docs/configuration.md`` is generated from them.

Whatever is wrong is told at once, each fault with its place and its remedy, and
never with the value that was found. Secrets are not written in the file: they
lie in files of their own (``*_file``) or in the environment (``*_env``).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from gateway.core.roles import RoleRule
from gateway.core.token import Algorithm, IssuerRules
from gateway.errors import ConfigError, Fault
from gateway.faults import FieldError, reference_faults, translate
from gateway.values import (
    Classification,
    ConfigPath,
    Duration,
    HostName,
    HttpsUrl,
    Listen,
    Name,
    Pattern,
    PlainFile,
    Schema,
    SecretFile,
    at_most,
    is_loopback,
    read_classification,
)

RESERVED_TARGETS = frozenset({"gateway", "approvals"})
"""User names that are the gateway's own and never a target's."""

_MAX_CONFIG_BYTES = 1 << 20


class Section(BaseModel):
    """A table of gateway.toml: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Section):
    """Where the gateway listens, what it is called and where it keeps its state."""

    ssh_listen: Listen = Field("0.0.0.0:2222", description="SSH address; port 0 takes a free one")
    https_listen: Listen = Field(
        "0.0.0.0:8443", description="address of the token exchange (HTTPS)"
    )
    url: HttpsUrl = Field(
        description="public URL of the token exchange; also the audience that tokens must name"
    )
    host_key_file: SecretFile = Field(description="SSH host key (OpenSSH format)")
    host_certificate_names: tuple[HostName, ...] = Field(
        min_length=1, description="host names that clients use, written into the host certificate"
    )
    tls_cert_file: PlainFile = Field(description="certificate chain of `url` (PEM)")
    tls_key_file: SecretFile = Field(description="its private key (PEM)")
    state_dir: ConfigPath = Field(
        description="folder of the store, the casts and `log.vkey`; made with mode 0700"
    )


class Ca(Section):
    """The keys that sign user and host certificates."""

    key_file: SecretFile = Field(description="SSH CA key that signs user certificates")
    host_key_file: SecretFile = Field(description="SSH CA key that signs the host certificate")
    certificate_ttl: Annotated[Duration, at_most(timedelta(minutes=15), "15m")] = Field(
        timedelta(minutes=15), description="how long a user certificate lives, at most 15m"
    )


class Issuer(Section):
    """An OpenID Connect issuer whose tokens are accepted."""

    name: Name = Field(description="how roles refer to it")
    url: StrictStr = Field(description="exactly what its tokens say in `iss`")
    audience: StrictStr | None = Field(
        None, min_length=1, description="what `aud` must hold; `server.url` if left out"
    )
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="signature algorithms to accept"
    )
    jwks_file: PlainFile | None = Field(
        None, description="JWK set to use instead of discovery, for issuers out of reach"
    )
    ca_file: PlainFile | None = Field(
        None, description="CA of the issuer's own certificate (PEM); public CAs if left out"
    )
    allow_http: StrictBool = Field(
        default=False, description="accept an http URL, only on this machine's loopback address"
    )
    leeway: Annotated[Duration, at_most(timedelta(seconds=60), "60s")] = Field(
        timedelta(seconds=30), description="tolerated clock difference, at most 60s"
    )

    @model_validator(mode="after")
    def _check_url(self) -> Issuer:
        parts = urlsplit(self.url)
        plain = parts.scheme == "http" and self.allow_http and is_loopback(parts.hostname or "")
        if not parts.hostname or not (parts.scheme == "https" or plain):
            raise FieldError(
                "has a url that is not https",
                "Use https; allow_http is for 127.0.0.1 only",
                key="url",
            )
        return self


class Role(Section):
    """Which tokens become which identity, and what that opens."""

    name: Name = Field(description='the name that policies use: `Role::"name"`')
    issuer: Name = Field(description="name of an `[[issuer]]`")
    match: dict[StrictStr, Pattern] = Field(
        min_length=1,
        description='claims that must all fit: `"exact"`, or `"prefix/*"` anchored at the start; '
        "of a claim that is a list, one element must fit",
    )
    identity: StrictStr = Field(
        min_length=1, description='name shown in records; `"{sub}"` takes that claim'
    )
    kind: Literal["machine", "agent", "person"] = Field(description="only a person votes")
    owner: StrictStr | None = Field(
        None,
        pattern=r"^[^|]+\|.+$",
        description="the accountable human of a machine or agent, `issuer-name|sub`",
    )
    actor_claim: StrictStr | None = Field(
        None, description="claim with the human who set it off (GitHub `actor_id`), accountable too"
    )
    groups: tuple[Name, ...] = Field((), description="approval groups; persons only")
    targets: tuple[Name, ...] = Field((), description="names of the `[[target]]`s it opens")
    annotations: dict[Name, StrictStr] = Field(
        {}, description='context to record, as `run_url = "claim"`; never used to decide'
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Role:
        if self.kind == "person" and (self.owner or self.actor_claim):
            raise FieldError(
                "gives a person an owner", "A person answers for itself: leave it out", key="owner"
            )
        if self.kind != "person" and self.owner is None:
            raise FieldError(
                "has no owner", 'Name the accountable human: owner = "issuer-name|sub"', key="owner"
            )
        if self.kind != "person" and self.groups:
            raise FieldError(
                "lets a machine vote", 'Only kind = "person" may have groups', key="groups"
            )
        return self


class Login(Section):
    """An account on the target and where its password lies."""

    user: StrictStr = Field(min_length=1, description="the database role")
    password_file: SecretFile | None = Field(None, description="file that holds the password")
    password_env: StrictStr | None = Field(
        None, min_length=1, description="environment variable of the gateway that holds it"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Login:
        if self.password_file is not None and self.password_env is not None:
            raise FieldError("has two passwords", "Keep one of password_file and password_env")
        return self


class Target(Section):
    """A database behind the gate."""

    name: Name = Field(description="the SSH user name that reaches it")
    type: Literal["psql"] = Field(description="the connector")
    host: StrictStr | None = Field(None, min_length=1, description="server name or address")
    port: StrictInt = Field(5432, ge=1, le=65535, description="server port")
    socket_dir: ConfigPath | None = Field(
        None, description="folder of the server's Unix socket, instead of `host`"
    )
    database: StrictStr = Field(min_length=1, description="database name")
    tls: Literal["verify-full", "disable"] = Field(
        "verify-full", description="`disable` only for a Unix socket or a loopback host"
    )
    ca_file: PlainFile | None = Field(
        None, description="CA of the server's certificate (PEM); the system's CAs if left out"
    )
    reader: Login = Field(
        description="login for what is judged a read; it must not be able to write"
    )
    writer: Login | None = Field(
        None, description="login for everything else; without it the target is read-only"
    )
    search_path: tuple[Schema, ...] = Field(
        ("public",), description="schemas; pg_catalog is put before and pg_temp after them"
    )
    classification: Classification = Field(
        {}, description='what columns hold: `"schema.table.column" = "ssn"`, or `"no"`'
    )
    classification_file: PlainFile | None = Field(
        None, description="the same as a TOML file of its own; entries here win"
    )
    statement_timeout: Duration = Field(
        timedelta(minutes=5), description="the server ends a statement after this"
    )
    psql: PlainFile | None = Field(None, description="psql program; found by itself if left out")
    labels: dict[Name, StrictStr] = Field({}, description="labels that policies may read")

    @property
    def pinned_search_path(self) -> tuple[str, ...]:
        """The search path that the guard sets: nothing shadows pg_catalog."""
        return ("pg_catalog", *self.search_path, "pg_temp")

    @model_validator(mode="after")
    def _check(self) -> Target:
        if self.name in RESERVED_TARGETS:
            raise FieldError(
                "is a reserved name", "gateway and approvals are the gate's own", key="name"
            )
        if (self.host is None) == (self.socket_dir is None):
            raise FieldError("needs one way to the server", "Write host or socket_dir", key="host")
        if self.tls == "disable" and self.host is not None and not is_loopback(self.host):
            raise FieldError(
                "sends PHI in the clear",
                'Use tls = "verify-full" for a server elsewhere',
                key="tls",
            )
        if self.writer is not None and self.writer.user == self.reader.user:
            raise FieldError(
                "uses one login for reads and writes",
                "Give the reader a role of its own that the server keeps from writing",
                key="writer.user",
            )
        return self


class Policy(Section):
    """Where the Cedar policies lie."""

    dir: ConfigPath = Field(description="folder of `*.cedar` files")


class Masking(Section):
    """What is hidden beside the columns that lineage and classification name."""

    patterns: Literal["all"] = Field(
        "all",
        description="which patterns with checksums are looked for in output streams; there is no"
        " other choice yet, and grants are bound to it",
    )


class Recorder(Section):
    """The ledger that proves the casts."""

    log_key_file: SecretFile = Field(description="Ed25519 key that signs checkpoints (PEM, PKCS 8)")
    origin: StrictStr = Field(
        pattern=r"^[^\s+]{1,200}$",
        description="the ledger's name in its checkpoints and in `log.vkey`",
    )
    checkpoint_interval: Duration = Field(
        timedelta(seconds=10),
        description="a checkpoint is signed this often while leaves are added",
    )


class Sandbox(Section):
    """How well children must be confined."""

    required: Literal["namespaces", "confined", "none"] = Field(
        "confined", description="`serve` refuses below this level; `none` is for development"
    )


class Approval(Section):
    """Held commands."""

    pending_ttl: Duration = Field(
        timedelta(hours=24), description="a ticket that nobody answered expires after this"
    )


class Limits(Section):
    """Sizes and times beyond which the gate stays down."""

    statement_bytes: StrictInt = Field(16_384, ge=256, le=1 << 20, description="one statement")
    script_bytes: StrictInt = Field(262_144, ge=256, le=16 << 20, description="a whole script")
    statements: StrictInt = Field(
        200, ge=1, le=10_000, description="statements of one line or script"
    )
    output_columns: StrictInt = Field(
        1_664, ge=1, le=1_664, description="columns of one result (PostgreSQL's own limit)"
    )
    sessions: StrictInt = Field(200, ge=1, le=10_000, description="sessions at the same time")
    decide_timeout_ms: StrictInt = Field(
        2_000, ge=50, le=60_000, description="a decision that takes longer is a denial"
    )
    decide_memory_mb: StrictInt = Field(
        512, ge=128, le=8_192, description="memory of a worker that decides (MiB)"
    )
    output_bytes: StrictInt = Field(
        1 << 30, ge=1 << 16, le=1 << 40, description="output of one session; it ends above"
    )


class Store(Section):
    """Keys of the store in `server.state_dir`."""

    mac_key_file: SecretFile = Field(
        description="key that authenticates certificates, grants and votes (64 hex digits)"
    )
    seal_key_file: SecretFile = Field(
        description="key that encrypts the text of held commands (64 hex digits)"
    )


class GatewayConfig(Section):
    """The whole file."""

    server: Server
    ca: Ca
    issuer: tuple[Issuer, ...] = Field(min_length=1)
    role: tuple[Role, ...] = Field(min_length=1)
    target: tuple[Target, ...] = Field(min_length=1)
    policy: Policy
    masking: Masking = Masking()  # type: ignore[call-arg]
    recorder: Recorder
    sandbox: Sandbox = Sandbox()  # type: ignore[call-arg]
    approval: Approval = Approval()  # type: ignore[call-arg]
    limits: Limits = Limits()  # type: ignore[call-arg]
    store: Store

    def find_target(self, name: str) -> Target | None:
        """The target of that name, or None."""
        return next((t for t in self.target if t.name == name), None)

    @property
    def casts_dir(self) -> Path:
        """Where recordings lie, beside the store, so that ``verify`` finds both."""
        return self.server.state_dir / "casts"

    @property
    def issuer_rules(self) -> tuple[IssuerRules, ...]:
        """The issuers as ``gateway.core.token`` wants them."""
        return tuple(
            IssuerRules(
                name=issuer.name,
                url=issuer.url,
                audience=issuer.audience or self.server.url,
                algorithms=issuer.algorithms,
                leeway_s=int(issuer.leeway.total_seconds()),
            )
            for issuer in self.issuer
        )

    @property
    def role_rules(self) -> tuple[RoleRule, ...]:
        """The roles as ``gateway.core.token`` wants them, issuers by URL."""
        urls = {issuer.name: issuer.url for issuer in self.issuer}

        def owner(role: Role) -> str | None:
            issuer, _, subject = (role.owner or "").partition("|")
            return f"{urls[issuer]}|{subject}" if subject else None

        return tuple(
            RoleRule(
                name=role.name,
                issuer=urls[role.issuer],
                match=role.match,
                identity=role.identity,
                kind=role.kind,
                owner=owner(role),
                actor_claim=role.actor_claim,
                groups=role.groups,
                targets=role.targets,
                annotations=role.annotations,
            )
            for role in self.role
        )


def load(path: Path, *, files: bool = True) -> GatewayConfig:
    """Read and check gateway.toml; nothing is created and no network is used.

    Args:
        path: the file; relative paths inside are relative to its folder.
        files: also see that key and certificate files exist and are private. False
            lets a machine without the keys read the configuration (``explain``).

    Raises:
        ConfigError: with every fault that was found, each with place and remedy.
    """
    base = path.absolute().parent
    raw = _read_toml(path, path.name)
    faults = list(reference_faults(raw, path.name))
    config = None
    try:
        config = GatewayConfig.model_validate(raw, context={"base": base, "files": files})
    except ValidationError as error:
        faults = [*translate(error, path.name, GatewayConfig), *faults]
    if config is not None:
        config, more = _with_classification_files(config, path.name)
        faults += more
    if faults or config is None:
        raise ConfigError(tuple(faults))
    return config


def _read_toml(path: Path, shown: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ConfigError(
            (Fault(shown, f"cannot be read ({reason})", "See its path and mode"),)
        ) from None
    if len(data) > _MAX_CONFIG_BYTES:
        raise ConfigError((Fault(shown, "is larger than 1 MiB", "This is not a configuration"),))
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError((Fault(shown, "is not UTF-8", "Save it as UTF-8"),)) from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+, column \d+", str(error))
        where = place[0] if place else "at its end"
        raise ConfigError(
            (Fault(f"{shown}: {where}", "is not TOML", "See https://toml.io for the syntax"),)
        ) from None


def _with_classification_files(
    config: GatewayConfig, shown: str
) -> tuple[GatewayConfig, list[Fault]]:
    """Put the entries of each classification_file under those of the target."""
    faults: list[Fault] = []
    targets: list[Target] = []
    for index, target in enumerate(config.target):
        merged: Mapping[str, str] = target.classification
        if target.classification_file is not None and target.classification_file.is_file():
            place = f"{shown}: target[{index}].classification_file"
            try:
                entries = _read_toml(target.classification_file, place)
                merged = {**_classification_entries(entries), **merged}
            except ConfigError as error:
                faults += error.faults
            except FieldError as complaint:
                faults.append(Fault(place, complaint.reason, complaint.remedy))
        targets.append(target.model_copy(update={"classification": merged}))
    return config.model_copy(update={"target": tuple(targets)}), faults


def _classification_entries(entries: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(kind, str) for kind in entries.values()):
        raise FieldError("has an entry that is not text", 'Write "schema.table.column" = "kind"')
    return read_classification(entries)

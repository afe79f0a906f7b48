"""``tollhouse login``: a token, a key and one request become a certificate.

Works with the base install: keys are ssh-keygen's, made and used as a process,
so that the private key is in no memory of ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from gateway.errors import BadCommand, LoginRefused, TargetUnavailable

PROOF_NAMESPACE = "tollhouse-login@v1"
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_TIMEOUT_S = 15.0
_MAX_ANSWER_BYTES = 1 << 20
_KEY = "id_ed25519"

_CERTIFICATE = re.compile(r"[a-z0-9-]+-cert-v01@openssh\.com [A-Za-z0-9+/]+=*")
_KNOWN_HOSTS = re.compile(r"@cert-authority [A-Za-z0-9.,:\[\]-]+ [a-z0-9-]+ [A-Za-z0-9+/]+=*")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        epilog="Example:\n\ntollhouse login --gateway https://gate.example.org:8443 --token-env JWT"
    )(login)


def login(
    gateway: Annotated[str, typer.Option(help="URL of the gateway's token exchange.")],
    token_file: Annotated[
        str | None, typer.Option(help="File that holds the token; - for stdin.")
    ] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the token.")
    ] = None,
    audience: Annotated[
        str | None, typer.Option(help="Audience to ask GitHub for; the gateway's URL if left out.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="CA of the gateway's HTTPS certificate (PEM).")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where key and certificate are kept.")
    ] = None,
    ssh_config: Annotated[
        Path | None, typer.Option(help="Write the ssh_config lines to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Exchange a token for a short SSH certificate.

    Without --token-file and --token-env the token is asked of GitHub Actions,
    where the job has the permission id-token: write.
    """
    gateway = gateway.rstrip("/")
    parts = urlsplit(gateway)
    if parts.scheme != "https" or not parts.hostname:
        raise BadCommand("the gateway's URL is not https", "A token is sent over TLS only", "login")
    token = _find_token(token_file, token_env, audience or gateway)
    place = folder or Path.home() / ".tollhouse" / re.sub(r"[^A-Za-z0-9.-]", "_", parts.hostname)
    key = _keep_key(place)
    answer = _exchange(gateway, token, key, ca_file)
    lines = _keep_answer(place, answer)
    if ssh_config is not None:
        _write(ssh_config, lines)
    if as_json:
        shown = {**answer.raw, "folder": str(place), "ssh_config": lines}
        print(json.dumps(shown))
        return
    print(
        f"# {answer.identity}: certificate until {answer.expires_at}, in {place}", file=sys.stderr
    )
    if ssh_config is None:
        print(lines, end="")
    else:
        print(f"# ssh -F {ssh_config} TARGET@{answer.host}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway gave, checked before any of it is written to a file.

    Attributes:
        raw: the whole JSON object.
        certificate: one OpenSSH line.
        known_hosts: one ``@cert-authority`` line.
    """

    raw: dict[str, Any]
    certificate: str
    known_hosts: str
    host: str
    port: int
    identity: str
    expires_at: str


def _find_token(file: str | None, variable: str | None, audience: str) -> str:
    if file is not None and variable is not None:
        raise BadCommand("two tokens are named", "Keep --token-file or --token-env", "login")
    if file == "-":
        token = sys.stdin.read()
    elif file is not None:
        try:
            token = Path(file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise BadCommand(
                "the token file cannot be read", "See its path and mode", "login"
            ) from None
    elif variable is not None:
        token = os.environ.get(variable, "")
    elif "ACTIONS_ID_TOKEN_REQUEST_URL" in os.environ:
        token = _github_token(audience)
    else:
        raise BadCommand("no token is named", "Use --token-file or --token-env", "login")
    if not token.strip():
        raise BadCommand("the token is empty", "See where it should come from", "login")
    return token.strip()


def _github_token(audience: str) -> str:
    """Ask GitHub for the job's ID token.

    https://docs.github.com/en/actions/reference/security/oidc
    """
    url = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"]
    secret = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    try:
        response = httpx.get(
            url,
            params={**dict(httpx.URL(url).params), "audience": audience},
            headers={"authorization": f"Bearer {secret}"},
            timeout=_TIMEOUT_S,
        )
        response.raise_for_status()
        token = response.json()["value"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        raise TargetUnavailable(
            "GitHub gave no token", "The job needs the permission id-token: write", "login.github"
        ) from None
    return str(token)


def _ssh_keygen(*arguments: str, message: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments], input=message, capture_output=True, check=True, timeout=60
        )
    except FileNotFoundError:
        raise BadCommand(
            "ssh-keygen is not installed", "Install OpenSSH's client", "login"
        ) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise BadCommand(
            "ssh-keygen cannot use the key", "Take the folder away and log in again", "login.key"
        ) from None
    return done.stdout


def _keep_key(folder: Path) -> Path:
    """The key of this gateway, made at the first login, in a folder that nobody else opens."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError:
        raise BadCommand(
            "the folder cannot be made", "Choose another with --dir", "login"
        ) from None
    key = folder / _KEY
    if not key.exists():
        _ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "tollhouse", "-f", str(key))
    return key


def _exchange(gateway: str, token: str, key: Path, ca_file: Path | None) -> Answer:
    digest = hashlib.sha256(token.encode()).digest()
    proof = _ssh_keygen("-q", "-Y", "sign", "-f", str(key), "-n", PROOF_NAMESPACE, message=digest)
    form = {
        "grant_type": _GRANT,
        "subject_token": token,
        "subject_token_type": _JWT,
        "public_key": key.with_name(f"{_KEY}.pub").read_text().strip(),
        "proof": proof.decode("ascii"),
    }
    body = bytearray()
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with (
            httpx.Client(verify=context, timeout=_TIMEOUT_S, follow_redirects=False) as client,
            client.stream("POST", f"{gateway}/v1/token", data=form) as response,
        ):
            for part in response.iter_bytes():
                body += part
                if len(body) > _MAX_ANSWER_BYTES:
                    raise _no_gateway("answered with more than 1 MiB")
    except (httpx.HTTPError, OSError) as error:
        certificate = isinstance(error.__cause__, ssl.SSLCertVerificationError) or (
            "CERTIFICATE_VERIFY_FAILED" in str(error)
        )
        raise _no_gateway(
            "shows a certificate that is not trusted" if certificate else "does not answer"
        ) from None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _no_gateway("did not answer with JSON") from None
    if not isinstance(answer, dict):
        raise _no_gateway("did not answer with a JSON object")
    if response.status_code != httpx.codes.OK:
        raise _refusal(response.status_code, answer)
    return _read_answer(answer)


def _no_gateway(what: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"the gateway {what}", "See --gateway; --ca-file trusts a private CA", "login.gateway"
    )


def _refusal(status: int, answer: dict[str, Any]) -> LoginRefused | TargetUnavailable:
    reason, advice, rule = (_plain(answer.get(name)) for name in ("reason", "advice", "rule"))
    kind = TargetUnavailable if status >= httpx.codes.INTERNAL_SERVER_ERROR else LoginRefused
    return kind(reason or f"the gateway answered with status {status}", advice, rule or "login")


def _plain(text: object) -> str:
    """Words of a server that is not yet trusted: printable ones only."""
    shown = text if isinstance(text, str) else ""
    return "".join(char if char.isprintable() else "?" for char in shown)[:500]


def _read_answer(answer: dict[str, Any]) -> Answer:
    ssh = answer.get("ssh")
    ssh = ssh if isinstance(ssh, dict) else {}
    certificate = str(answer.get("certificate", "")).strip()
    known_hosts = str(answer.get("known_hosts", "")).strip()
    host, port = str(ssh.get("host", "")), ssh.get("port")
    # These become lines of files that ssh obeys, so nothing else may hide in them.
    if (
        not _CERTIFICATE.fullmatch(certificate)
        or not _KNOWN_HOSTS.fullmatch(known_hosts)
        or not _HOST.fullmatch(host)
        or not isinstance(port, int)
        or not 0 < port < 1 << 16
    ):
        raise _no_gateway("answered with something that is not a certificate")
    return Answer(
        raw=answer,
        certificate=certificate,
        known_hosts=known_hosts,
        host=host,
        port=port,
        identity=_plain(answer.get("identity")),
        expires_at=_plain(answer.get("expires_at")),
    )


def _keep_answer(folder: Path, answer: Answer) -> str:
    """Write certificate and known_hosts beside the key; give the ssh_config lines."""
    certificate, known_hosts = folder / f"{_KEY}-cert.pub", folder / "known_hosts"
    _write(certificate, answer.certificate + "\n")
    _write(known_hosts, answer.known_hosts + "\n")

    def quoted(path: Path) -> str:
        return f'"{path.absolute()}"'

    return (
        f"Host {answer.host}\n"
        f"  HostName {answer.host}\n"
        f"  Port {answer.port}\n"
        f"  IdentityFile {quoted(folder / _KEY)}\n"
        f"  CertificateFile {quoted(certificate)}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {quoted(known_hosts)}\n"
        "  StrictHostKeyChecking yes\n"
    )


def _write(path: Path, text: str) -> None:
    """Put a file in its place whole, so that a running ssh never reads half of one."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        raise BadCommand(f"{path} cannot be written", "See the folder's mode", "login") from None

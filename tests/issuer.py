"""A small OpenID Connect issuer over real HTTP on loopback, honest or not.

It runs in a thread of its own, so that tests in an event loop and programs
started by tests reach it alike.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

AUDIENCE = "https://gateway.test:8443"
TTL_S = 300


def private_key(algorithm: str) -> PrivateKey:
    """A fresh key for a JWS algorithm."""
    if algorithm[:2] in ("RS", "PS"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {
        "ES256": ec.SECP256R1(),
        "ES384": ec.SECP384R1(),
        "ES512": ec.SECP521R1(),
    }
    return ec.generate_private_key(curves[algorithm])


def public_jwk(key: PrivateKey, kid: str | None, **members: Any) -> dict[str, Any]:
    """The public half as a JWK, ``use`` sig unless a member says otherwise."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        found = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        found.pop("key_ops", None)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        found = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)
    named = {} if kid is None else {"kid": kid}
    return {**found, "use": "sig", **named, **members}


def segment(value: Any) -> str:
    """A value as base64url JSON without padding; text is taken as it is."""
    raw = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


class Issuer:
    """The issuer's keys, what it publishes, and how often it was asked.

    Attributes:
        url: its base URL and ``iss``.
        keys: private keys by kid; the first signs.
        discovery, jwks: set to serve something else than the truth.
        status, location: of every answer.
        any_query: whether a path with a query is known too.
        asked: paths in the order of requests.
    """

    def __init__(self, url: str, algorithm: str = "ES256") -> None:
        self.url = url
        self.algorithm = algorithm
        self.keys: dict[str, PrivateKey] = {"key-1": private_key(algorithm)}
        self.discovery: Mapping[str, Any] | bytes | None = None
        self.jwks: Mapping[str, Any] | bytes | None = None
        self.status = 200
        self.location = ""
        self.any_query = False
        self.asked: list[str] = []

    def rotate(self, kid: str) -> None:
        """Change to a new key; the old one is no longer published."""
        self.keys = {kid: private_key(self.algorithm)}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims of a CI job; a claim that is set to None is left out."""
        now_s = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "repo:acme/reports:ref:refs/heads/main",
            "aud": AUDIENCE,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + TTL_S,
            "repository_id": "42",
            "environment": "production",
            "actor_id": "7",
            "run_id": "1001",
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, header: Mapping[str, Any] | None = None, **changed: Any) -> str:
        """A token, signed by the current key."""
        kid, key = next(iter(self.keys.items()))
        return jwt.encode(
            self.claims(**changed), key, self.algorithm, headers={"kid": kid, **(header or {})}
        )

    def published(self) -> list[dict[str, Any]]:
        """The key set, as the JWKS endpoint gives it."""
        return [public_jwk(key, kid) for kid, key in self.keys.items()]

    def answer(self, path: str) -> Mapping[str, Any] | bytes | None:
        """The document at a path, or None."""
        if self.any_query:
            path = path.partition("?")[0]
        if path == "/.well-known/openid-configuration":
            honest = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
            return honest if self.discovery is None else self.discovery
        if path == "/jwks":
            return {"keys": self.published()} if self.jwks is None else self.jwks
        return None


@contextmanager
def serve_issuer(algorithm: str = "ES256") -> Iterator[Issuer]:
    """Run an issuer on a free loopback port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            found = issuer.answer(self.path)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(404 if found is None else issuer.status)
            if issuer.location:
                self.send_header("location", issuer.location)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}", algorithm)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

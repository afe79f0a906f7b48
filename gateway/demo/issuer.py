"""A small OpenID Connect issuer over HTTP on loopback, for the demo.

Discovery, a JWK set and a token endpoint (client credentials, RFC 6749 section
4.4). Real signatures by a key that lives as long as the process; the clients'
secrets are drawn at start.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN_TTL_S = 300


class DemoIssuer:
    """The issuer's key, clients and endpoints.

    Args:
        url: its own base URL, also ``iss``.
        audience: what ``aud`` says in every token: the gateway's URL.
        subjects: claims by client id; each client gets a secret of its own.
    """

    def __init__(self, url: str, audience: str, subjects: Mapping[str, Mapping[str, Any]]) -> None:
        self.url = url
        self._audience = audience
        self._subjects = subjects
        self._key = generate_private_key(SECP256R1())
        self._kid = secrets.token_hex(8)
        self.secrets = {client: secrets.token_urlsafe(24) for client in subjects}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discover),
                Route("/jwks", self._keys),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def claims(self, client: str, now_s: int) -> dict[str, Any]:
        """What a token of this client says at that second (Unix time)."""
        return {
            "iss": self.url,
            "aud": self._audience,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + TOKEN_TTL_S,
            "jti": secrets.token_hex(12),
            **self._subjects[client],
        }

    def token(self, client: str) -> str:
        """A signed token for this client, five minutes long."""
        claims = self.claims(client, int(time.time()))
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._kid})

    async def _discover(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "token_endpoint": f"{self.url}/token",
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
            }
        )

    async def _keys(self, _: Request) -> Response:
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return JSONResponse({"keys": [key | {"kid": self._kid, "use": "sig", "alg": "ES256"}]})

    async def _token(self, request: Request) -> Response:
        body = (await request.body()).decode("utf-8", "replace")
        form = dict(parse_qsl(body))
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        header = request.headers.get("authorization", "")
        if header.lower().startswith("basic "):
            try:
                client, _, secret = base64.b64decode(header[6:]).decode().partition(":")
            except ValueError:  # no base64, or no UTF-8 in it
                return JSONResponse({"error": "invalid_request"}, status_code=400)
        expected = self.secrets.get(client)
        if expected is None or not secrets.compare_digest(secret.encode(), expected.encode()):
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        if form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
        return JSONResponse(
            {
                "access_token": self.token(client),
                "token_type": "Bearer",
                "expires_in": TOKEN_TTL_S,
            },
            headers={"cache-control": "no-store"},
        )

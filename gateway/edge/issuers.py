"""The issuers' keys: found by discovery, kept for minutes, asked for again with care.

OpenID Connect Discovery 1.0 (https://openid.net/specs/openid-connect-discovery-1_0.html).
A token never says where keys lie: only the configured URL does. Fetches are
bounded in time and size, follow no redirect, and one that a stranger's token
caused happens at most once in half a minute.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway.config import GatewayConfig
from gateway.core.token import Claims, IssuerRules, Jwks, peek, verify
from gateway.errors import TargetUnavailable, TokenRefused
from gateway.values import is_loopback

KEYS_KEPT_S = 600.0
"""A key that an issuer withdrew is accepted for this long at most."""

REFETCH_AFTER_S = 30.0
"""An unknown key id, or a failure, causes no more than one fetch in this time."""

_TIMEOUT_S = 5.0
_MAX_DOCUMENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """Where the keys of one issuer come from.

    Attributes:
        jwks_file: read instead of discovery.
        ca_file: trusted for this issuer instead of the public CAs.
        allow_http: plain http is accepted, from a loopback address only.
    """

    jwks_file: Path | None = None
    ca_file: Path | None = None
    allow_http: bool = False


class KeySet:
    """The published keys of one issuer, fetched when needed, one fetch at a time.

    Args:
        url: the issuer.
        source: where its keys come from.
        clock: monotonic seconds.
    """

    def __init__(
        self, url: str, source: Source, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: Jwks | None = None
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")

    async def keys(self, *, again: bool = False) -> Jwks:
        """The keys, at most ten minutes old.

        Args:
            again: the kept keys lack one; ask the issuer if it was not asked just now.

        Raises:
            TargetUnavailable: the issuer does not answer, or not with a key set.
        """
        async with self._lock:
            now_s = self._clock()
            fresh = self._keys if now_s - self._fetched_s < KEYS_KEPT_S else None
            if fresh is not None and (not again or now_s - self._tried_s < REFETCH_AFTER_S):
                return fresh
            if fresh is None and now_s - self._tried_s < REFETCH_AFTER_S:
                raise self._unavailable("did not answer a moment ago")
            self._tried_s = now_s
            self._keys = await self._fetch()
            self._fetched_s = self._clock()
            return self._keys

    async def _fetch(self) -> Jwks:
        if self._source.jwks_file is not None:
            try:
                raw = await asyncio.to_thread(self._source.jwks_file.read_bytes)
            except OSError:
                raise self._unavailable("has a jwks_file that cannot be read") from None
            return self._key_list(self._document(raw))
        context = await asyncio.to_thread(ssl.create_default_context, cafile=self._source.ca_file)
        try:
            async with (
                asyncio.timeout(2 * _TIMEOUT_S),
                httpx.AsyncClient(
                    verify=context,
                    timeout=_TIMEOUT_S,
                    follow_redirects=False,
                    trust_env=not self._source.allow_http,
                ) as client,
            ):
                found = await self._get(
                    client, self._url.rstrip("/") + "/.well-known/openid-configuration"
                )
                if found.get("issuer") != self._url:
                    raise self._unavailable(
                        "calls itself by another name in its discovery document"
                    )
                return self._key_list(await self._get(client, self._checked(found.get("jwks_uri"))))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError):
            raise self._unavailable("does not answer") from None

    def _checked(self, url: object) -> str:
        parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
        plain = self._source.allow_http and parts.scheme == "http"
        if parts.scheme == "https" or (plain and is_loopback(parts.hostname or "")):
            return str(url)
        raise self._unavailable("publishes its keys at an address that is not https")

    async def _get(self, client: httpx.AsyncClient, url: str) -> dict[str, Any]:
        body = bytearray()
        async with client.stream("GET", url, headers={"accept": "application/json"}) as response:
            if response.status_code != httpx.codes.OK:
                raise self._unavailable(f"answers with status {response.status_code}")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _MAX_DOCUMENT_BYTES:
                    raise self._unavailable("answers with more than 1 MiB")
        return self._document(bytes(body))

    def _document(self, raw: bytes) -> dict[str, Any]:
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            raise self._unavailable("does not answer with JSON") from None
        if not isinstance(document, dict):
            raise self._unavailable("does not answer with a JSON object")
        return document

    def _key_list(self, document: dict[str, Any]) -> Jwks:
        keys = document.get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise self._unavailable("does not answer with a JWK set")
        return keys

    def _unavailable(self, what: str) -> TargetUnavailable:
        return TargetUnavailable(
            f"the issuer {self._url} {what}",
            "Try again in a minute; `tollhouse check` sees the configuration",
            rule="issuer.unavailable",
        )


class Issuers:
    """All configured issuers; verifies a token against the one that it names.

    Args:
        rules: of each issuer.
        key_sets: by issuer URL.
    """

    def __init__(self, rules: Sequence[IssuerRules], key_sets: dict[str, KeySet]) -> None:
        self._rules = {rule.url: rule for rule in rules}
        self._key_sets = key_sets

    @classmethod
    def of(cls, config: GatewayConfig) -> Issuers:
        """The issuers of a configuration; nothing is fetched yet."""
        sets = {
            issuer.url: KeySet(
                issuer.url, Source(issuer.jwks_file, issuer.ca_file, issuer.allow_http)
            )
            for issuer in config.issuer
        }
        return cls(config.issuer_rules, sets)

    def rules_for(self, url: str) -> IssuerRules:
        """The rules of an issuer.

        Raises:
            TokenRefused: it is not configured.
        """
        rules = self._rules.get(url)
        if rules is None:
            raise TokenRefused(
                "the token's issuer is not configured here",
                f"Known issuers: {', '.join(self._rules)}",
                "token.issuer",
            )
        return rules

    async def verify(self, token: str, now: datetime) -> Claims:
        """Verify a token; its issuer is asked for keys when they are not known.

        Raises:
            TokenRefused: see ``gateway.core.token``; also for an unknown issuer.
            TargetUnavailable: the issuer's keys cannot be had.
        """
        rules = self.rules_for(peek(token).issuer)
        keys = self._key_sets[rules.url]
        try:
            return verify(token, await keys.keys(), rules, now)
        except TokenRefused as refusal:
            if refusal.rule != "token.unknown-key":
                raise
        return verify(token, await keys.keys(again=True), rules, now)

"""Issuers: discovery and keys over real HTTP, rotation, and answers that cannot be used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.core.token import IssuerRules
from gateway.edge.issuers import KEYS_KEPT_S, REFETCH_AFTER_S, Issuers, KeySet, Source
from gateway.errors import TargetUnavailable, TokenRefused
from tests.issuer import AUDIENCE, Issuer, serve_issuer

DISCOVERY = "/.well-known/openid-configuration"


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serve_issuer() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trusting(issuer: Issuer, clock: Clock, **source: Any) -> Issuers:
    rules = IssuerRules("ci", issuer.url, AUDIENCE, ("ES256", "RS256", "EdDSA"))
    keys = KeySet(issuer.url, Source(allow_http=True, **source), clock)
    return Issuers([rules], {issuer.url: keys})


async def verify(issuers: Issuers, token: str) -> str:
    return (await issuers.verify(token, datetime.now(UTC))).subject


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_real_issuer_is_asked_once(algorithm: str, clock: Clock) -> None:
    with serve_issuer(algorithm) as issuer:
        issuers = trusting(issuer, clock)
        subjects = await asyncio.gather(*(verify(issuers, issuer.token()) for _ in range(5)))
        assert set(subjects) == {"repo:acme/reports:ref:refs/heads/main"}
        assert issuer.asked == [DISCOVERY, "/jwks"]


async def test_rotation_is_followed_at_a_bounded_rate(issuer: Issuer, clock: Clock) -> None:
    issuers = trusting(issuer, clock)
    await verify(issuers, issuer.token())
    issuer.rotate("key-2")
    with pytest.raises(TokenRefused) as caught:
        await verify(issuers, issuer.token())
    assert caught.value.rule == "token.unknown-key"
    assert len(issuer.asked) == 2, "asked again within the pause"
    clock.now_s += REFETCH_AFTER_S
    await verify(issuers, issuer.token())
    assert len(issuer.asked) == 4
    for _ in range(20):
        with pytest.raises(TokenRefused):
            await verify(issuers, issuer.token({"kid": "unknown"}))
    assert len(issuer.asked) == 4, "strangers made the gateway ask"


async def test_a_withdrawn_key_ends_with_the_kept_set(issuer: Issuer, clock: Clock) -> None:
    issuers = trusting(issuer, clock)
    old = issuer.token()
    await verify(issuers, old)
    issuer.rotate("key-2")
    clock.now_s += KEYS_KEPT_S
    with pytest.raises(TokenRefused):
        await verify(issuers, old)


async def test_an_issuer_that_is_down_admits_nobody(issuer: Issuer, clock: Clock) -> None:
    issuers = trusting(issuer, clock)
    await verify(issuers, issuer.token())
    issuer.status = 500
    clock.now_s += KEYS_KEPT_S
    with pytest.raises(TargetUnavailable, match="status 500"):
        await verify(issuers, issuer.token())
    with pytest.raises(TargetUnavailable, match="a moment ago"):
        await verify(issuers, issuer.token())
    issuer.status = 200
    clock.now_s += REFETCH_AFTER_S
    assert await verify(issuers, issuer.token())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"discovery": {"issuer": "https://other.test", "jwks_uri": "x"}}, "another name"),
        ({"discovery": {}}, "another name"),
        ({"discovery": b"[]"}, "JSON object"),
        ({"discovery": b"{"}, "JSON"),
        ({"discovery": b"[" * 100_000}, "JSON"),
        ({"discovery": b" " * (1 << 20) + b" {}"}, "more than 1 MiB"),
        ({"jwks": {"keys": "no"}}, "JWK set"),
        ({"jwks": {"keys": [1]}}, "JWK set"),
        ({"jwks": {}}, "JWK set"),
        ({"status": 302, "location": "http://127.0.0.1:1/"}, "status 302"),
        ({"status": 404}, "status 404"),
    ],
)
async def test_answers_that_cannot_be_used(
    issuer: Issuer, clock: Clock, changed: dict[str, Any], words: str
) -> None:
    for name, value in changed.items():
        setattr(issuer, name, value)
    with pytest.raises(TargetUnavailable, match=words) as caught:
        await verify(trusting(issuer, clock), issuer.token())
    assert caught.value.rule == "issuer.unavailable"


@pytest.mark.parametrize("uri", [None, 5, "", "file:///etc/passwd", "http://example.org/jwks", "x"])
async def test_keys_are_not_fetched_from_anywhere(
    issuer: Issuer, clock: Clock, uri: object
) -> None:
    issuer.discovery = {"issuer": issuer.url, "jwks_uri": uri}
    with pytest.raises(TargetUnavailable, match="not https"):
        await verify(trusting(issuer, clock), issuer.token())
    assert issuer.asked == [DISCOVERY]


async def test_a_jwks_file_needs_no_network(issuer: Issuer, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    issuers = trusting(issuer, clock, jwks_file=file)
    with pytest.raises(TargetUnavailable, match="jwks_file"):
        await verify(issuers, issuer.token())
    file.write_text(json.dumps({"keys": issuer.published()}))
    clock.now_s += REFETCH_AFTER_S
    assert await verify(issuers, issuer.token())
    assert issuer.asked == []


async def test_nothing_listens(clock: Clock) -> None:
    with serve_issuer() as issuer:
        pass
    with pytest.raises(TargetUnavailable, match="does not answer"):
        await verify(trusting(issuer, clock), issuer.token())


async def test_an_unknown_issuer_is_never_asked(issuer: Issuer, clock: Clock) -> None:
    with serve_issuer() as stranger:
        with pytest.raises(TokenRefused) as caught:
            await verify(trusting(issuer, clock), stranger.token())
        assert stranger.asked == []
    assert caught.value.rule == "token.issuer"

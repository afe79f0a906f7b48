"""Tokens: each cause of refusal has a rule of its own, and good tokens pass."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.token import MAX_TOKEN_BYTES, IssuerRules, peek, verify
from gateway.errors import TokenRefused
from tests.issuer import AUDIENCE, Issuer, private_key, public_jwk, segment

URL = "https://issuer.test"
RULES = IssuerRules("test", URL, AUDIENCE, ("ES256", "RS256", "EdDSA"), leeway_s=30)
ISSUER = Issuer(URL)

NESTED_TWICE = '{"a": {"sub": 1, "sub": 2}}'


def now() -> datetime:
    return datetime.now(UTC)


def refused(token: str, keys: list[dict[str, Any]] | None = None, **changed: Any) -> str:
    rules = replace(RULES, **changed)
    with pytest.raises(TokenRefused) as caught:
        verify(token, ISSUER.published() if keys is None else keys, rules, now())
    assert not token or token not in str(caught.value)
    return caught.value.rule


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]
)
def test_each_algorithm_verifies(algorithm: Any) -> None:
    issuer = Issuer(URL, algorithm)
    rules = replace(RULES, algorithms=(algorithm,))
    claims = verify(issuer.token(), issuer.published(), rules, now())
    assert (claims.issuer, claims.subject) == (URL, "repo:acme/reports:ref:refs/heads/main")
    assert claims.values["repository_id"] == "42"


def test_times_are_judged_by_the_argument() -> None:
    token = ISSUER.token()
    keys = ISSUER.published()
    verify(token, keys, RULES, now() + timedelta(seconds=325))
    with pytest.raises(TokenRefused, match="has expired"):
        verify(token, keys, RULES, now() + timedelta(seconds=335))
    verify(token, keys, RULES, now() - timedelta(seconds=25))
    with pytest.raises(TokenRefused, match="not valid yet"):
        verify(token, keys, RULES, now() - timedelta(seconds=35))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"exp": None}, "token.expiry"),
        ({"exp": "soon"}, "token.time"),
        ({"exp": True}, "token.time"),
        ({"exp": 1e300}, "token.time"),
        ({"exp": 1}, "token.expired"),
        ({"nbf": int(time.time()) + 3600}, "token.not-yet"),
        ({"iat": int(time.time()) + 3600}, "token.not-yet"),
        ({"iat": [1]}, "token.time"),
        ({"aud": None}, "token.audience"),
        ({"aud": "https://gateway.test:8443/"}, "token.audience"),
        ({"aud": ["a", "b"]}, "token.audience"),
        ({"aud": {AUDIENCE: 1}}, "token.audience"),
        ({"sub": None}, "token.subject"),
        ({"sub": ""}, "token.subject"),
        ({"sub": 5}, "token.subject"),
        ({"iss": "https://issuer.test/"}, "token.issuer"),
        ({"iss": "https://ISSUER.test"}, "token.issuer"),
        ({"iss": None}, "token.issuer"),
    ],
)
def test_a_claim_that_is_not_right(changed: dict[str, Any], rule: str) -> None:
    # Signed by hand: a JWT library would refuse to write some of these.
    kid, key = next(iter(ISSUER.keys.items()))
    payload = json.dumps(ISSUER.claims(**changed)).encode()
    token = jwt.api_jws.encode(payload, key, "ES256", headers={"kid": kid, "typ": "JWT"})
    assert refused(token) == rule


def test_an_audience_may_stand_in_a_list() -> None:
    token = ISSUER.token(aud=["other", AUDIENCE])
    assert verify(token, ISSUER.published(), RULES, now()).subject


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    text = f"{segment(header)}.{segment(claims)}"
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", "HS256", "HS512", "ES384", 5, None]
)
def test_an_algorithm_that_is_not_accepted(algorithm: object) -> None:
    token = forged({"alg": algorithm, "kid": "key-1"}, ISSUER.claims())
    assert refused(token) == "token.algorithm"


def test_a_public_key_is_no_hmac_secret() -> None:
    issuer = Issuer(URL, "RS256")
    text = f"{segment({'alg': 'HS256', 'kid': 'key-1'})}.{segment(issuer.claims())}"
    secret = json.dumps(issuer.published()[0]).encode()
    token = f"{text}.{segment(hmac.new(secret, text.encode(), hashlib.sha256).hexdigest())}"
    assert refused(token, issuer.published()) == "token.algorithm"
    # Not even if a configuration could list it.
    assert refused(token, issuer.published(), algorithms=("HS256",)) == "token.algorithm"


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
def test_a_token_cannot_bring_its_own_key(header: str) -> None:
    stranger = Issuer(URL)
    brought = stranger.published()[0]
    value = {
        "jwk": brought,
        "jku": "https://evil.test/jwks",
        "x5u": "https://evil.test",
        "x5c": ["AA"],
    }
    assert refused(stranger.token({header: value[header]})) == "token.signature"


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}])
def test_a_critical_extension(header: dict[str, Any]) -> None:
    assert (
        refused(forged({"alg": "ES256", "kid": "key-1", **header}, ISSUER.claims())) == "token.crit"
    )


def test_the_key_is_chosen_by_its_id() -> None:
    keys = ISSUER.published()
    other = public_jwk(private_key("ES256"), "key-2")
    assert refused(ISSUER.token({"kid": "key-9"})) == "token.unknown-key"
    assert refused(ISSUER.token({"kid": "key-2"}), [*keys, other]) == "token.signature"
    assert refused(ISSUER.token(), []) == "token.unknown-key"
    assert refused(ISSUER.token(), keys * 2) == "token.kid"
    assert refused(ISSUER.token(), keys * 101) == "token.keys"
    without = jwt.encode(ISSUER.claims(), ISSUER.keys["key-1"], "ES256")
    assert refused(without, [*keys, other]) == "token.kid"
    assert refused(without, []) == "token.kid"
    assert verify(without, keys, RULES, now()).subject


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"alg": "ES384"},
        {"alg": "RS256"},
        {"kty": "oct", "k": "AA"},
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"crv": None},
        {"x": "AA"},
        {"x": 5},
    ],
)
def test_a_key_that_is_meant_for_something_else(members: dict[str, Any]) -> None:
    keys = [{**ISSUER.published()[0], **members}]
    assert refused(ISSUER.token(), keys) == "token.key-use"


def test_key_ops_with_verify_is_fine() -> None:
    keys = [{**ISSUER.published()[0], "key_ops": ["verify"], "alg": "ES256"}]
    assert verify(ISSUER.token(), keys, RULES, now()).subject


def test_a_short_rsa_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(ISSUER.claims(), key, "RS256", headers={"kid": "short"})
    assert refused(token, [public_jwk(key, "short")]) == "token.key-use"


def test_a_changed_token() -> None:
    header, payload, signature = ISSUER.token().split(".")
    richer = segment(ISSUER.claims(repository_id="43"))
    assert refused(f"{header}.{richer}.{signature}") == "token.signature"
    assert refused(f"{header}.{payload}.") == "token.signature"
    assert refused(f"{header}.{payload}.{signature[:-4]}") == "token.signature"
    assert refused(f"{header}.{payload}.!!!") == "token.signature"


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda t: "", "token.format"),
        (lambda t: "a.b", "token.format"),
        (lambda t: t + ".x", "token.format"),
        (lambda t: t + "é", "token.format"),
        (lambda t: t.replace(".", "..", 1), "token.format"),
        (lambda t: t + " ", "token.signature"),
        (lambda t: t + "A" * MAX_TOKEN_BYTES, "token.size"),
        (lambda t: f"{segment('[]')}.{t.split('.')[1]}.x", "token.format"),
        (lambda t: f"{segment('{')}.{t.split('.')[1]}.x", "token.format"),
        (lambda t: f"{segment('[' * 9000)}.e30.x", "token.format"),
        (lambda t: f"{segment('1' * 9000)}.e30.x", "token.format"),
        (lambda t: segment('{"a": NaN}') + ".e30.x", "token.format"),
        (lambda t: segment('{"alg": "ES256", "alg": "none"}') + ".e30.x", "token.duplicate"),
        (lambda t: f"e30.{segment(NESTED_TWICE)}.x", "token.duplicate"),
    ],
)
def test_text_that_is_no_token(make: Callable[[str], str], rule: str) -> None:
    assert refused(make(ISSUER.token())) == rule


def test_curves_are_not_mixed() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    jwk = public_jwk(key, "key-1")
    assert jwk["crv"] == "secp256k1"
    assert refused(ISSUER.token(), [jwk]) == "token.key-use"


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.binary(max_size=40), min_size=3, max_size=3)))
def test_garbage_raises_only_its_own_error(found: str | list[bytes]) -> None:
    token = (
        found
        if isinstance(found, str)
        else ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in found)
    )
    with pytest.raises(TokenRefused):
        verify(token, ISSUER.published(), RULES, now())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_one_changed_character_never_verifies_as_another(data: st.DataObject) -> None:
    token = ISSUER.token()
    at = data.draw(st.integers(0, len(token) - 1))
    char = data.draw(st.sampled_from("ABZaz09-_."))
    changed = token[:at] + char + token[at + 1 :]
    try:
        claims = verify(changed, ISSUER.published(), RULES, now())
    except TokenRefused:
        return
    # Trailing bits of the signature's base64 may differ; what it covers may not.
    assert changed.rpartition(".")[0] == token.rpartition(".")[0]
    assert claims.subject == peek_subject(token)


def peek_subject(token: str) -> str:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sub"])


def test_peek_reads_issuer_and_key() -> None:
    assert (peek(ISSUER.token()).issuer, peek(ISSUER.token()).key_id) == (URL, "key-1")
    with pytest.raises(TokenRefused, match="no issuer"):
        peek(forged({"alg": "ES256"}, {"iss": 5}))

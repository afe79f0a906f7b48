"""OIDC tokens: verified against the keys and the rules of their issuer.

PyJWT checks the signature and the times. What it leaves open is closed here:
``use`` and ``key_ops`` of the key, repeated JSON keys, a key type that does not
fit the algorithm, and headers that would let a token bring its own key. The
rules follow RFC 8725 (https://www.rfc-editor.org/rfc/rfc8725).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import jwt

from gateway.errors import TokenRefused

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signature algorithms that may be configured: asymmetric ones only."""

MAX_TOKEN_BYTES = 16_384
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}

Jwks = Sequence[Mapping[str, Any]]
"""The ``keys`` of a JWK set (RFC 7517), as the issuer publishes them."""


@dataclass(frozen=True, slots=True)
class IssuerRules:
    """What a token of one issuer must be.

    Attributes:
        name: the issuer's name in the configuration.
        url: exactly what ``iss`` must say.
        audience: what ``aud`` must be or hold.
        algorithms: accepted ``alg`` values; anything else is refused.
        leeway_s: tolerated clock difference, at most 60 seconds.
    """

    name: str
    url: str
    audience: str
    algorithms: tuple[Algorithm, ...]
    leeway_s: int = 30


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token that verified; made by ``verify`` only.

    Attributes:
        issuer, subject: ``iss`` and ``sub``, never empty.
        expires: seconds since the epoch, from ``exp``.
        values: the whole payload.
    """

    issuer: str
    subject: str
    expires: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says of itself, good for choosing rules and keys only."""

    issuer: str
    key_id: str | None


def peek(token: str) -> Unverified:
    """Read issuer and key id before anything is proved.

    Raises:
        TokenRefused: it is not a compact JWS with a JSON header and payload.
    """
    header, payload = _parts(token)
    issuer = payload.get("iss")
    if not isinstance(issuer, str):
        raise _refused(
            "token.issuer", "the token has no issuer (iss)", "Ask the issuer for an ID token"
        )
    key_id = header.get("kid")
    return Unverified(issuer, key_id if isinstance(key_id, str) else None)


def verify(token: str, keys: Jwks, rules: IssuerRules, now: datetime) -> Claims:
    """Verify a token against one issuer's keys and rules.

    Args:
        token: compact JWS, at most 16,384 bytes.
        keys: the issuer's JWK set; keys by (issuer, kid), never from the token.
        rules: of the issuer that the token's ``iss`` names.
        now: the time to judge ``exp``, ``nbf`` and ``iat`` by; aware.

    Raises:
        TokenRefused: with a rule of its own for each cause.
    """
    header, payload = _parts(token)
    algorithm = _algorithm(header, rules)
    if payload.get("iss") != rules.url:
        raise _refused(
            "token.issuer",
            "the token's issuer is not the configured one",
            "See the issuer's url in gateway.toml: it must equal iss exactly",
        )
    key = _choose_key(keys, header.get("kid"), algorithm)
    _check_signature(token, key, algorithm)
    expires = _check_times(payload, rules.leeway_s, now.timestamp())
    _check_audience(payload.get("aud"), rules.audience)
    subject = payload.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _refused(
            "token.subject", "the token has no subject (sub)", "Ask the issuer for an ID token"
        )
    return Claims(rules.url, subject, expires, payload)


def _refused(rule: str, reason: str, advice: str) -> TokenRefused:
    return TokenRefused(reason, advice, rule)


def _malformed(reason: str) -> TokenRefused:
    return _refused("token.format", reason, "Send the token exactly as the issuer gave it")


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > MAX_TOKEN_BYTES:
        raise _refused(
            "token.size",
            f"the token is longer than {MAX_TOKEN_BYTES} bytes",
            "Ask for fewer claims",
        )
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise _malformed("the token is not a signed JWT")
    return _json_part(parts[0], "header"), _json_part(parts[1], "payload")


def _json_part(text: str, what: str) -> dict[str, Any]:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise _malformed(f"the token's {what} is not base64url")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (binascii.Error, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise _malformed(f"the token's {what} is not JSON") from None
    except ValueError:  # an integer of thousands of digits
        raise _malformed(f"the token's {what} holds an unreadable number") from None
    if not isinstance(value, dict):
        raise _malformed(f"the token's {what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refused(
            "token.duplicate",
            "the token repeats a JSON key",
            "Two readers could see two identities",
        )
    return found


def _no_constant(name: str) -> float:
    raise _malformed(f"the token holds {name}, which is not JSON")


def _algorithm(header: Mapping[str, Any], rules: IssuerRules) -> Algorithm:
    if "crit" in header or "b64" in header:
        raise _refused(
            "token.crit", "the token demands an extension that is not known", "Ask for a plain JWT"
        )
    algorithm = header.get("alg")
    for accepted in rules.algorithms:
        if algorithm == accepted and accepted in get_args(Algorithm):
            return accepted
    raise _refused(
        "token.algorithm",
        "the token's signature algorithm is not accepted from this issuer",
        f"Accepted are {', '.join(rules.algorithms)} (algorithms in gateway.toml)",
    )


def _choose_key(keys: Jwks, key_id: object, algorithm: Algorithm) -> Mapping[str, Any]:
    """The one key that may have made the signature; the token cannot bring its own."""
    if len(keys) > _MAX_KEYS:
        raise _refused(
            "token.keys", f"the issuer has more than {_MAX_KEYS} keys", "See its JWK set"
        )
    if key_id is None:
        if len(keys) != 1:
            raise _refused(
                "token.kid",
                "the token names no key (kid) and the issuer has several",
                "Use an issuer that sets kid",
            )
        named = list(keys)
    else:
        named = [key for key in keys if isinstance(key_id, str) and key.get("kid") == key_id]
    if not named:
        raise _refused(
            "token.unknown-key",
            "the token was signed with a key that the issuer does not publish",
            "If the issuer has just changed its keys, try again in a minute",
        )
    if len(named) > 1:
        raise _refused("token.kid", "the issuer has several keys of this name", "See its JWK set")
    key = named[0]
    operations = key.get("key_ops")
    fits = (
        key.get("kty") == _KEY_TYPES[algorithm[:2]]
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
        and key.get("crv") == _CURVES.get(algorithm)
    )
    if not fits:
        raise _refused(
            "token.key-use",
            "the issuer's key is not meant for this signature (kty, crv, alg, use or key_ops)",
            "See the issuer's JWK set",
        )
    return key


def _check_signature(token: str, key: Mapping[str, Any], algorithm: Algorithm) -> None:
    public = {name: value for name, value in key.items() if name not in ("key_ops", "use", "alg")}
    try:
        loaded = jwt.PyJWK(public, algorithm=algorithm)
        size_bits = getattr(loaded.key, "key_size", _MIN_RSA_BITS)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise _refused(
            "token.key-use", "the issuer's key cannot be read", "See its JWK set"
        ) from None
    if algorithm[:2] in ("RS", "PS") and size_bits < _MIN_RSA_BITS:
        raise _refused(
            "token.key-use",
            f"the issuer's RSA key is shorter than {_MIN_RSA_BITS} bits",
            "It must change it",
        )
    try:
        jwt.api_jws.decode_complete(token, loaded, algorithms=[algorithm])
    except jwt.PyJWTError:
        raise _refused(
            "token.signature",
            "the token's signature does not verify",
            "The token was changed or forged",
        ) from None


def _number(payload: Mapping[str, Any], claim: str) -> float | None:
    value = payload.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 40:
        raise _refused(
            "token.time", f"the token's {claim} is not a time", "See RFC 7519, NumericDate"
        )
    return float(value)


def _check_times(payload: Mapping[str, Any], leeway_s: int, now_s: float) -> int:
    expires, not_before, issued = (_number(payload, claim) for claim in ("exp", "nbf", "iat"))
    if expires is None:
        raise _refused(
            "token.expiry", "the token has no expiry (exp)", "Ask the issuer for one that expires"
        )
    if now_s >= expires + leeway_s:
        raise _refused("token.expired", "the token has expired", "Ask the issuer for a fresh one")
    for claim, start in (("nbf", not_before), ("iat", issued)):
        if start is not None and now_s < start - leeway_s:
            raise _refused(
                "token.not-yet",
                f"the token is not valid yet ({claim} lies in the future)",
                "See the clocks of the issuer and the gateway",
            )
    return int(expires)


def _check_audience(found: object, wanted: str) -> None:
    audiences = found if isinstance(found, list) else [found]
    if wanted not in [audience for audience in audiences if isinstance(audience, str)]:
        raise _refused(
            "token.audience",
            "the token is not meant for this gateway (aud)",
            f"Ask the issuer for a token with the audience {wanted}",
        )

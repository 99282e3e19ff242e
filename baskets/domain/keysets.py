"""Public keys as others publish them, read with suspicion: only what can verify a signature, and only strong keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from baskets.models.issuers import ALGORITHMS

RSA = frozenset(name for name in ALGORITHMS if name.startswith(("RS", "PS")))
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
SHORTEST_RSA = 2048
LONGEST_RSA = 16384
MOST_KEYS = 50
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class UnusableKey(Exception):
    """A key cannot be used to verify a signature; the sentence says why."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """One public key, and the algorithms that it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any

    def fits(self, *, kid: str | None, algorithm: str) -> bool:
        """Tell whether a token with this header can have been signed with this key."""
        return algorithm in self.algorithms and (kid is None or kid == self.kid)


def parse_jwk(jwk: Any) -> PublicKey:
    """Read one JSON Web Key.

    :raises UnusableKey: it is none, it is secret or too weak, or it is not meant for signatures.
    """
    if not isinstance(jwk, Mapping):
        raise UnusableKey("A key is an object.")
    if PRIVATE & jwk.keys():
        raise UnusableKey("That is a private or a secret key; only public ones belong here.")
    uses = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        raise UnusableKey("The key is not meant for signatures.")
    kid, named = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str | None) or not isinstance(named, str | None):
        raise UnusableKey("`kid` and `alg` are strings.")
    key = _loaded(json.dumps(dict(jwk), sort_keys=True))
    algorithms = _algorithms_of(key) & (set(ALGORITHMS) if named is None else {named})
    if not algorithms:
        raise UnusableKey("The key is of no kind that is known here, or does not fit its `alg`.")
    return PublicKey(kid=kid, algorithms=algorithms, key=key)


def parse_jwks(document: Any) -> tuple[tuple[PublicKey, ...], list[str]]:
    """Read a JSON Web Key Set: the keys that can be used, and what is wrong with the others.

    :raises UnusableKey: it is no such set, or has too many keys.
    """
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list):
        raise UnusableKey('A key set is an object with an array "keys".')
    if len(keys) > MOST_KEYS:
        raise UnusableKey(f"A key set has at most {MOST_KEYS} keys.")
    found, wrong = [], []
    for place, jwk in enumerate(keys):
        try:
            found.append(parse_jwk(jwk))
        except UnusableKey as error:
            wrong.append(f"keys[{place}]: {error}")
    return tuple(found), wrong


@lru_cache(maxsize=256)
def _loaded(jwk: str) -> Any:
    """Load a key. The result depends on the text alone, so it is loaded once."""
    try:
        kind = json.loads(jwk).get("kty")
        loaders: dict[str, Any] = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}
        return loaders[kind].from_jwk(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise UnusableKey("The key cannot be read.") from error


def _algorithms_of(key: Any) -> frozenset[str]:
    match key:
        case rsa.RSAPublicKey():
            return RSA if SHORTEST_RSA <= key.key_size <= LONGEST_RSA else frozenset()
        case ec.EllipticCurvePublicKey():
            return frozenset({CURVES[key.curve.name]} if key.curve.name in CURVES else ())
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return frozenset({"EdDSA"})
    return frozenset()

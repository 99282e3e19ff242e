"""Parses the JSON Web Keys that token issuers publish (RFC 7517): keeps the keys that verify signatures, explains the others."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from baskets.models.token_issuers import ALGORITHMS

RSA_ALGORITHMS = frozenset(name for name in ALGORITHMS if name.startswith(("RS", "PS")))
CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# RFC 9864 names the curve in `alg`, where `EdDSA` leaves it open. Issuers use either name for the same key.
EDWARDS_CURVES = ("Ed25519", "Ed448")
# Any algorithm of the key type makes PyJWT parse the key. Symmetric keys (`oct`) are missing on purpose.
PARSED_AS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384
MAX_KEYS = 50
# Members of private keys only: of RSA, of the elliptic curves, and of `AKP` (the post-quantum key type).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "priv"})
MAX_KID_SHOWN = 40
MAX_PROBLEMS_SHOWN = 5


class InvalidKey(Exception):
    """A key, or a whole key set, cannot verify signatures. The message says why."""


class PrivateKeyPublished(InvalidKey):
    """The key is private. Its set must not be used, because the key pair is compromised."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """One public key.

    :param alg: the `alg` member of the key, if present.
    :param algorithms: the values of `alg` in tokens that the key may verify.
    :param key: the key as `jwt.decode` takes it.
    """

    kid: str | None
    alg: str | None
    algorithms: frozenset[str]
    key: Any
    parsed: jwt.PyJWK = field(repr=False, compare=False)

    def to_jwk(self) -> dict[str, Any]:
        """Return the key as a JWK with only the members that verification needs."""
        jwk: dict[str, Any] = self.parsed.Algorithm.to_jwk(self.key, as_dict=True)
        jwk.pop("key_ops", None)
        return jwk | {name: value for name, value in (("kid", self.kid), ("alg", self.alg)) if value is not None}


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """The usable keys of a set.

    :param skipped: one sentence for each other key, with its index and its `kid`.
    """

    keys: tuple[PublicKey, ...]
    skipped: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """Return the usable keys as a JSON Web Key Set."""
        return {"keys": [key.to_jwk() for key in self.keys]}


def matching_keys(keys: Sequence[PublicKey], *, kid: str | None, algorithm: str) -> list[PublicKey]:
    """Return the keys that may have signed a token with this header.

    Without `kid`, every key for the algorithm matches. With `kid`, the key of that `kid` matches; if no key has it, the only
    key for the algorithm matches, provided that this key has no `kid`.
    """
    fitting = [key for key in keys if algorithm in key.algorithms]
    if kid is None:
        return fitting
    if same_kid := [key for key in fitting if key.kid == kid]:
        return same_kid
    return fitting if len(fitting) == 1 and fitting[0].kid is None else []


def parse_jwk(jwk: Any, *, algorithms: Collection[str] = ALGORITHMS) -> PublicKey:
    """Parse one JSON Web Key.

    :param algorithms: the allowed signature algorithms; `EdDSA` includes its curves.
    :raises PrivateKeyPublished: the key has a private member.
    :raises InvalidKey: the value is not a key, too weak, of an unknown type, or not for signatures with these algorithms.
    """
    if not isinstance(jwk, Mapping):
        raise InvalidKey("A key is an object.")
    if PRIVATE_MEMBERS & jwk.keys():
        raise PrivateKeyPublished("The key is private; a key set has public keys only.")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise InvalidKey("The key is not meant for signatures.")
    kid, alg = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str | None) or not isinstance(alg, str | None):
        raise InvalidKey("`kid` and `alg` are strings.")
    if kid is not None and any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in kid):
        raise InvalidKey("`kid` has characters that cannot be stored.")
    parsed = _parse_key(json.dumps(dict(jwk), sort_keys=True))
    fitting = _algorithms_of(parsed.key)
    if alg is not None:
        synonyms = fitting & {"EdDSA", *EDWARDS_CURVES}
        fitting = synonyms if alg in synonyms else fitting & {alg}
    if not fitting:
        raise InvalidKey("The key does not fit its `alg`.")
    if not fitting & set(algorithms):
        raise InvalidKey("The key is for none of the algorithms of this issuer.")
    return PublicKey(kid=kid, alg=alg, algorithms=fitting, key=parsed.key, parsed=parsed)


def parse_jwks(document: Any, *, algorithms: Collection[str] = ALGORITHMS) -> KeySet:
    """Parse a JSON Web Key Set. Skips the keys that `parse_jwk` refuses, except private ones.

    :param algorithms: the allowed signature algorithms; `EdDSA` includes its curves.
    :raises PrivateKeyPublished: one of the keys is private.
    :raises InvalidKey: the document is not a key set, has more than `MAX_KEYS` keys, or no usable key.
    """
    jwks = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(jwks, list):
        raise InvalidKey('A key set is an object with an array "keys".')
    if len(jwks) > MAX_KEYS:
        raise InvalidKey(f"A key set has at most {MAX_KEYS} keys.")
    keys, skipped = [], []
    for index, jwk in enumerate(jwks):
        try:
            keys.append(parse_jwk(jwk, algorithms=algorithms))
        except PrivateKeyPublished as error:
            raise PrivateKeyPublished(f"{_label(index, jwk)}: {error}") from error
        except InvalidKey as error:
            skipped.append(f"{_label(index, jwk)}: {error}")
    if not keys:
        shown = [*skipped[:MAX_PROBLEMS_SHOWN], *(["And so on."] if len(skipped) > MAX_PROBLEMS_SHOWN else [])]
        raise InvalidKey(" ".join(["The key set has no usable key.", *shown]))
    return KeySet(keys=tuple(keys), skipped=tuple(skipped))


def _label(index: int, jwk: Any) -> str:
    kid = jwk.get("kid") if isinstance(jwk, Mapping) else None
    return f"keys[{index}]" + (f" (kid {kid[:MAX_KID_SHOWN]!a})" if isinstance(kid, str) else "")


@lru_cache(maxsize=256)
def _parse_key(text: str) -> jwt.PyJWK:
    """Parse the JSON text of a key. The result depends on the text alone, so it is cached."""
    kty = json.loads(text).get("kty")
    if not isinstance(kty, str) or kty not in PARSED_AS:
        raise InvalidKey(f"The key type {ascii(kty)[:MAX_KID_SHOWN]} is not supported.")
    try:
        return jwt.PyJWK.from_json(text, PARSED_AS[kty])
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise InvalidKey("The key cannot be read.") from error


def _algorithms_of(key: Any) -> frozenset[str]:
    """Return the values of `alg` in tokens that a key may verify.

    :raises InvalidKey: the key is too short, too long, or of an unsupported curve.
    """
    match key:
        case rsa.RSAPublicKey(key_size=bits):
            if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
                raise InvalidKey(f"An RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits; this one has {bits}.")
            return RSA_ALGORITHMS
        case ec.EllipticCurvePublicKey(curve=curve):
            if curve.name not in CURVE_ALGORITHMS:
                raise InvalidKey(f"The curve {curve.name} is not supported.")
            return frozenset({CURVE_ALGORITHMS[curve.name]})
        case ed25519.Ed25519PublicKey():
            return frozenset({"EdDSA", "Ed25519"})
        case ed448.Ed448PublicKey():
            return frozenset({"EdDSA", "Ed448"})
    raise InvalidKey("The key is of an unsupported kind.")

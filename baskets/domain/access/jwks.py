"""Parses the public keys that issuers publish (RFC 7517): keeps those that can verify a signature, and names the others."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from baskets.models.token_issuers import ALGORITHMS

RSA_ALGORITHMS = frozenset(name for name in ALGORITHMS if name.startswith(("RS", "PS")))
CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# RFC 9864 names the curve in `alg`, where `EdDSA` left it open. Issuers use either name for the same key.
EDWARDS_CURVES = ("Ed25519", "Ed448")
LOADERS: dict[str, Any] = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm, "OKP": jwt.algorithms.OKPAlgorithm}
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384
MAX_KEYS = 50
# Members that only a private key has: of RSA, of the elliptic curves, and of `AKP` (the post-quantum key type).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "priv"})
MAX_KID_SHOWN = 40
MAX_PROBLEMS_SHOWN = 5


class InvalidKey(Exception):
    """A key, or a whole key set, cannot be used to verify signatures; the sentence says why."""


class PrivateKeyPublished(InvalidKey):
    """The key is private: its set must not be used, because the pair is no secret any more."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """One public key, and the values of `alg` in tokens that it may be used with.

    :param named: the `alg` of the key itself, if it has one.
    """

    kid: str | None
    named: str | None
    algorithms: frozenset[str]
    key: Any

    def to_jwk(self) -> dict[str, Any]:
        """Write the key with the members that are needed to verify, and no others."""
        jwk: dict[str, Any] = LOADERS[_type_of(self.key)].to_jwk(self.key, as_dict=True)
        jwk.pop("key_ops", None)
        return jwk | {name: value for name, value in (("kid", self.kid), ("alg", self.named)) if value is not None}


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """The usable keys of a set.

    :param skipped: one sentence for each other key, with its place and its `kid`.
    """

    keys: tuple[PublicKey, ...]
    skipped: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """Write the usable keys as a JSON Web Key Set."""
        return {"keys": [key.to_jwk() for key in self.keys]}


def matching_keys(keys: Sequence[PublicKey], *, kid: str | None, algorithm: str) -> list[PublicKey]:
    """Return the keys that a token with this header may be signed with.

    A token without `kid` may be signed with any key for its algorithm. A `kid` names a key, or, if no key has it, the only
    key for the algorithm if that one has no `kid`.
    """
    fitting = [key for key in keys if algorithm in key.algorithms]
    if kid is None:
        return fitting
    if named := [key for key in fitting if key.kid == kid]:
        return named
    return fitting if len(fitting) == 1 and fitting[0].kid is None else []


def parse_jwk(jwk: Any, *, algorithms: Collection[str] = ALGORITHMS) -> PublicKey:
    """Parse one JSON Web Key.

    :param algorithms: those that signatures may be made with; `EdDSA` stands for its curves too.
    :raises PrivateKeyPublished: it has a private member.
    :raises InvalidKey: it is not a key, too weak, of an unknown kind, or not meant for signatures with these algorithms.
    """
    if not isinstance(jwk, Mapping):
        raise InvalidKey("A key is an object.")
    if PRIVATE_MEMBERS & jwk.keys():
        raise PrivateKeyPublished("The key is private; a key set has public keys only.")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise InvalidKey("The key is not meant for signatures.")
    kid, named = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str | None) or not isinstance(named, str | None):
        raise InvalidKey("`kid` and `alg` are strings.")
    if kid is not None and any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in kid):
        raise InvalidKey("`kid` has characters that cannot be stored.")
    key = _load_key(json.dumps(dict(jwk), sort_keys=True))
    fitting = _algorithms_of(key)
    if named is not None:
        same = fitting & {"EdDSA", *EDWARDS_CURVES}
        fitting = same if named in same else fitting & {named}
    if not fitting:
        raise InvalidKey("The key does not fit its `alg`.")
    if not fitting & set(algorithms):
        raise InvalidKey("The key is for none of the algorithms of this issuer.")
    return PublicKey(kid=kid, named=named, algorithms=fitting, key=key)


def parse_jwks(document: Any, *, algorithms: Collection[str] = ALGORITHMS) -> KeySet:
    """Parse a JSON Web Key Set. Keys that cannot be used are skipped.

    :param algorithms: as for `parse_jwk`.
    :raises PrivateKeyPublished: one of the keys is private.
    :raises InvalidKey: the document is not a key set, has too many keys, or none that can be used.
    """
    jwks = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(jwks, list):
        raise InvalidKey('A key set is an object with an array "keys".')
    if len(jwks) > MAX_KEYS:
        raise InvalidKey(f"A key set has at most {MAX_KEYS} keys.")
    keys, skipped = [], []
    for place, jwk in enumerate(jwks):
        try:
            keys.append(parse_jwk(jwk, algorithms=algorithms))
        except PrivateKeyPublished as error:
            raise PrivateKeyPublished(f"{_label(place, jwk)}: {error}") from error
        except InvalidKey as error:
            skipped.append(f"{_label(place, jwk)}: {error}")
    if not keys:
        shown = [*skipped[:MAX_PROBLEMS_SHOWN], *(["And so on."] if len(skipped) > MAX_PROBLEMS_SHOWN else [])]
        raise InvalidKey(" ".join(["The key set has no usable key.", *shown]))
    return KeySet(keys=tuple(keys), skipped=tuple(skipped))


def _label(place: int, jwk: Any) -> str:
    kid = jwk.get("kid") if isinstance(jwk, Mapping) else None
    return f"keys[{place}]" + (f" (kid {kid[:MAX_KID_SHOWN]!a})" if isinstance(kid, str) else "")


@lru_cache(maxsize=256)
def _load_key(jwk: str) -> Any:
    """Load a key. The result depends on the text alone, so it is cached."""
    kind = json.loads(jwk).get("kty")
    loader = LOADERS.get(kind) if isinstance(kind, str) else None
    if loader is None:
        raise InvalidKey(f"The key type {ascii(kind)[:MAX_KID_SHOWN]} is not supported.")
    try:
        return loader.from_jwk(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise InvalidKey("The key cannot be read.") from error


def _type_of(key: Any) -> str:
    match key:
        case rsa.RSAPublicKey():
            return "RSA"
        case ec.EllipticCurvePublicKey():
            return "EC"
    return "OKP"


def _algorithms_of(key: Any) -> frozenset[str]:
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

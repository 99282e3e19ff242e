"""JSON Web Tokens made and checked by hand, from `cryptography` alone: another implementation than the service's."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

DIGESTS = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"ES256": ("P-256", ec.SECP256R1(), 32), "ES384": ("P-384", ec.SECP384R1(), 48), "ES512": ("P-521", ec.SECP521R1(), 66)}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8))


def assembled(header: Any, claims: Any, signature: bytes) -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{b64(signature)}"


@dataclass
class KeyPair:
    """A key pair of some issuer, and the tokens that it signs."""

    algorithm: str
    kid: str | None = "key-1"
    private: Any = field(default=None)

    def __post_init__(self) -> None:
        self.private = self.private or self._generate_key()

    def _generate_key(self) -> Any:
        if self.algorithm == "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        if self.algorithm in CURVES:
            return ec.generate_private_key(CURVES[self.algorithm][1])
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half as others publish it."""
        public = self.private.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            crv = "Ed25519" if isinstance(public, ed25519.Ed25519PublicKey) else "Ed448"
            shown = {"kty": "OKP", "crv": crv, "x": b64(public.public_bytes_raw())}
        elif isinstance(public, ec.EllipticCurvePublicKey):
            crv, _, length = CURVES[self.algorithm]
            numbers = public.public_numbers()
            shown = {"kty": "EC", "crv": crv, "x": number(numbers.x, length), "y": number(numbers.y, length)}
        else:
            numbers = public.public_numbers()
            shown = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        return shown | ({} if self.kid is None else {"kid": self.kid})

    def sign(self, claims: Any, **header: Any) -> str:
        """Make a token. A header of None is left out."""
        full = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid} | header
        full = {name: value for name, value in full.items() if value is not None}
        signed_part = assembled(full, claims, b"").removesuffix(".").encode()
        return f"{signed_part.decode()}.{b64(self._signature(signed_part))}"

    def sign_raw(self, claims: bytes) -> str:
        """Make a token whose claims are these bytes."""
        signed_part = f"{b64(json.dumps({'alg': self.algorithm, 'kid': self.kid}).encode())}.{b64(claims)}".encode()
        return f"{signed_part.decode()}.{b64(self._signature(signed_part))}"

    def _signature(self, signed_part: bytes) -> bytes:
        if self.algorithm == "EdDSA":
            return bytes(self.private.sign(signed_part))
        digest = DIGESTS[self.algorithm[2:]]()
        if self.algorithm in CURVES:
            r, s = decode_dss_signature(self.private.sign(signed_part, ec.ECDSA(digest)))
            length = CURVES[self.algorithm][2]
            return r.to_bytes(length) + s.to_bytes(length)
        pad: Any = padding.PKCS1v15() if self.algorithm.startswith("RS") else padding.PSS(padding.MGF1(digest), digest.digest_size)
        return bytes(self.private.sign(signed_part, pad, digest))


def hmac_token(claims: Any, secret: bytes, **header: Any) -> str:
    """A token signed with a shared secret, such as a public key misused as a secret."""
    signed_part = assembled({"alg": "HS256", "typ": "JWT"} | header, claims, b"").removesuffix(".").encode()
    return f"{signed_part.decode()}.{b64(hmac.digest(secret, signed_part, hashlib.sha256))}"


def opened(token: str, jwks: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check an ES256 token against a key set, and return its header and its claims. A wrong signature raises."""
    head, body, signature = token.split(".")
    header = json.loads(unb64(head))
    assert header["alg"] == "ES256"
    [jwk] = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    x, y = (int.from_bytes(unb64(jwk[name])) for name in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    raw = unb64(signature)
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public.verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    return header, json.loads(unb64(body))

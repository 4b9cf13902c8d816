"""The operator's certificate authority as data: what the shared Secret holds and what to do about it.

One Secret for all replicas, changed by compare-and-swap only. It holds a bundle of one or
two authorities. The oldest that has long enough to live signs; the next one is put into
the bundle years before it signs, so that pods injected meanwhile trust it already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=7)
"""Short, in memory only, one per replica; renewed at two thirds."""

SUCCESSOR_AT = timedelta(days=1095)
"""Remaining life at which a successor joins the bundle: pods live shorter than the two years that
are then left until it signs."""

RETIRE_AT = timedelta(days=365)
"""Remaining life below which an authority signs no more if there is a successor."""

CLOCK_SKEW = timedelta(hours=1)
"""Certificates begin in the past by this much: clocks of nodes differ."""

DATA_KEY = "authorities.json"
BUNDLE_KEY = "ca.crt"


class Authority(msgspec.Struct, frozen=True):
    """A self-signed certificate and its key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Trust:
    """Authorities in the Secret, oldest first; never empty."""

    authorities: tuple[Authority, ...]

    @property
    def bundle(self) -> bytes:
        """What clients trust: all certificates, PEM."""
        return "".join(a.certificate for a in self.authorities).encode("ascii")


@dataclass(frozen=True, slots=True)
class Unusable:
    """The Secret cannot be used; it is replaced, and pods injected before must be restarted."""

    reason: str


def read_trust(data: Mapping[str, bytes], now: datetime) -> Trust | Unusable:
    """The valid authorities of the Secret's data."""
    raw = data.get(DATA_KEY)
    if raw is None:
        return Unusable(f"data has no {DATA_KEY}")
    try:
        found = msgspec.json.decode(raw, type=tuple[Authority, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Unusable(f"{DATA_KEY}: {error}")
    valid: list[tuple[datetime, Authority]] = []
    for number, authority in enumerate(found):
        try:
            certificate, key = parse(authority)
        except (ValueError, TypeError) as error:
            return Unusable(f"{DATA_KEY}: authority {number}: {error}")
        if certificate.public_key() != key.public_key():
            return Unusable(f"{DATA_KEY}: authority {number}: key and certificate do not belong together")
        if certificate.not_valid_after_utc > now:
            valid.append((certificate.not_valid_after_utc, authority))
    if not valid:
        return Unusable(f"{DATA_KEY}: no authority in it is valid at {now.isoformat()}")
    return Trust(tuple(authority for _, authority in sorted(valid, key=lambda pair: pair[0])))


def write_trust(trust: Trust) -> dict[str, bytes]:
    """Data of the Secret."""
    return {DATA_KEY: msgspec.json.encode(trust.authorities), BUNDLE_KEY: trust.bundle}


def needs_successor(trust: Trust, now: datetime) -> bool:
    """The newest authority has not long to live."""
    return expiry(trust.authorities[-1]) - now < SUCCESSOR_AT


def signer(trust: Trust, now: datetime) -> Authority:
    """The oldest that is not about to end: the one that most clients trust."""
    for authority in trust.authorities:
        if expiry(authority) - now >= RETIRE_AT:
            return authority
    return trust.authorities[-1]


def expiry(authority: Authority) -> datetime:
    return x509.load_pem_x509_certificate(authority.certificate.encode("ascii")).not_valid_after_utc


def leaf_renewal(not_before: datetime, not_after: datetime) -> datetime:
    """When to replace a leaf: after two thirds of its life."""
    return not_before + (not_after - not_before) * 2 / 3


def server_names(service: str, namespace: str) -> tuple[str, ...]:
    """DNS names under which the API server and sidecars call."""
    host = f"{service}.{namespace}.svc"
    return (host, f"{service}.{namespace}", f"{host}.cluster.local")


def parse(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Certificate and key; ValueError or TypeError if they are none."""
    certificate = x509.load_pem_x509_certificate(authority.certificate.encode("utf-8"))
    key = serialization.load_pem_private_key(authority.key.encode("utf-8"), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is not an elliptic curve key")
    return certificate, key

"""Makes keys and certificates; the only place that draws randomness for them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keelage_operator.core.authority import AUTHORITY_LIFE, CLOCK_SKEW, LEAF_LIFE, Authority, parse


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server certificate with its key, one PEM text; it never leaves memory."""

    pem: bytes
    not_before: datetime
    not_after: datetime


def new_authority(now: datetime) -> Authority:
    """Self-signed, P-256, may sign leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "keelage"),
            # Two authorities in one bundle must not share a name: clients look issuers up by it.
            x509.NameAttribute(NameOID.COMMON_NAME, f"keelage authority {x509.random_serial_number():x}"[:64]),
        ]
    )
    certificate = (
        _certificate(name, name, key.public_key(), now - CLOCK_SKEW, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"), _pem(key).decode("ascii"))


def new_leaf(authority: Authority, names: tuple[str, ...], address: str, now: datetime) -> Leaf:
    """For these DNS names and, unless empty, this IP address."""
    issuer, issuer_key = parse(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    if address:
        alternatives.append(x509.IPAddress(ipaddress.ip_address(address)))
    not_before, not_after = now - CLOCK_SKEW, min(now + LEAF_LIFE, issuer.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        _certificate(subject, issuer.subject, key.public_key(), not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return Leaf(certificate.public_bytes(serialization.Encoding.PEM) + _pem(key), not_before, not_after)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

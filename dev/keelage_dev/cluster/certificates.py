"""The cluster's certificate authority, certificates and kubeconfigs; made once per `up`."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keelage_dev.cluster.layout import API_PORT, API_SERVICE_IP, CLUSTER_DOMAIN, HOST_IP, NODE, Layout

LIFETIME = datetime.timedelta(days=365)  # of a development cluster: `down` comes long before


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate's subject; with names or addresses it may serve, without it may only ask."""

    file: str
    name: str
    group: str = ""
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}")

IDENTITIES = (
    Identity("kube-apiserver", "kube-apiserver", "", (*API_NAMES, "localhost"), (HOST_IP, API_SERVICE_IP, "127.0.0.1")),
    # The API server reaches the kubelet by its address, so that has to be in the certificate.
    Identity("kubelet-server", NODE, "", (NODE,), (HOST_IP,)),
    Identity("admin", "keelage-dev-admin", "system:masters"),
    Identity("kube-controller-manager", "system:kube-controller-manager"),
    Identity("kube-scheduler", "system:kube-scheduler"),
    Identity("kubelet", f"system:node:{NODE}", "system:nodes"),
    Identity("kube-proxy", "system:kube-proxy"),
    # As wide as the stock RBAC of a cluster's DNS needs it, and simpler: it reads everything.
    Identity("coredns", "coredns", "system:masters"),
)

KUBECONFIGS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")


def make(where: Layout, now: datetime.datetime) -> None:
    """Write keys, certificates and kubeconfigs, mode 0600; one that is there already is left alone."""
    pki = where.certificates
    if where.kubeconfig.exists():
        return
    pki.mkdir(parents=True, exist_ok=True)
    where.config.mkdir(parents=True, exist_ok=True)
    authority = _authority(pki, "ca", now)
    for identity in IDENTITIES:
        _issue(pki, identity, authority, now)
    # An authority of its own: whoever holds one of its certificates may speak for any user.
    _issue(pki, Identity("front-proxy", "front-proxy"), _authority(pki, "front-proxy-ca", now), now)
    signing = ec.generate_private_key(ec.SECP256R1())
    _write(pki / "service-account.key", _key_bytes(signing))
    _write(
        pki / "service-account.pub",
        signing.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    for name in KUBECONFIGS:
        _write(where.config / f"{name}.kubeconfig", kubeconfig(pki, name).encode())
    _write(where.kubeconfig, kubeconfig(pki, "admin").encode())


def kubeconfig(pki: Path, user: str) -> str:
    """A kubeconfig (JSON, which is YAML) with the certificates inside, so that it can be copied anywhere."""

    def inside(file: str) -> str:
        return base64.b64encode((pki / file).read_bytes()).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "keelage-dev",
                    "cluster": {
                        "server": f"https://{HOST_IP}:{API_PORT}",
                        "certificate-authority-data": inside("ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": inside(f"{user}.crt"),
                        "client-key-data": inside(f"{user}.key"),
                    },
                }
            ],
            "contexts": [{"name": "keelage-dev", "context": {"cluster": "keelage-dev", "user": user}}],
            "current-context": "keelage-dev",
        },
        indent=2,
    )


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _authority(pki: Path, file: str, now: datetime.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"keelage-dev-{file}")])
    certificate = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(pki / f"{file}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(pki / f"{file}.key", _key_bytes(key))
    return _Authority(certificate, key)


def _issue(pki: Path, identity: Identity, authority: _Authority, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, identity.name)]
    if identity.group:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.group))
    serves = bool(identity.names or identity.addresses)
    usage = ExtendedKeyUsageOID.SERVER_AUTH if serves else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(x509.Name(attributes), authority.certificate.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if serves:
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in identity.names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in identity.addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    _write(pki / f"{identity.file}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(pki / f"{identity.file}.key", _key_bytes(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour back: tests move clocks, and a certificate of the future is refused.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)

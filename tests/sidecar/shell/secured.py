"""A TLS server with a certificate that it has signed itself."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keelage_sidecar.shell.connection import Connection
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.port import Handler, Port


@asynccontextmanager
async def secured(handle: Handler, chain: Path, port: int = 0) -> AsyncIterator[int]:
    """The port where it listens, with the certificate and key in `chain`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    served = Port(handle, Limits())
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(served), "127.0.0.1", port, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for each in list(served.connections):
            each.close()
        await listening.wait_closed()


def authority(chain: Path, host: str = "") -> tuple[str, Path]:
    """A self-signed certificate for `host`, else for 127.0.0.1, and the file of it with its key."""
    named = x509.DNSName(host) if host else x509.IPAddress(IPv4Address("127.0.0.1"))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"keelage test {chain.stem}")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    chain.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem.decode(), chain

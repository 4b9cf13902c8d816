"""Kept answers as they lie on a server that others can read: encrypted, under names that say nothing."""

from __future__ import annotations

import hmac

import msgspec

from keelage_sidecar.core.response_cache import KeptAnswer

FORMAT = b"\x01"
"""First byte of each value; one that begins otherwise is of another version and is not read."""
NONCE_BYTES = 12
KEY_CHARACTERS_MIN = 32


class _Plain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    kept_unix_s: float
    cost: int
    model: str
    stop_reason: str


_DECODER = msgspec.msgpack.Decoder(_Plain)


class Seal:
    """AES-256-GCM under a key made of the secret. The name is authenticated with the value, so that values cannot be
    exchanged; it is itself made with the secret: who does not have that cannot look whether something was asked."""

    def __init__(self, secret: str, namespace: str) -> None:
        # Here, since it takes 8 MiB: only sidecars that share answers are to have them.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._names = _derived(secret, b"keelage response cache names")
        self._cipher = AESGCM(_derived(secret, b"keelage response cache values"))
        self._prefix = f"keelage:{namespace}:".encode()

    def name(self, key: bytes) -> bytes:
        """What the answer to the call with that key (`response_key.key_of`) is called."""
        return self._prefix + hmac.digest(self._names, key, "sha256").hex().encode()

    def sealed(self, name: bytes, answer: KeptAnswer, now_s: float, unix_s: float, nonce: bytes) -> bytes:
        """The value. `now_s` and `unix_s`: the same moment on the clock of `kept_s` and since 1970; `nonce`: random
        bytes that were never used before."""
        kept_unix_s = unix_s - (now_s - answer.kept_s)
        plain = _Plain(answer.headers, answer.body, kept_unix_s, answer.cost, answer.model, answer.stop_reason)
        return FORMAT + nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(plain), name)

    def opened(self, name: bytes, value: bytes, now_s: float, unix_s: float) -> KeptAnswer | None:
        """None where it was not sealed with this secret and under this name."""
        from cryptography.exceptions import InvalidTag

        if not value.startswith(FORMAT) or len(value) <= len(FORMAT) + NONCE_BYTES:
            return None
        nonce = value[len(FORMAT) : len(FORMAT) + NONCE_BYTES]
        try:
            plain = _DECODER.decode(self._cipher.decrypt(nonce, value[len(FORMAT) + NONCE_BYTES :], name))
        except (InvalidTag, msgspec.DecodeError):
            return None
        # Clocks differ: what comes from the future is of now.
        age_s = max(0.0, unix_s - plain.kept_unix_s)
        return KeptAnswer(plain.headers, plain.body, now_s - age_s, plain.cost, plain.model, plain.stop_reason)


def _derived(secret: str, purpose: bytes) -> bytes:
    return hmac.digest(secret.encode("latin-1"), purpose, "sha256")

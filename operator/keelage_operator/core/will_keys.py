"""Keys of last wills: given to each holder, and found again by any leader without storing them."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from keelage_api.will import Will, incarnation_in, read_will

_PURPOSE = b"keelage last will 1\n"
"""The secrets serve something else too; under this prefix nothing else is derived from them."""


class WillKeys:
    def __init__(self, secrets: Callable[[], tuple[str, ...]]) -> None:
        """`secrets`: shared by all replicas and by nobody else, newest first; the older ones still verify."""
        self._secrets = secrets

    def key_of(self, holder: str) -> str:
        """For `<pod uid>.<incarnation>`, hexadecimal; empty while there is no secret."""
        keys = self._keys(holder)
        return keys[0].hex() if keys else ""

    def read(self, uid: str, message: str) -> Will | None:
        """The last will of that pod in a termination message; None: there is none, or it is not its own."""
        incarnation = incarnation_in(message)
        return read_will(message, self._keys(f"{uid}.{incarnation}")) if incarnation else None

    def _keys(self, holder: str) -> list[bytes]:
        return [hmac.digest(secret.encode(), _PURPOSE + holder.encode("ascii"), "sha256") for secret in self._secrets()]

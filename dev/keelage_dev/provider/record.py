"""What the fake provider has received, for assertions."""

from __future__ import annotations

from dataclasses import dataclass

from keelage_dev.provider.exchange import Request

__all__ = ["Record"]

BODY_BYTES_KEPT = 65_536
MASK = "***"
SECRETS = ("authorization", "x-api-key")


@dataclass(frozen=True, slots=True)
class Record:
    """A request with its secrets masked; `key` is the name that the key has on the bill, empty if refused."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: str
    key: str

    @classmethod
    def of(cls, request: Request, key: str) -> Record:
        """The record of a request; a long body is cut."""
        return cls(
            method=request.method,
            path=request.path,
            query=request.query,
            headers={name: MASK if name in SECRETS else value for name, value in request.headers.items()},
            body=request.body[:BODY_BYTES_KEPT].decode(errors="replace"),
            key=key,
        )

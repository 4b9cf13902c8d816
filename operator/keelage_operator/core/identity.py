"""Who speaks on the control channel, as the API server says it; never self-declared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """A pod, from the extra fields of a TokenReview of its bound service account token."""

    namespace: str
    name: str
    uid: str
    service_account: str = ""

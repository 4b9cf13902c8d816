"""The refusals that the shell itself has a reason for; those of the cores come ready made."""

from __future__ import annotations

from datetime import UTC, datetime

from keelage_api.proxy_config import Backend
from keelage_sidecar.core.claim import DenialReason, Denied
from keelage_sidecar.core.refusal import Refusal

NO_CONFIG = Refusal(
    503,
    "ConfigMissing",
    "the sidecar has no configuration yet: it asks the keelage operator for it; if this lasts, see the operator's pods",
    retry_after_s=0.5,
    should_retry=True,
)
OVERLOADED = Refusal(
    529,
    "Overloaded",
    "the sidecar serves as many calls at a time as it may: send fewer at a time",
    retry_after_s=0.5,
    should_retry=True,
)
BODIES_FULL = Refusal(
    529,
    "Overloaded",
    "the sidecar holds as many request bodies as it may: send fewer at a time",
    retry_after_s=0.5,
    should_retry=True,
)
STOPPING = Refusal(
    503, "ShuttingDown", "the pod is being stopped before the call was answered", retry_after_s=0.5, should_retry=True
)
BROKEN = Refusal(500, "InternalError", "the sidecar failed to handle this call: see its log")
TRUNCATED = Refusal(502, "UpstreamTruncated", "the provider's stream ended before it was complete")
LEDGER_RETRY_S = 1.0
"""When a call that no ledger could be asked about is worth another try."""

RATE_RETRY_S = 1.0
"""When a call over a rate is worth another try, where nobody knows better."""
RATE_RETRY_MAX_S = 60.0
"""Older SDKs take a longer `retry-after` for nonsense and come again at once."""


def credential_missing(backend: Backend) -> Refusal:
    """The pod has no file for the backend's key."""
    secret, _, key = backend.credential.partition("/")
    return Refusal(
        503,
        "CredentialMissing",
        f"backend {backend.name}: Secret {secret} with key {key} is not there for this pod: create it, or correct "
        "backends[].credentials.secretKeyRef; a pod injected before the backend was added must be restarted",
    )


def not_cached(why: str) -> Refusal:
    """The call is to be answered from the cache or not at all."""
    return Refusal(
        504,
        "NotCached",
        f"the call says `Cache-Control: only-if-cached`, but {why}; without `only-if-cached` a provider is asked",
    )


def denied(denial: Denied, unix_s: float) -> Refusal:
    """A budget does not pay: final where the money is gone, worth another try where nobody could be asked.

    `unix_s`: the time of day, to name the end of the window by.
    """
    match denial.reason:
        case DenialReason.BUDGET_EXHAUSTED:
            text = denial.message
            if denial.resets_in_s is not None:
                text += f"; the window ends at {_to_the_minute(unix_s + denial.resets_in_s)}"
            return Refusal(429, denial.reason, text, retry_after_s=denial.resets_in_s, budget=denial.budget)
        case DenialReason.BUDGET_TOO_SMALL:
            return Refusal(400, denial.reason, denial.message, field="max_tokens", budget=denial.budget)
        case DenialReason.RATE_LIMITED:
            wait_s = RATE_RETRY_S if denial.resets_in_s is None else min(denial.resets_in_s, RATE_RETRY_MAX_S)
            return Refusal(
                429, denial.reason, denial.message, retry_after_s=wait_s, should_retry=True, limit=denial.budget
            )
        case DenialReason.NO_RIGHTS | DenialReason.WINDOW_UNKNOWN:
            return Refusal(
                503,
                denial.reason,
                denial.message,
                retry_after_s=LEDGER_RETRY_S,
                should_retry=True,
                budget=denial.budget,
            )


def _to_the_minute(unix_s: float) -> str:
    """RFC 3339; windows end on whole minutes, and the way from the ledger's clock to ours costs far less than one."""
    return datetime.fromtimestamp(round(unix_s / 60) * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

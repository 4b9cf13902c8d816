"""Objects as the API server or a file gives them, with the spec that was in force before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.v1alpha1.llmbudget import LLMBudget, LLMBudgetSpec, LLMBudgetStatus
from keelage_api.v1alpha1.llmroute import LLMRoute, LLMRouteSpec, LLMRouteStatus
from keelage_api.v1alpha1.manifest import Malformed, Parsed, parse
from keelage_api.v1alpha1.metadata import ObjectMeta


@dataclass(frozen=True, slots=True)
class RouteManifest:
    name: str
    uid: str
    generation: int
    created: str
    """RFC 3339, as in `metadata.creationTimestamp`: sorts by time."""
    raw: Mapping[str, object]
    """The whole object."""
    last_good: LLMRouteSpec | None = None

    @classmethod
    def of(cls, raw: Mapping[str, object]) -> RouteManifest:
        """From an object; its `status.lastAccepted` is the last good spec."""
        meta = _metadata(raw)
        status = parse(LLMRouteStatus, raw.get("status") or {})
        last = parse(LLMRouteSpec, status.value.last_accepted) if isinstance(status, Parsed) else None
        good = last.value if isinstance(last, Parsed) else None
        return cls(meta.name, meta.uid, meta.generation, meta.creation_timestamp, raw, good)

    def spec(self) -> LLMRouteSpec | Malformed:
        """The newest spec, or what is wrong with the object."""
        parsed = parse(LLMRoute, _without_status(self.raw))
        return parsed.value.spec if isinstance(parsed, Parsed) else parsed


@dataclass(frozen=True, slots=True)
class BudgetManifest:
    name: str
    uid: str
    generation: int
    created: str
    raw: Mapping[str, object]
    """The whole object."""
    last_good: LLMBudgetSpec | None = None

    @classmethod
    def of(cls, raw: Mapping[str, object]) -> BudgetManifest:
        """From an object; its `status.lastAccepted` is the last good spec."""
        meta = _metadata(raw)
        status = parse(LLMBudgetStatus, raw.get("status") or {})
        last = parse(LLMBudgetSpec, status.value.last_accepted) if isinstance(status, Parsed) else None
        good = last.value if isinstance(last, Parsed) else None
        return cls(meta.name, meta.uid, meta.generation, meta.creation_timestamp, raw, good)

    def spec(self) -> LLMBudgetSpec | Malformed:
        """The newest spec, or what is wrong with the object."""
        parsed = parse(LLMBudget, _without_status(self.raw))
        return parsed.value.spec if isinstance(parsed, Parsed) else parsed


def _metadata(raw: Mapping[str, object]) -> ObjectMeta:
    """Metadata of a type that the API server guarantees; of a file, as far as it can be read."""
    parsed = parse(ObjectMeta, raw.get("metadata") or {})
    return parsed.value if isinstance(parsed, Parsed) else ObjectMeta()


def _without_status(raw: Mapping[str, object]) -> dict[str, object]:
    """A status that cannot be read is no reason to refuse a spec."""
    return {key: value for key, value in raw.items() if key != "status"}

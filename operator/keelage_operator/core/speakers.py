"""The sidecars that spoke lately, for `3/3 sidecars` and for what they complain of."""

from __future__ import annotations

from dataclasses import dataclass, field

from keelage_api.sync import Resting
from keelage_operator.core.savings import SavingsBook

SILENT_AFTER_S = 45.0
"""A sidecar speaks at least every few seconds; one that missed this long is not counted."""

SPEAKERS_MAX = 50_000
"""Ten times the pods of the largest namespace that the API server is tested with; the longest silent go first."""


INTERVAL_S = 2.0
INTERVAL_MAX_S = 4.0
"""Between two words of a sidecar to which nothing happens. The longest leaves two seconds of the time for which a
rebuilt ledger waits for claims (`ledger.LEARNING_S`)."""
WORDS_PER_S = 350
"""Half of what one core of the leader answers (docs/scale.md); the rest is for those that need money."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """The last word of one pod's sidecar."""

    pod_uid: str
    pod_name: str
    namespace: str
    config_version: str
    """In force at the sidecar; empty: none yet."""
    config_error: str
    """Why it refused a newer one; empty: it did not."""
    missing_credentials: tuple[str, ...]
    """`<secret>/<key>` that the configuration names and the pod has no file for."""
    heard_s: float
    """On the operator's monotonic clock."""
    resting: tuple[Resting, ...] = ()
    """Where it sets no breakpoints, since they do not pay."""


@dataclass(slots=True)
class Speakers:
    """Register by pod uid; ordered by when they were heard, the longest silent first."""

    _by_uid: dict[str, Speaker] = field(default_factory=dict)
    _by_namespace: dict[str, dict[str, Speaker]] = field(default_factory=dict)
    """The same, so that a look at one namespace does not go through all of the cluster."""
    savings: SavingsBook = field(default_factory=SavingsBook)
    """What they have saved, those that fell silent too."""

    def heard(self, speaker: Speaker) -> bool:
        """Note it; True if it says something else than last time (a reason to write status)."""
        before = self._remove(speaker.pod_uid)
        self._by_uid[speaker.pod_uid] = speaker
        self._by_namespace.setdefault(speaker.namespace, {})[speaker.pod_uid] = speaker
        if len(self._by_uid) > SPEAKERS_MAX:
            self._remove(next(iter(self._by_uid)))
        return before is None or _word(before) != _word(speaker)

    def forget(self, pod_uid: str) -> None:
        """The sidecar said goodbye, or its pod is gone."""
        self._remove(pod_uid)

    @property
    def interval_s(self) -> float:
        """How long each of them is to be silent while nothing happens: longer, the more they are."""
        return min(INTERVAL_MAX_S, max(INTERVAL_S, len(self._by_uid) / WORDS_PER_S))

    def of_namespace(self, namespace: str, now_s: float) -> tuple[Speaker, ...]:
        """Those heard within SILENT_AFTER_S, by pod name."""
        since = now_s - SILENT_AFTER_S
        return tuple(
            sorted(
                (s for s in self._by_namespace.get(namespace, {}).values() if s.heard_s >= since),
                key=lambda speaker: speaker.pod_name,
            )
        )

    def drop_silent(self, now_s: float) -> tuple[Speaker, ...]:
        """Remove and return those silent for too long."""
        since = now_s - SILENT_AFTER_S
        silent = tuple(s for s in self._by_uid.values() if s.heard_s < since)
        for speaker in silent:
            self._remove(speaker.pod_uid)
        return silent

    def _remove(self, pod_uid: str) -> Speaker | None:
        speaker = self._by_uid.pop(pod_uid, None)
        if speaker is not None:
            there = self._by_namespace[speaker.namespace]
            del there[pod_uid]
            if not there:
                del self._by_namespace[speaker.namespace]
        return speaker


def _word(speaker: Speaker) -> tuple[str, str, tuple[str, ...], tuple[Resting, ...]]:
    return (speaker.config_version, speaker.config_error, speaker.missing_credentials, speaker.resting)

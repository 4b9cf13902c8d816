from __future__ import annotations

from dataclasses import replace

import pytest

from keelage_operator.core.election import (
    RENEW_DEADLINE_S,
    LeaseState,
    Observation,
    Step,
    address_of,
    lost,
    next_step,
    observe,
)

ME = "one_10.0.0.1:8443"
OTHER = "two_10.0.0.2:8443"
LEASE = LeaseState(holder=OTHER, duration_s=15, renewed="a", transitions=1, version="7")


@pytest.mark.parametrize(
    ("lease", "age_s", "step"),
    [
        (None, 0.0, Step.CREATE),
        (LEASE, 0.0, Step.WAIT),
        (LEASE, 15.0, Step.WAIT),
        (LEASE, 15.1, Step.TAKE),
        (replace(LEASE, holder=""), 0.0, Step.TAKE),
        (replace(LEASE, holder=ME), 0.0, Step.RENEW),
        (replace(LEASE, holder=ME), 99.0, Step.RENEW),
    ],
)
def test_a_lease_is_taken_only_when_it_is_free_or_has_not_changed_for_its_duration(
    lease: LeaseState | None, age_s: float, step: Step
) -> None:
    assert next_step(Observation(lease, 100.0), ME, 100.0 + age_s) is step


def test_a_renewal_starts_the_observers_wait_anew() -> None:
    first = observe(None, LEASE, 10.0)
    same = observe(first, replace(LEASE, version="8"), 20.0)
    renewed = observe(same, replace(LEASE, renewed="b"), 24.0)

    assert (first.since_s, same.since_s, renewed.since_s) == (10.0, 10.0, 24.0)


def test_a_leader_stops_before_others_may_take_over() -> None:
    assert not lost(0.0, RENEW_DEADLINE_S - 0.1)
    assert lost(0.0, RENEW_DEADLINE_S)
    assert LEASE.duration_s > RENEW_DEADLINE_S


def test_the_address_is_behind_the_pods_name() -> None:
    assert address_of(ME) == "10.0.0.1:8443"
    assert address_of("pod_[fd00::1]:8443") == "[fd00::1]:8443"
    assert address_of("") == ""

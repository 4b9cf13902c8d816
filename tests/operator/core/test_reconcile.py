from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.operator.shell.shop import WINDOW, budget, figures, route

from keelage_api.window import Window
from keelage_operator.core.compile import BudgetManifest, RouteManifest, compile_namespace
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.price_book import price_book
from keelage_operator.core.reconcile import EventPost, EventType, SidecarPod, Snapshot, StatusPatch, reconcile
from keelage_operator.core.speakers import Speaker

NOON = "2026-11-21T12:00:00Z"
LATER = "2026-11-21T13:00:00Z"
LIMIT = 5 * 10**12

Raw = dict[str, object]


def named(body: Raw, name: str, status: object = None) -> Raw:
    meta = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "generation": 1,
        "creationTimestamp": "2026-11-01T00:00:00Z",
    }
    return {**body, "metadata": meta} if status is None else {**body, "metadata": meta, "status": status}


def snapshot(
    routes: dict[str, Raw],
    budgets: dict[str, Raw],
    pods: tuple[SidecarPod, ...] = (),
    heard: tuple[Speaker, ...] = (),
    shown: LedgerFigures | None = None,
    now: str = NOON,
) -> Snapshot:
    compiled = compile_namespace(
        "shop",
        [RouteManifest.of(raw) for raw in routes.values()],
        [BudgetManifest.of(raw) for raw in budgets.values()],
        price_book(),
    )
    return Snapshot(
        compiled=compiled,
        routes=routes,
        budgets=budgets,
        pods=pods,
        speakers={speaker.pod_uid: speaker for speaker in heard},
        figures={name: shown or figures(LIMIT) for name, each in compiled.budgets.items() if each.in_force},
        now=now,
    )


def settled(before: Snapshot, now: str) -> Snapshot:
    """The snapshot after everything that was decided is written."""
    routes, budgets = dict(before.routes), dict(before.budgets)
    for action in reconcile(before):
        if isinstance(action, StatusPatch):
            home = routes if action.target.kind == "LLMRoute" else budgets
            home[action.target.name] = {**home[action.target.name], "status": dict(action.status)}
    return replace(before, routes=routes, budgets=budgets, now=now)


def events(of: Snapshot) -> list[tuple[str, EventType, str]]:
    return [(each.target.name, each.type, each.reason) for each in reconcile(of) if isinstance(each, EventPost)]


def patches(of: Snapshot) -> list[tuple[str, bool]]:
    return [(each.target.name, each.turned) for each in reconcile(of) if isinstance(each, StatusPatch)]


BODIES = {"good": route(), "astray": route(tier="deep"), "unpriced": route(model="unheard-of")}
AMOUNTS = {"plain": budget(), "wrong": budget(zone="No/Where")}


@given(
    routes=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(sorted(BODIES)), max_size=3),
    budgets=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(sorted(AMOUNTS)), max_size=2),
    spent=st.sampled_from(["0", "1.5", "5", "7"]),
    pods=st.integers(0, 5),
    speaking=st.integers(0, 5),
)
def test_a_second_run_on_the_outcome_writes_nothing(
    routes: dict[str, str], budgets: dict[str, str], spent: str, pods: int, speaking: int
) -> None:
    first = snapshot(
        {name: named(BODIES[kind], name) for name, kind in routes.items()},
        {name: named(AMOUNTS[kind], name) for name, kind in budgets.items()},
        tuple(SidecarPod(f"web-{index}", f"pod-{index}", {}) for index in range(pods)),
        tuple(
            Speaker(f"pod-{index}", f"web-{index}", "shop", "v", "", ("keys/anthropic",), 0.0)
            for index in range(speaking)
        ),
        figures(LIMIT, spent, reporting=speaking),
    )

    assert reconcile(settled(first, now=LATER)) == ()


def test_events_come_before_the_status_that_ends_their_occasion() -> None:
    kinds = [type(action) for action in reconcile(snapshot({"a": named(route(), "a")}, {}))]

    assert kinds == [EventPost, StatusPatch]


def test_an_event_has_the_same_key_when_it_is_decided_again_after_a_crash() -> None:
    raw = {"a": named(route(tier="deep"), "a")}
    first = [each.key for each in reconcile(snapshot(raw, {}, now=NOON)) if isinstance(each, EventPost)]
    again = [each.key for each in reconcile(snapshot(raw, {}, now=LATER)) if isinstance(each, EventPost)]

    assert first == again != []


def test_a_budget_that_runs_out_and_gets_more_is_told_twice() -> None:
    base = settled(snapshot({}, {"x": named(budget(), "x")}), NOON)
    out = replace(base, figures={"x": figures(LIMIT, "5")})
    assert events(out) == [("x", EventType.WARNING, "LimitReached")]
    assert patches(out) == [("x", True)]

    again = replace(settled(out, LATER), figures={"x": figures(2 * LIMIT, "5")})
    assert events(again) == [("x", EventType.NORMAL, "WithinLimit")]


def test_spending_alone_turns_nothing_and_is_no_event() -> None:
    base = settled(snapshot({}, {"x": named(budget(), "x")}), NOON)
    more = replace(base, figures={"x": figures(LIMIT, "1.25")})

    assert events(more) == []
    assert patches(more) == [("x", False)]


def warned(amount: str = "5.00") -> Raw:
    """A budget that wants to be told at 50 and 80 percent."""
    spec: object = {**_spec(budget(amount)), "thresholds": [{"percent": 80}, {"percent": 50, "do": "Warn"}]}
    return {**budget(amount), "spec": spec}


def _spec(body: Raw) -> Raw:
    spec = body["spec"]
    assert isinstance(spec, dict)
    return spec


def test_a_threshold_is_told_once_in_a_window_whoever_tells_it() -> None:
    base = settled(snapshot({}, {"x": named(warned(), "x")}), NOON)
    half = replace(base, figures={"x": figures(LIMIT, "2.5")})
    assert events(half) == [("x", EventType.WARNING, "BudgetThreshold")]
    assert patches(half) == [("x", True)]
    (told,) = (each for each in reconcile(half) if isinstance(each, EventPost))
    assert told.message == (
        "50% of 5.00 USD are used: 2.50 spent since 2026-11-01T00:00:00Z; the window ends at 2026-12-01T00:00:00Z"
    )

    after = settled(half, LATER)  # nothing but the status is left of whoever told it
    assert events(replace(after, figures={"x": figures(LIMIT, "3.9")})) == []
    assert events(replace(after, figures={"x": figures(LIMIT, "4")})) == [("x", EventType.WARNING, "BudgetThreshold")]


def test_a_threshold_that_was_told_before_a_crash_has_the_same_event_again() -> None:
    base = settled(snapshot({}, {"x": named(warned(), "x")}), NOON)
    keys = [
        [
            each.key
            for each in reconcile(replace(base, figures={"x": figures(LIMIT, spent)}))
            if isinstance(each, EventPost)
        ]
        for spent in ("2.5", "2.6")
    ]
    assert keys[0] == keys[1] != []


def test_thresholds_are_told_anew_in_the_next_window() -> None:
    base = settled(snapshot({}, {"x": named(warned(), "x")}, shown=figures(LIMIT, "2.5")), NOON)
    december = Window("2026-12", WINDOW.ends_at, WINDOW.ends_at + timedelta(days=31))
    begun = settled(replace(base, figures={"x": replace(figures(LIMIT), window=december)}), LATER)
    again = replace(begun, figures={"x": replace(figures(LIMIT, "2.5"), window=december)})
    assert events(again) == [("x", EventType.WARNING, "BudgetThreshold")]


def test_thresholds_stay_told_while_the_ledger_is_not_read() -> None:
    base = settled(snapshot({}, {"x": named(warned(), "x")}, shown=figures(LIMIT, "2.5")), NOON)
    blind = settled(replace(base, figures={}), LATER)
    assert events(replace(blind, figures={"x": figures(LIMIT, "2.5")})) == []


def test_a_limit_of_nothing_has_no_thresholds() -> None:
    base = snapshot({}, {"x": named(warned("0"), "x")}, shown=figures(0))
    assert "BudgetThreshold" not in [reason for _, _, reason in events(base)]


def test_pods_that_come_and_go_are_no_events() -> None:
    base = settled(snapshot({"a": named(route(), "a")}, {}), NOON)
    grown = replace(base, pods=(SidecarPod("web-1", "pod-1", {}),))

    assert events(grown) == []
    assert patches(grown) == [("a", True)]


def test_a_status_that_cannot_be_read_is_written_anew() -> None:
    broken = snapshot({"a": named(route(), "a", status={"conditions": "none", "rules": "many"})}, {})

    assert patches(broken) == [("a", True)]
    assert reconcile(settled(broken, LATER)) == ()

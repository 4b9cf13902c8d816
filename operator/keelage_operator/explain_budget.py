"""`keelage explain budget`: reads a budget's ledger, on a cluster or of local mode, for `core/breakdown` to explain.

Only reads. On a cluster with the rights of whoever asks: `get` and `list` on llmbudgets
and llmledgers of one namespace, and on pods, for their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keelage_api.errors import KeelageError
from keelage_api.money import parse_usd
from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_api.v1alpha1.metadata import GROUP, VERSION
from keelage_operator.core.breakdown import LedgerPicture
from keelage_operator.local_mode import LEDGER_FILE, OBJECTS_FILE, POD, Objects
from keelage_operator.shell.cluster import Cluster, Refused, list_all, member
from keelage_operator.shell.kubernetes_store import BUDGET_LABEL, PLURAL, KubernetesStore
from keelage_operator.shell.ledger_store import LedgerKey, LedgerStore
from keelage_operator.shell.sqlite_store import SqliteStore


class NothingToExplain(KeelageError):
    """There is no such budget, or no ledger of it."""


async def of_cluster(cluster: Cluster, namespace: str, name: str, window: str) -> LedgerPicture:
    """`window` empty: the one that the status is about.

    Raises NothingToExplain, Refused, Unreachable, StoreUnavailable.
    """
    home = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}"
    try:
        budget = await cluster.get(f"{home}/llmbudgets/{name}")
    except Refused as error:
        if error.not_found:
            raise NothingToExplain(
                f"no LLMBudget {name} in namespace {namespace}: give another with -n, or see kubectl get llmb -A"
            ) from error
        raise
    ledgers = await list_all(cluster, f"{home}/{PLURAL}", f"{BUDGET_LABEL}={name}")
    windows = tuple(sorted(str(ledger.get("window")) for ledger in ledgers))
    return await _picture(
        KubernetesStore(cluster), f"{namespace}/{name}", windows, window, budget, await _pods(cluster, namespace)
    )


async def _pods(cluster: Cluster, namespace: str) -> dict[str, str]:
    try:
        listed = await list_all(cluster, f"/api/v1/namespaces/{namespace}/pods")
    except Refused:
        return {}  # who may not list pods reads their uids
    metas = [member(pod, "metadata") for pod in listed]
    return {str(meta.get("uid")): str(meta.get("name")) for meta in metas}


async def of_state(state: Path, name: str, window: str) -> LedgerPicture:
    """From the files of `keelage run`, running or not. Raises NothingToExplain, StoreUnavailable."""
    budget = Objects.load(state).known.get(f"LLMBudget/{name}")
    if budget is None or not (state / LEDGER_FILE).exists():
        raise NothingToExplain(
            f"no LLMBudget {name} in {state / OBJECTS_FILE}: start `keelage run -f DIR` first with the same --state,"
            " or give --context or -n for one on a cluster"
        )
    full = f"{member(budget, 'metadata').get('namespace')}/{name}"
    store = SqliteStore(state / LEDGER_FILE)
    try:
        windows = tuple(key.window for key in await store.list_keys() if key.budget == full)
        return await _picture(store, full, windows, window, budget, {POD.uid: POD.name})
    finally:
        store.close()


async def _picture(
    store: LedgerStore,
    budget: str,
    windows: tuple[str, ...],
    window: str,
    raw: Mapping[str, object],
    pods: Mapping[str, str],
) -> LedgerPicture:
    parsed = parse(LLMBudgetStatus, raw.get("status") or {})
    status = parsed.value if isinstance(parsed, Parsed) else LLMBudgetStatus()
    wanted = window or status.window.id or max(windows, default="")
    stored = await store.load(LedgerKey(budget, wanted)) if wanted in windows else None
    if stored is None:
        there = f"; there is one of {', '.join(windows)}" if windows else ""
        missed = wanted or "(none yet)"
        raise NothingToExplain(
            f"LLMBudget {budget} has no ledger of window {missed}: no sidecar has asked for its money{there}"
        )
    others = tuple(each for each in windows if each != wanted)
    return LedgerPicture(budget, wanted, stored.record, _limit(status, wanted, raw), status, pods, others)


def _limit(status: LLMBudgetStatus, window: str, raw: Mapping[str, object]) -> int:
    """In force, as the status says; before there is one, as the spec says."""
    if status.window.id == window and status.amounts.limit:
        return status.amounts.limit
    spec = status.last_accepted or member(raw, "spec")
    amount = member(spec, "limit").get("amount")
    try:
        return parse_usd(amount) if isinstance(amount, str) else 0
    except ValueError:
        return 0

"""`keelage explain budget`: reads a budget's ledger, on a cluster or of local mode, for `core/breakdown` to explain.

Only reads. On a cluster with the rights of whoever asks: `get` and `list` on llmbudgets
and llmledgers of one namespace, and on pods, for their names.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keelage_api.account import account_value, kind_of, window_kind
from keelage_api.errors import KeelageError
from keelage_api.v1alpha1.llmbudget import LLMBudgetSpec, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_api.v1alpha1.metadata import GROUP, VERSION
from keelage_api.window import Window
from keelage_operator.core.breakdown import LedgerPicture
from keelage_operator.core.ledger import Checkpoint, LedgerRecord, committed, rebuild
from keelage_operator.core.shard import SHARDS, has_values, holds_for
from keelage_operator.core.terms import BudgetInForce, in_force
from keelage_operator.local_mode import LEDGER_FILE, OBJECTS_FILE, POD, Objects
from keelage_operator.shell.cluster import Cluster, Refused, list_all, member
from keelage_operator.shell.kubernetes_store import BUDGET_LABEL, PLURAL, KubernetesStore, key_of
from keelage_operator.shell.ledger_store import LedgerKey, LedgerStore
from keelage_operator.shell.sqlite_store import SqliteStore


class NothingToExplain(KeelageError):
    """There is no such budget, or no ledger of it."""


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    """Of the LLMBudget."""
    window: str = ""
    """Empty: the one that the status is about."""
    value: str = ""
    """Of a budget that holds for each of them; empty: all."""


async def of_cluster(cluster: Cluster, namespace: str, asked: Question) -> LedgerPicture:
    """Raises NothingToExplain, Refused, Unreachable, StoreUnavailable."""
    name = asked.name
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
    keys = [key for ledger in ledgers if (key := key_of(ledger)) is not None]
    return await _picture(
        KubernetesStore(cluster), f"{namespace}/{name}", keys, asked, budget, await _pods(cluster, namespace)
    )


async def _pods(cluster: Cluster, namespace: str) -> dict[str, str]:
    try:
        listed = await list_all(cluster, f"/api/v1/namespaces/{namespace}/pods")
    except Refused:
        return {}  # who may not list pods reads their uids
    metas = [member(pod, "metadata") for pod in listed]
    return {str(meta.get("uid")): str(meta.get("name")) for meta in metas}


async def of_state(state: Path, asked: Question) -> LedgerPicture:
    """From the files of `keelage run`, running or not. Raises NothingToExplain, StoreUnavailable."""
    name = asked.name
    budget = Objects.load(state).known.get(f"LLMBudget/{name}")
    if budget is None or not (state / LEDGER_FILE).exists():
        raise NothingToExplain(
            f"no LLMBudget {name} in {state / OBJECTS_FILE}: start `keelage run -f DIR` first with the same --state,"
            " or give --context or -n for one on a cluster"
        )
    full = f"{member(budget, 'metadata').get('namespace')}/{name}"
    store = SqliteStore(state / LEDGER_FILE)
    try:
        keys = [key for key in await store.list_keys() if key.budget == full]
        return await _picture(store, full, keys, asked, budget, {POD.uid: POD.name})
    finally:
        store.close()


async def _picture(
    store: LedgerStore,
    budget: str,
    keys: Sequence[LedgerKey],
    asked: Question,
    raw: Mapping[str, object],
    pods: Mapping[str, str],
) -> LedgerPicture:
    parsed = parse(LLMBudgetStatus, raw.get("status") or {})
    status = parsed.value if isinstance(parsed, Parsed) else LLMBudgetStatus()
    windows = tuple(sorted({key.window for key in keys}))
    wanted = asked.window or status.window.id or max(windows, default="")
    mine = [key for key in sorted(keys) if key.window == wanted]
    stored = [await store.load(key) for key in mine]
    found = tuple(each.record for each in stored if each is not None)
    there_are = {key.shard for key, each in zip(mine, stored, strict=True) if each is not None}
    lost = _lost(status, wanted, there_are)
    records = (*found, *lost)
    if not records:
        existing = f"; there is one of {', '.join(windows)}" if windows else ""
        missed = wanted or "(none yet)"
        raise NothingToExplain(
            f"LLMBudget {budget} has no ledger of window {missed}: no sidecar has asked for its money{existing}"
        )
    if asked.value and not has_values(wanted):
        raise NothingToExplain(f"LLMBudget {budget} holds for all calls together in window {wanted}: omit --value")
    value = _value(asked.value, wanted, records)
    if asked.value and not value:
        raise NothingToExplain(
            f"LLMBudget {budget} has not heard of {asked.value} in window {wanted}: leave --value out to see of whom"
        )
    others = tuple(each for each in windows if each != wanted)
    spec = parse(LLMBudgetSpec, status.last_accepted or member(raw, "spec"))
    terms = in_force("", "", spec.value) if isinstance(spec, Parsed) else None
    limit, overdraft = _limit(status, wanted, terms)
    observed = terms is not None and not terms.hard
    return LedgerPicture(
        budget, wanted, records, limit, status, pods, others, value, overdraft, observed, lost=len(lost)
    )


def _value(asked: str, window: str, records: Iterable[LedgerRecord]) -> str:
    """The account that is meant; empty: there is none. A name that is not plain, as one with a blank or a slash, is
    another word in the ledger, which nobody knows by heart."""
    there = {value for record in records for value in record.accounts if value}
    words = asked.split("/")
    cuts = range(1, len(words)) if holds_for(window) > 1 else (len(words),)
    meant = [account_value("/".join(part) for part in (words[:cut], words[cut:]) if part) for cut in cuts]
    return next((each for each in (asked, *meant) if each in there), "")


def _lost(status: LLMBudgetStatus, window: str, stored: Container[int]) -> tuple[LedgerRecord, ...]:
    """What the operator makes of ledgers that are not there, though by the status something was committed in them."""
    if status.window.id != window:
        return ()
    try:
        bounds = Window(
            window, datetime.fromisoformat(status.window.starts_at), datetime.fromisoformat(status.window.ends_at)
        )
    except ValueError:  # somebody wrote into the status
        return ()
    valued = has_values(window)
    checkpoint = Checkpoint(window, status.amounts.committed, status.amounts.shards)
    missing = [shard for shard in range(SHARDS if valued else 1) if shard not in stored]
    records = [rebuild(bounds, checkpoint.of(shard, valued), 0, valued=valued) for shard in missing]
    return tuple(record for record in records if committed(record))


def _limit(status: LLMBudgetStatus, window: str, terms: BudgetInForce | None) -> tuple[int | None, int]:
    """In force, as the status says; before there is one, as the spec says. With the overdraft that it includes.

    None: the window is of a time when the budget counted something else, or for somebody else.
    """
    if status.window.id == window and status.amounts.limit:
        return status.amounts.limit + status.amounts.overdraft, status.amounts.overdraft
    if terms is None or window_kind(terms.unit, terms.per) != kind_of(window):
        return None, 0
    return terms.cap, terms.overdraft

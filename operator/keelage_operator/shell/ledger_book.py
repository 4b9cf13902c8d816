"""All ledgers that this replica leads: statements in, stored, rights out.

Statements on one ledger are gathered for a moment into one write. Nothing here decides
who gets what; `core/ledger` does. Which window is current is decided by this clock alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from keelage_api.sync import Right, Statement, SyncRequest
from keelage_api.will import Will
from keelage_api.window import Window
from keelage_operator.core.attribution import Attribution
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import LEARNING_S, Checkpoint, Heard, closed
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.shard import has_values, home_of, names_a_ledger
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.windows import Windows
from keelage_operator.shell.ledger_page import GATHER_S, Burial, LedgerGone, LedgerPage, LedgerUnavailable, untidy
from keelage_operator.shell.ledger_pages import LedgerPages
from keelage_operator.shell.ledger_store import LedgerKey, LedgerStore, StoreConflict, StoreUnavailable
from keelage_operator.shell.ledger_view import LedgerView

__all__ = ["LedgerBook", "LedgerUnavailable"]

LOG = logging.getLogger(__name__)

TIDY_S = 1.0
"""Between looks at what was not urgent to store and at windows that have ended."""
RELOAD_S = 15.0
"""Between attempts to read a ledger that could not be read."""
KEPT = timedelta(days=1)
"""A ledger on which nobody can spend any more stays for so long after its window."""
LOOKED_FOR_MAX = 16
"""Former windows of one message that the store is asked about: an honest sidecar has a few, and says it again."""
GONE_S = 600.0
"""Deleted pods are remembered for so long, so that a belated statement does not open a row that nobody closes."""
GONE_MAX = 10_000


def _ignore(_budget: str) -> None:
    return None


def _no_will(_uid: str, _message: str) -> Will | None:
    return None


class LedgerBook:
    """Used by one task group; grants only between `lead()` and `stop_leading()`."""

    def __init__(
        self,
        store: LedgerStore,
        wall: Callable[[], datetime],
        clock: Callable[[], float],
        gather_s: float = GATHER_S,
    ) -> None:
        """`wall` gives the aware time, for windows; `clock` monotonic seconds, for intervals."""
        self._store = store
        self._wall = wall
        self._clock = clock
        self._gather_s = gather_s
        self._budgets: dict[str, BudgetInForce] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._pages = LedgerPages()
        self._windows = Windows()
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._attribution = Attribution()
        self._view = LedgerView(self._pages, self._attribution, self.known_of, clock, self.now_s)
        self._leading = False
        self._doubts_until_s = float("-inf")
        """Until then holders may not have told yet what another leader granted to them."""
        self._tidier: asyncio.Task[None] | None = None
        self.on_change: Callable[[str], None] = _ignore
        """Told the name of a budget whose figures or window changed."""
        self.read_will: Callable[[str, str], Will | None] = _no_will
        """Given a pod's uid and its sidecar's termination message: its verified last will."""

    @property
    def leading(self) -> bool:
        return self._leading

    async def lead(self, after_nobody: bool = False) -> None:
        """Take over every ledger: the next epoch is written before anything is granted. `after_nobody`: there is no
        other replica that may have led before.

        One that cannot be taken over now grants nothing until it can be; it does not hold up the others.
        LedgerUnavailable if the store cannot be listed: try again.
        """
        await self.stop_leading()
        try:
            keys = await self._store.list_keys()
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"cannot take over the ledgers: {error}") from error
        await asyncio.gather(*(self._take_over(self._page(key, None)) for key in keys))
        self._leading = True
        self._doubts_until_s = self._clock() + (0 if after_nobody else LEARNING_S)
        self._tidier = asyncio.create_task(self._tidy(), name="ledger tidier")
        for budget in self._budgets:
            self.on_change(budget)

    async def _take_over(self, page: LedgerPage) -> None:
        try:
            await page.take_over()
        except LedgerUnavailable as error:
            LOG.error("not taken over, tried again in %g s: %s", RELOAD_S, error)

    async def stop_leading(self) -> None:
        """Grant nothing from here on; whoever waits gets LedgerUnavailable."""
        self._leading = False
        if self._tidier is not None:
            self._tidier.cancel()
            await asyncio.wait([self._tidier])
            self._tidier = None
        for page in list(self._pages.values()):  # whose budget is gone drops its page while others close
            await page.close()
        self._pages.clear()
        self._attribution.clear()
        self._view.forget_all()

    def set_budgets(self, budgets: Mapping[str, BudgetInForce], checkpoints: Mapping[str, Checkpoint]) -> None:
        """All budgets in force by `<namespace>/<budget>`, and what their status says was committed."""
        self._checkpoints = dict(checkpoints)
        self.change_budgets({**dict.fromkeys(self._budgets.keys() - budgets.keys()), **budgets})

    def change_budgets(self, changed: Mapping[str, BudgetInForce | None]) -> None:
        """Those that are in force from now on, by `<namespace>/<budget>`; None: not any more. The others stay."""
        for name, terms in changed.items():
            before = self._budgets.pop(name, None)
            if terms is None:
                self._windows.forget(name)
                self._view.forget(name)
            else:
                self._budgets[name] = terms
            if before is None or terms is None or before.uid != terms.uid:
                for page in self._pages.of_budget(name):
                    page.let_go()
            if terms is not None and terms != before:
                self.on_change(name)

    def note_checkpoint(self, name: str, checkpoint: Checkpoint | None) -> None:
        """What the status of a budget says was committed; None: nothing, or there is no such budget."""
        if checkpoint is None:
            self._checkpoints.pop(name, None)
        else:
            self._checkpoints[name] = checkpoint

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]:
        """Rights for the statements of one pod, each stored before it is returned.

        A statement whose ledger could not be stored, or is to be looked for later, has no right in the answer;
        LedgerUnavailable if that is so of all, or if this replica does not lead.
        """
        if not self._leading:
            raise LedgerUnavailable("this replica does not lead")
        if pod.uid in self._gone:
            return tuple(
                _error(statement, f"pod {pod.namespace}/{pod.name} is deleted, or lost its label keelage.dev/injected")
                for statement in request.statements
            )
        holder = f"{pod.uid}.{request.incarnation}"
        rights: list[Right] = []
        told: dict[LedgerPage, list[Statement]] = {}
        looked_for = 0
        for statement in request.statements:
            terms = self._budgets.get(statement.budget)
            current = self._window(terms) if terms is not None else None
            unknown = self._to_be_looked_for(statement, current)
            looked_for += unknown
            if unknown and looked_for > LOOKED_FOR_MAX:
                continue
            page = self._told(pod, statement, current)
            if page is None:
                rights += self._without_ledger(pod, statement)
            else:
                told.setdefault(page, []).append(statement)
        answers = await asyncio.gather(
            *(self._hear(pod, holder, page, statements) for page, statements in told.items()), return_exceptions=True
        )
        failure: LedgerUnavailable | None = None
        for answer in answers:
            if isinstance(answer, LedgerUnavailable):
                failure = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                rights.extend(answer)
        if failure is not None and not rights:
            raise failure
        rights.sort(key=lambda right: right.seq)  # as they were said
        return tuple(rights)

    async def _hear(self, pod: PodIdentity, holder: str, page: LedgerPage, statements: list[Statement]) -> list[Right]:
        try:
            rights = await page.hear([Heard(holder, replace(each, window=page.key.window)) for each in statements])
        except LedgerGone:
            self._pages.drop(page)
            return [right for each in statements for right in self._without_ledger(pod, each)]
        return self._answer(page, rights, holder)

    async def pod_gone(self, uid: str, message: str = "") -> None:
        """The pod object is gone: settle what it told or left a will about, forfeit what it did not.

        `message` is the termination message of its sidecar, if the sidecar is known to have ended.
        """
        now = self._clock()
        self._gone[uid] = now
        while len(self._gone) > GONE_MAX or next(iter(self._gone.values())) < now - GONE_S:
            self._gone.popitem(last=False)
        if self._leading:
            pages = [page for page in self._pages.values() if page.may_hold(uid)]
            will = self.read_will(uid, message) if message else None
            told = self._attribution.of_pod(uid)
            # The first of a budget's ledgers that closes its rows keeps what it told.
            burials = [
                Burial.of(uid, will, page.key, told.pop((page.key.budget, page.key.window), {})) for page in pages
            ]
            outcomes = await asyncio.gather(
                *(page.pod_gone(burial) for page, burial in zip(pages, burials, strict=True)), return_exceptions=True
            )
            for page, outcome in zip(pages, outcomes, strict=True):
                if isinstance(outcome, LedgerGone):  # with its namespace: no row is left to close
                    self._pages.drop(page)
                elif isinstance(outcome, BaseException):
                    raise outcome
            self._attribution.forget_pod(uid)

    def attribute(self, pod: PodIdentity, request: SyncRequest) -> bool:
        """Note for whom a pod spent; whether it should tell all of that, since it was not heard before."""
        if not self._leading or pod.uid in self._gone:
            return False
        shares = [share for share in request.shares if self._is_current(pod.namespace, share.budget, share.window)]
        return self._attribution.hear(f"{pod.uid}.{request.incarnation}", shares, request.run)

    def _is_current(self, namespace: str, budget: str, window: str) -> bool:
        terms = self._budgets.get(budget) if budget.startswith(f"{namespace}/") else None
        return terms is not None and self._window(terms).id == window

    def pods(self) -> frozenset[str]:
        """Uids of all pods that hold a row: those that do not exist any more are to be told by `pod_gone`."""
        return frozenset().union(*(page.pods() or () for page in self._pages.values()))

    def figures(self, name: str) -> LedgerFigures | None:
        """Of the current window; None if the budget is not in force or this replica does not lead."""
        terms = self._budgets.get(name)
        if terms is None or not self._leading:
            return None
        return self._view.of(terms, self._window(terms))

    def _to_be_looked_for(self, statement: Statement, current: Window | None) -> bool:
        """Whether it is about a former window that only the store may know of."""
        known = "", current.id if current is not None else ""
        return statement.window not in known and _key(statement, statement.window) not in self._pages

    def _told(self, pod: PodIdentity, statement: Statement, current: Window | None) -> LedgerPage | None:
        """The ledger of a statement: that of its window, or the current one if it names none."""
        if not names_a_ledger(pod.namespace, statement):
            return None
        window = statement.window or (current.id if current is not None else "")
        if not window or has_values(window) is not bool(statement.value):
            return None
        key = _key(statement, window)
        # Of another window only the store knows whether there is a ledger: a holder that is told that it is gone
        # forgets what it spent there.
        return self._page(key, current if current is not None and key.window == current.id else None)

    def _without_ledger(self, pod: PodIdentity, statement: Statement) -> list[Right]:
        terms = self._budgets.get(statement.budget)
        if terms is None or not names_a_ledger(pod.namespace, statement):
            return [_error(statement, f"LLMBudget {statement.budget} is not in force: see its conditions")]
        if terms.valued is not bool(statement.value):
            return [_error(statement, f"spec.per of LLMBudget {statement.budget} has changed: ask by its new values")]
        # Its window is over and its ledger tidied away: nothing is left to say but where to go on.
        last = Right(
            statement.budget,
            statement.window,
            statement.seq,
            statement.granted,
            spent=statement.spent,
            value=statement.value,
        )
        return [last, *self._signpost(terms, last, "")]

    def _answer(self, page: LedgerPage, rights: list[Right], holder: str) -> list[Right]:
        terms = self._budgets.get(page.key.budget)
        if terms is None:
            return rights
        window = self._window(terms)
        if window.id == page.key.window:
            left_s = self._left_s(window)
            return [replace(right, ends_in_s=left_s) for right in rights]
        return [each for right in rights for each in (right, *self._signpost(terms, right, holder))]

    def _signpost(self, terms: BudgetInForce, former: Right, holder: str) -> list[Right]:
        """Names the current window and grants nothing in it. A value is asked for when it is needed next."""
        if terms.valued or former.value:
            return []
        window = self._window(terms)
        page = self._pages.get(LedgerKey(terms.name, window.id))
        row = page.record.account().rows.get(holder) if page is not None and page.record is not None else None
        spent = row.spent if row is not None else 0
        left_s = self._left_s(window)
        return [Right(terms.name, window.id, former.seq, granted=0, ends_in_s=left_s, spent=spent, limit=terms.cap)]

    def _left_s(self, window: Window) -> float:
        return max(0.0, (window.ends_at - self._wall()).total_seconds())

    def _window(self, terms: BudgetInForce) -> Window:
        return self._windows.of(terms, self._wall())

    def _page(self, key: LedgerKey, window: Window | None) -> LedgerPage:
        page = self._pages.get(key)
        if page is None:
            page = LedgerPage(key, window, self._store, self, self._gather_s)
            self._pages.add(page)
        page.window = page.window or window
        return page

    async def _tidy(self) -> None:
        reload_s = self._clock() + RELOAD_S
        while True:
            await asyncio.sleep(TIDY_S)
            for name, terms in self._budgets.items():
                if self._windows.rolled(terms, self._wall()):
                    self.on_change(name)
            for name in self._view.owed():
                self.on_change(name)
            self._attribution.keep_only({name: self._window(terms).id for name, terms in self._budgets.items()})
            reload = self._clock() >= reload_s
            reload_s = self._clock() + RELOAD_S if reload else reload_s
            found = untidy(self._pages.values(), reload, self._is_over)
            await asyncio.gather(*(self._tidied(page, reload) for page in found))

    async def _tidied(self, page: LedgerPage, reload: bool) -> None:
        try:
            await page.flush(reload)
            await self._drop(page)
        except LedgerGone:
            self._pages.drop(page)
        except (LedgerUnavailable, StoreUnavailable, StoreConflict) as error:
            # The next statement or the next look finds out what is stored.
            if reload and page.record is None:
                LOG.error("tried again in %g s: %s", RELOAD_S, error)
        except Exception:  # a bug that one ledger brings out must not leave all the others untidied
            LOG.exception("ledger %s cannot be tidied", page.key)

    async def _drop(self, page: LedgerPage) -> None:
        version = page.version
        if version is not None and self._is_over(page):
            await self._store.delete(page.key, version)
            self._pages.drop(page)

    def _is_over(self, page: LedgerPage) -> bool:
        """Whether nobody can spend under it any more, and it was kept for long enough."""
        record = page.record
        return record is not None and record.ends_at + KEPT < self._wall() and closed(record)

    # What a page asks of the book

    def cap_of(self, key: LedgerKey) -> int:
        """0 for a window that is over or a budget that is not in force: nothing more is granted there."""
        terms = self._budgets.get(key.budget)
        return terms.cap if terms is not None and self._window(terms).id == key.window else 0

    def known_of(self, key: LedgerKey) -> int:
        checkpoint = self._checkpoints.get(key.budget)
        if checkpoint is None or checkpoint.window != key.window:
            return 0
        return checkpoint.of(key.shard, key.valued)

    def doubts(self, key: LedgerKey) -> bool:
        checkpoint = self._checkpoints.get(key.budget)
        seen = checkpoint is not None and checkpoint.window == key.window
        return seen and self._clock() < self._doubts_until_s

    def opens(self, key: LedgerKey) -> bool:
        return key.budget in self._budgets

    def now_s(self) -> int:
        return int(self._wall().timestamp())

    def changed(self, budget: str) -> None:
        self.on_change(budget)


def _key(statement: Statement, window: str) -> LedgerKey:
    return LedgerKey(statement.budget, window, home_of(window, statement.value))


def _error(statement: Statement, text: str) -> Right:
    return Right(statement.budget, statement.window, statement.seq, granted=0, error=text, value=statement.value)

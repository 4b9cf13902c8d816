"""Messages of the control channel between sidecar and operator (HTTPS, JSON).

`POST /v1/config`: a long poll for configuration, answered by every replica.
`POST /v1/sync`: statements up, rights down; only the leader grants. Amounts are
pico-dollars, cumulative per holder, budget and window, and never fall, but for what a
holder gives back by `keep`.

Who speaks is never in the message: the pod's name and uid come from TokenReview of the
bearer token. A holder is `<pod uid>.<incarnation>`, where the incarnation is the
identity of the sidecar's journal.
"""

from __future__ import annotations

import enum

import msgspec

CONFIG_PATH = "/v1/config"
SYNC_PATH = "/v1/sync"


class ConfigRequest(msgspec.Struct, frozen=True):
    version: str = ""
    """Of the configuration in force; empty: none. A poll for another one waits."""
    wait_s: float = 25.0


class ConfigReply(msgspec.Struct, frozen=True, rename={"raw": "config"}):
    raw: msgspec.Raw = msgspec.Raw(b"null")
    """As on the wire. No union with None: msgspec would take only null for it."""

    @property
    def config(self) -> msgspec.Raw | None:
        """An encoded ProxyConfig; None when the wait ended without a change."""
        return None if bytes(self.raw) == b"null" else self.raw


class Statement(msgspec.Struct, frozen=True):
    """A holder's word on one account (budget and window)."""

    budget: str
    """`<namespace>/<budget>`."""
    window: str
    """Window id; empty asks for the current one."""
    seq: int
    """Rises with each statement of the holder on this account, over restarts too. Rights that answer
    an earlier one are void: that is what makes giving back safe."""
    granted: int = 0
    """The total that the holder counts on."""
    spent: int = 0
    reserved: int = 0
    want: int = 0
    """Further amount that the holder would like, beyond `granted`."""
    min_want: int = 0
    """The least further amount that is of any use: one waiting request."""
    keep: int = -1
    """The total to which the row may shrink (>= spent + reserved); negative: no offer."""
    final: bool = False
    """The holder will not use this account again; `reserved` must be 0. What was not spent returns."""
    value: str = ""
    """Of a limit that holds `per` something: whose account (`account.account_value`)."""
    left: int = -1
    """Of a provider's limit: what the provider said to be left, less what this holder has reserved since; negative:
    nothing was said lately."""
    queued: int = 0
    """Of `want`, what all waiting requests need; the rest is for those that are expected."""
    uncertain: int = 0
    """The part of `spent` that nothing proves to have been billed: bounds of calls whose end nobody knows."""
    waited_s: float = 0.0
    """How long the request has waited that `min_want` is for: over all holders the first comes first."""
    ledger: str = ""
    """`Right.ledger` of the last answer on this account: proves that this word is newer than that ledger."""
    besides: tuple[str, ...] = ()
    """Of a question: the windows in which the holder has an account. It is not heard there, where it would begin a
    second row beside what the account tells: leaders' clocks may name a window that the holder gives up."""


class Right(msgspec.Struct, frozen=True):
    """The ledger's answer to one statement."""

    budget: str
    window: str
    seq: int
    """Of the statement that it answers."""
    granted: int
    """The total that the durable ledger holds for the holder. Never above what the statement claimed
    unless the state that holds it was stored first."""
    ends_in_s: float = 0.0
    """Seconds until the window ends, counted from when the statement was sent."""
    tight: bool = False
    """Somebody wants more than is free: give back what is idle, ask for no more than is needed."""
    first: bool = False
    """Nobody waits for longer than this holder's request: what others give back is gathered for it."""
    exhausted: bool = False
    """Nothing is left that could ever serve `min_want` in this window: limit reached by spending."""
    error: str = ""
    """Why there is no right: the budget is unknown or not accepted; empty otherwise."""
    spent: int = 0
    """What the ledger knows the holder to have spent; the holder takes the greater of the two."""
    uncertain: int = 0
    """The part of that `spent` which nothing proves; the holder takes the greater of the two."""
    limit: int = -1
    """Of the account in this window, overdraft included; negative: not told. A request that costs more can never be
    served."""
    value: str = ""
    ledger: str = ""
    """The identity of a ledger that was lost and made again; empty: this one never was. The holder gives nothing back
    before it has said it once, so that what it counts on is known to be so much."""
    used: int = -1
    """Spent by everybody on this account, forfeits included; negative: not told. For thresholds, not for rights."""


class By(enum.StrEnum):
    """What spending is attributed to."""

    MODEL = "model"
    FEATURE = "feature"
    USER = "user"


class Share(msgspec.Struct, frozen=True, array_like=True):
    """How much of a holder's spending on a budget and window was for one model, feature or user. For lists of the
    greatest, not for rights."""

    budget: str
    window: str
    by: By
    name: str
    amount: int
    """Cumulative since the sidecar's process began (`SyncRequest.run`); never falls."""


class SavedBy(enum.StrEnum):
    """What saves money against doing the same without it."""

    CASCADE = "Cascade"
    PROMPT_CACHE = "PromptCache"
    RESPONSE_CACHE = "ResponseCache"
    SEMANTIC_CACHE = "SemanticCache"


class Saving(msgspec.Struct, frozen=True, array_like=True):
    """What a route's calls saved in one way since that was told last. An estimate for people, not for rights."""

    route: str
    by: SavedBy
    amount: int
    """Pico-dollars; negative where it cost more than it saved."""
    tries: int
    """How often it could have helped: calls, or tokens of a prompt cache."""
    hits: int
    """How often it did."""


class Resting(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Prompts for a model go without breakpoints at present, since what was written was not repaid by reads."""

    route: str
    rule: str
    model: str


class SyncRequest(msgspec.Struct, frozen=True):
    incarnation: str
    config_version: str = ""
    """In force at the sidecar: acknowledges it."""
    config_error: str = ""
    """Why a newer configuration was refused; the one above stays in force."""
    missing_credentials: tuple[str, ...] = ()
    """`<secret>/<key>` that the configuration names and the pod has no file for."""
    statements: tuple[Statement, ...] = ()
    leaving: bool = False
    """The sidecar ends after this one."""
    shares: tuple[Share, ...] = ()
    """Those that grew since they were told last; all of them when `SyncReply.tell_all` asked for it."""
    run: int = 0
    """Of the sidecar's process: rises with each start under one incarnation."""
    savings: tuple[Saving, ...] = ()
    """The same ones under the same number until an answer has come: they are added up once."""
    savings_seq: int = 0
    """Rises with each new set of `savings`; counts from 1 in each run."""
    resting: tuple[Resting, ...] = ()
    """All that do."""


class SyncReply(msgspec.Struct, frozen=True):
    rights: tuple[Right, ...] = ()
    leader: str = ""
    """`host:port` to ask instead; empty: the leader has answered."""
    next_s: float = 2.0
    """When to speak next if nothing happens, in seconds."""
    tell_all: bool = False
    """Whoever answers has not heard this incarnation's shares: tell all of them with the next request."""
    will_key: str = ""
    """Hexadecimal; with it the holder signs its last will (`will.py`). Empty: there is no use for one."""

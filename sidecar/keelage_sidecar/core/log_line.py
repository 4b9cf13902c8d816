"""One JSON line per call: every decision, every count, no prompt, no key."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from keelage_api.money import format_usd
from keelage_api.usage import TokenUsage


class LogLevel(enum.IntEnum):
    """How much of what happens is logged; the names are those of the operator's levels."""

    DEBUG = 10
    """Every call, with the candidates."""
    INFO = 20
    """Every call."""
    WARNING = 30
    """Calls that were refused, failed or cut."""
    ERROR = 40
    """Calls that the sidecar itself failed, or that cost more than their bound."""

    @classmethod
    def of(cls, name: str) -> LogLevel | None:
        """None for a name that there is not."""
        return cls.__members__.get(name.upper()) if name.islower() else None


LEVELS = "debug, info, warning or error"


GIVEN = ("hit", "semantic", "stale")
"""Of `CallRecord.cache`: it was answered with a kept answer."""


class Purpose(enum.StrEnum):
    """What the sidecar itself makes a call for."""

    CLASSIFIER = "classifier"
    EMBEDDING = "embedding"
    SUMMARY = "summary"


class Choice(msgspec.Struct, gc=False):
    """Whom the call could be sent to."""

    backend: str
    model: str
    priced: bool
    hard: bool
    """A hard budget pays for it."""
    output_cap: int


class Failed(msgspec.Struct, gc=False):
    """An attempt that did not answer the call."""

    backend: str
    model: str
    status: int | None
    failure: str | None
    retry_after_ms: int | None
    took_ms: int


class ShadowRule(msgspec.Struct, gc=False, omit_defaults=True):
    """The first rule that matches, in `mode: Shadow`: what it would have chosen."""

    route: str
    rule: str
    tier: str = ""
    backend: str = ""
    model: str = ""
    reason: str = ""
    """Why it could have asked nobody."""
    cost_picodollars: int | None = None
    """What the same tokens cost there, by its price."""
    difference_picodollars: int | None = None
    """Against what they cost where the call was really answered; negative: less."""
    difference_usd: str = ""

    def compare(self, cost: int, real: int) -> None:
        self.cost_picodollars, self.difference_picodollars = cost, cost - real
        self.difference_usd = f"{'-' if cost < real else ''}{format_usd(abs(cost - real))}"


class Would(enum.StrEnum):
    REFUSE = "refuse"
    CLAMP = "clamp"
    DOWNGRADE = "downgrade"


class ShadowBudget(msgspec.Struct, gc=False, omit_defaults=True):
    """A budget in `mode: Shadow`: what it would have done."""

    budget: str
    would: Would
    reason: str = ""
    """Of the refusal."""
    tier: str = ""
    """That it would have been downgraded to."""
    clamped: int = 0
    """The output cap that it would have been lowered to."""
    needed: int = 0
    """What would have been reserved of the budget's unit: pico-dollars or tokens."""
    left: int | None = None
    """Of the limit, by the ledger's last word."""


class FirstAnswer(msgspec.Struct, gc=False, rename={"cost": "cost_picodollars"}):
    """One that would not do, of a call that was escalated; the line's own counts are those of the answer after it."""

    backend: str
    model: str
    input_tokens: int
    """All that went in."""
    output_tokens: int
    cost: int


class Cascaded(msgspec.Struct, gc=False, omit_defaults=True, rename={"saved": "saved_picodollars"}):
    """What a cascade did with a call."""

    outcome: str
    """`kept`: the first answer would do; `escalated`: it would not, and the dear tier's was given; `unpaid`, `failed`:
    it was given all the same, since no budget paid for another, or there was none."""
    saved: int
    """Pico-dollars against asking the dear tier at once, an estimate; negative where it cost more."""
    cause: str = ""
    """Why the first answer would not do: `ReplyPrefix`, `Pattern`, `MaxTokens`, `InvalidJson` or `JsonSchema`."""
    first_answer: FirstAnswer | None = None
    """Where it was not the one that was given."""


class Late(msgspec.Struct, gc=False):
    """Why another tier took the call over."""

    broken: str
    """The rule's latency budget: `firstTokenWithin` or `answerWithin`."""
    selected: str
    """The tier that is too slow."""


class CallRecord(
    msgspec.Struct,
    gc=False,
    rename={
        "cache_read_tokens": "cache_read_input_tokens",
        "cache_write_5m_tokens": "cache_creation_5m_input_tokens",
        "cache_write_1h_tokens": "cache_creation_1h_input_tokens",
        "cost": "cost_picodollars",
        "bound": "bound_picodollars",
        "prompt_cache_saved": "prompt_cache_saved_picodollars",
        "saved": "saved_picodollars",
    },
):
    """Its fields are the line's, in its order; whoever tells of a call sets those that have something to say."""

    time: str = ""
    """RFC 3339, UTC, when the request was read."""
    request_id: str = ""
    """Given by the sidecar; a call that it makes itself has the one that it is for, and its purpose behind a slash."""
    endpoint: str = ""
    outcome: str = ""
    """`ok`, `upstream_error`, `refused`, `client_disconnect`, `truncated`, `error`; `settled` for the line that tells,
    once its results are known, what a batch has cost for one model and one set of budgets."""
    status: int = 0
    """As sent to the application; 0 where it left before."""
    route: str = ""
    rule: str = ""
    backend: str = ""
    request_model: str = ""
    model: str = ""
    """As sent upstream."""
    response_model: str = ""
    attempts: int = 0
    sdk_retries: int = 0
    user: str = ""
    feature: str = ""
    stream: bool = False
    usage_known: bool = False
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    cost_usd: str = "0.00"
    cost: int = 0
    """Pico-dollars charged, all attempts together; `charge` sets both."""
    bound: int = 0
    """Pico-dollars reserved for the last attempt."""
    bound_input_tokens: int = 0
    bound_output_tokens: int = 0
    """The most that the last attempt could use; what `keelage plan` weighs the call by."""
    bound_violated: bool = False
    uncertain: bool = False
    latency_ms: float = 0.0
    first_token_ms: float | None = None
    wait_ms: float = 0.0
    """Spent waiting for a budget's rights."""
    queue_ms: float = 0.0
    """Spent waiting for room in rates: those of the rule and those of the provider."""
    stop_reason: str = ""
    reason: str = ""
    """Of a refusal, or the type of the upstream's error."""
    budget: str = ""
    """That refused the call, or had it downgraded."""
    limit: str = ""
    """The rate limit that refused the call."""
    unlimited: bool = False
    """It passed a rate limit that nobody could be asked about."""
    clamped: int = 0
    """The output cap that it was lowered to for a budget's sake; 0: it was not."""
    downgraded: str = ""
    """The cheaper tier that it was given for a budget's sake."""
    hedge: str = ""
    """`won`: a second attempt beside the first one answered first; `lost`: it did not."""
    prompt_cache: str | msgspec.UnsetType = msgspec.UNSET
    """How far breakpoints were put into the prompt: `fixed`, `turns`; `off`: they do not pay now."""
    prompt_cache_saved: int | msgspec.UnsetType = msgspec.UNSET
    """Pico-dollars that those have saved; below zero where what was written cost more than what was read saved."""
    cache: str = ""
    """`hit`, `semantic`, `miss`, `stale` or `bypass`, where the rule has a response cache."""
    cache_age_s: float = 0.0
    """How old the kept answer was."""
    cache_similarity: float | msgspec.UnsetType = msgspec.UNSET
    """Where it was the answer to a call in other words: the cosine of the two."""
    saved: int = 0
    """Pico-dollars that the kept answer would have cost."""
    tier: str = ""
    selected_by: str = ""
    """Where the rule has several tiers: the place of the entry that chose this one, and its conditions, as in
    `1:promptWords+keywords`; `default` for the last entry."""
    task_type: str | msgspec.UnsetType = msgspec.UNSET
    """Where the call or its pod names one."""
    prompt_words: int | msgspec.UnsetType = msgspec.UNSET
    """Where a condition asked for their number."""
    history_trimmed: int | msgspec.UnsetType = msgspec.UNSET
    """Turns of the conversation that were not sent."""
    history_summarized: int | msgspec.UnsetType = msgspec.UNSET
    """Turns that were sent as a summary."""
    upstream_request_id: str = ""
    injected: tuple[str, ...] = ()
    """Top-level fields that the sidecar put in."""
    dropped: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Fields that the backend's API has no word for; where the call was translated."""
    purpose: str | msgspec.UnsetType = msgspec.UNSET
    """Where the sidecar made the call itself: what for (`Purpose`)."""
    level: str = LogLevel.INFO.name.lower()
    """From which level on the line is not left out; `judge` sets it."""
    candidates: tuple[Choice, ...] | msgspec.UnsetType = msgspec.UNSET
    """In order. Told at level `debug` only."""
    shadow_rule: ShadowRule | msgspec.UnsetType = msgspec.UNSET
    """Where one would have taken the call."""
    shadow_budgets: tuple[ShadowBudget, ...] | msgspec.UnsetType = msgspec.UNSET
    """Where some would have refused or changed it."""
    latency: Late | msgspec.UnsetType = msgspec.UNSET
    """Where the selected tier was too slow."""
    cascade: Cascaded | msgspec.UnsetType = msgspec.UNSET
    """Where the first answer was judged."""
    failed: tuple[Failed, ...] | msgspec.UnsetType = msgspec.UNSET
    """Before the answer, where there were any; those that were passed over among them."""

    def judge(self) -> LogLevel:
        """How much the line matters, by what became of the call."""
        if self.outcome == "error" or self.bound_violated:
            level = LogLevel.ERROR
        elif self.outcome in ("ok", "settled"):
            return LogLevel.INFO
        else:
            level = LogLevel.WARNING
        self.level = level.name.lower()
        return level

    @property
    def prompt_tokens(self) -> int:
        """All that went in."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    def used(self, usage: TokenUsage) -> None:
        """What the last answer counted."""
        self.usage_known = True
        self.input_tokens = usage.input_tokens
        self.cache_read_tokens = usage.cache_read_tokens
        self.cache_write_5m_tokens = usage.cache_write_5m_tokens
        self.cache_write_1h_tokens = usage.cache_write_1h_tokens
        self.output_tokens = usage.output_tokens
        self.reasoning_tokens = usage.reasoning_tokens
        self.web_searches = usage.web_searches

    def charge(self, picodollars: int) -> None:
        """What all attempts cost."""
        self.cost = picodollars
        self.cost_usd = format_usd(picodollars)

    def line(self) -> bytes:
        """The record as one line, with its newline."""
        return lines((self,))


_ENCODER = msgspec.json.Encoder()


def lines(records: Sequence[CallRecord]) -> bytes:
    """Each record as a line, with its newline."""
    return _ENCODER.encode_lines(records)


def time_text(unix_s: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    milliseconds = int(unix_s * 1000)
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(unix_s: int) -> str:
    """Of many calls in one second, only the first pays for the calendar."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")

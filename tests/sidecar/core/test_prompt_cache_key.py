"""Which calls to OpenAI share a machine's cache."""

from __future__ import annotations

import orjson
import pytest
from tests.sidecar.core.calls import ANTHROPIC, LOCAL, OPENAI, chat, config, facts_of, is_a, responses

from keelage_api.proxy_config import ModelChoice, PromptCaching, Provider, Rule
from keelage_sidecar.core.endpoints import CHAT
from keelage_sidecar.core.prompt_cache_key import BYTES_MIN, key_for, stays_with
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan, RoutingTable

RULES = "Be brief. " * 500
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


def talk(*said: str, rules: str = RULES, role: str = "system", **more: object) -> Facts:
    turns = [{"role": "user", "content": each} for each in said]
    return chat(messages=[{"role": role, "content": rules}, *turns], **more)


FIRST = talk("a", user="ann")


@pytest.mark.parametrize("like", [talk("b", user="ann"), talk("a", "b", "c", user="ann", temperature=1)])
def test_calls_with_the_same_beginning_have_one_key(like: Facts) -> None:
    assert key_for(like, "r/all") == key_for(FIRST, "r/all")


@pytest.mark.parametrize(
    "unlike",
    [
        talk("a", user="bob"),
        talk("a", user="ann", rules=RULES + "!"),
        talk("a", user="ann", role="developer"),
        talk("a", user="ann", tools=TOOLS),
    ],
)
def test_other_users_tools_and_instructions_have_another(unlike: Facts) -> None:
    assert key_for(unlike, "r/all") != key_for(FIRST, "r/all")


def test_rules_have_keys_of_their_own_and_a_key_tells_nothing() -> None:
    key = key_for(FIRST, "r/all")
    assert key is not None
    assert key != key_for(FIRST, "r/other")
    assert len(key) == 32
    assert "ann" not in key


def test_a_question_without_instructions_does_not_count() -> None:
    long = "x" * BYTES_MIN
    one, other = (chat(messages=[{"role": "user", "content": f"{each}{long}"}]) for each in "ab")
    assert key_for(one, "r/all") == key_for(other, "r/all")


def test_instructions_of_a_responses_call_count() -> None:
    one, other, third = (responses(instructions=RULES + more, input=said) for more, said in ("aa", "ab", "ba"))
    assert key_for(one, "r/all") == key_for(other, "r/all") != key_for(third, "r/all")


@pytest.mark.parametrize("facts", [chat(), talk("a", prompt_cache_key="mine"), talk("a", prompt_cache_key=None)])
def test_a_short_call_or_one_with_a_key_gets_none(facts: Facts) -> None:
    assert key_for(facts, "r/all") is None


@pytest.mark.parametrize("messages", ["x" * BYTES_MIN, ["x" * BYTES_MIN], [], {}])
def test_what_openai_would_refuse_gets_a_key_or_none_but_no_error(messages: object) -> None:
    facts = facts_of(CHAT, orjson.dumps({"model": "m", "messages": messages, "x": "x" * BYTES_MIN}))
    assert key_for(facts, "r/all") is not None


CACHING = PromptCaching()


def stays(facts: Facts, caching: PromptCaching | None = CACHING, weight: int | None = 1) -> str:
    choices = (ModelChoice(OPENAI.name, "m", weight), ModelChoice(LOCAL.name, "m", weight))
    table = RoutingTable.build(config(Rule("r", "all", choices, prompt_cache=caching)))
    return stays_with(is_a(Plan, table.plan(facts)), facts)


def test_a_conversation_without_a_user_stays_with_its_model() -> None:
    first, later, other = talk("a"), talk("a", "b"), talk("b")
    assert stays(first) == stays(later) != stays(other)
    assert stays(talk("a", rules="others")) == stays(first)
    asked: list[Facts] = [responses(input=[{"role": "user", "content": said} for said in each]) for each in ("a", "ab")]
    assert stays(asked[0]) == stays(asked[1]) != ""


def test_a_user_comes_first_and_without_weights_or_caches_nothing_is_looked_at() -> None:
    assert stays(talk("a", user="ann")) == "ann"
    assert stays(talk("a"), caching=None) == ""
    assert stays(talk("a"), weight=None) == ""
    assert stays(responses(input="a")) == ""


@pytest.mark.parametrize("caching", [PromptCaching(), None])
def test_only_openai_itself_is_sent_a_key_and_only_by_rules_with_a_prompt_cache(caching: PromptCaching | None) -> None:
    choices = tuple(ModelChoice(backend.name, "m") for backend in (OPENAI, LOCAL, ANTHROPIC))
    table = RoutingTable.build(config(Rule("r", "all", choices, prompt_cache=caching)))
    scopes = {each.backend.provider: each.cache_scope for each in is_a(Plan, table.plan(FIRST)).candidates}
    assert scopes == {
        Provider.OPENAI: "r/all" if caching else "",
        Provider.OPENAI_COMPATIBLE: "",
        Provider.ANTHROPIC: "",
    }

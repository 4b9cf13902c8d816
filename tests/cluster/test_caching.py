"""docs/caching.md on the real cluster: its manifests, a Valkey shared by two pods, and the provider's own bill."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from tests.cluster.desk import Answer, Call, Desk, application, at_desk
from tests.cluster.documented import documented, text_of
from tests.cluster.kube import BUDGET, Space
from tests.cluster.processes import stopped
from tests.cluster.valkey import Valkey, valkey

pytestmark = pytest.mark.cluster

HAIKU = "claude-haiku-4-5"
SYSTEM = "You are the assistant of a shop, and here is all of its catalogue. " * 200
TOOL = {"name": "stock", "description": "How many?", "input_schema": {"type": "object", "properties": {}}}
FAQ = {"x-keelage-feature": "faq"}
METRICS_PORT = 4001
APPLICATIONS = {"copilot": 1, "frontdesk": 1, "support": 2}
"""Pods of each."""


@pytest.fixture(scope="module")
def server(shop: Space, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(shop.kube, tmp_path_factory.mktemp("valkey"), shop.name) as running:
        yield running


@pytest.fixture(scope="module")
def desks(shop: Space, server: Valkey) -> Iterator[Mapping[str, list[Desk]]]:
    """A pod of the copilot and one of the front desk, two of the support; each with a documented route of its own."""
    shop.apply(server.objects())
    semantic = documented("semantic-cache.yaml", shop.name)
    # Patient: the machine of the tests has more to do than to answer in 300 ms.
    semantic[0]["spec"]["rules"][0]["responseCache"]["semantic"]["timeout"] = "5s"
    for objects in (
        documented("prompt-cache.yaml", shop.name),
        documented("response-cache.yaml", shop.name),
        semantic,
    ):
        shop.apply(text_of(objects))
    shop.apply(BUDGET.replace("AMOUNT", "100.00"))
    shop.apply("---".join(application(name, replicas) for name, replicas in APPLICATIONS.items()))
    for name, replicas in APPLICATIONS.items():
        shop.ready(name, replicas)
    with ExitStack() as opened:
        yield {
            name: [opened.enter_context(at_desk(shop, pod["metadata"]["name"])) for pod in shop.pods(f"app={name}")]
            for name in APPLICATIONS
        }


@pytest.fixture
def copilot(desks: Mapping[str, list[Desk]]) -> Desk:
    (desk,) = desks["copilot"]
    return desk


@pytest.fixture
def support(desks: Mapping[str, list[Desk]]) -> list[Desk]:
    return desks["support"]


def good(answer: Answer) -> Answer:
    assert not answer.error, answer.text
    return answer


def faq(text: str, *, stream: bool = False, control: str = "") -> Call:
    headers = FAQ | ({"cache-control": control} if control else {})
    return Call.messages(text, stream=stream, extra_headers=headers)


def served(space: Space, desk: Desk, path: str) -> str:
    """What the sidecar's port for probes and scrapes says."""
    return space.kube.kubectl(
        "get", "--raw", f"/api/v1/namespaces/{space.name}/pods/{desk.pod}:{METRICS_PORT}/proxy{path}"
    )


def test_a_conversation_with_a_tool_is_read_from_the_providers_cache_turn_by_turn(shop: Space, copilot: Desk) -> None:
    """Streamed, as an agent's loop sends it, without a word of cache_control."""
    messages: list[dict[str, object]] = [{"role": "user", "content": "Is there bread? " * 30}]
    seen = 0
    for turn, marked in enumerate(("fixed", "turns", "turns", "turns")):
        answer = good(copilot.ask(Call.messages(messages, stream=True, system=SYSTEM, tools=[TOOL])))
        usage = answer.body["usage"]
        assert usage["cache_read_input_tokens"] == seen
        assert usage["cache_creation_input_tokens"] > 0
        seen += usage["cache_creation_input_tokens"]
        record = copilot.record(answer)
        assert record["prompt_cache"] == marked
        assert record["cache_read_input_tokens"] == usage["cache_read_input_tokens"]
        assert record["cache_creation_5m_input_tokens"] == usage["cache_creation_input_tokens"]
        (block,) = answer.body["content"]
        said: object = f"And now {turn}?"
        if block["type"] == "tool_use":
            said = [{"type": "tool_result", "tool_use_id": block["id"], "content": "4 loaves. " * 20}]
        messages += [{"role": "assistant", "content": [block]}, {"role": "user", "content": said}]
    assert json.dumps(shop.received()[-1]["json"]).count("cache_control") == 2


def test_a_report_is_kept_for_an_hour(copilot: Desk) -> None:
    call = Call.messages("Go on.", system=f"For reports. {SYSTEM}", extra_headers={"x-keelage-feature": "report"})
    usage = good(copilot.ask(call)).body["usage"]
    assert usage["cache_creation"]["ephemeral_1h_input_tokens"] == usage["cache_creation_input_tokens"] > 0


def test_openai_is_sent_one_key_for_one_beginning(shop: Space, copilot: Desk) -> None:
    for question in ("Is there bread?", "Is there salt?"):
        said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        assert good(copilot.ask(Call("chat", {"model": "gpt-4o", "messages": said}))).told("model") == "gpt-4o"
    first, second = (each["json"]["prompt_cache_key"] for each in shop.received()[-2:])
    assert first == second


def test_a_long_conversation_is_sent_with_a_summary_that_is_paid_for(shop: Space, copilot: Desk) -> None:
    shop.configure(replies={HAIKU: "They talked about lorem."})
    turns: list[dict[str, object]] = []
    for number in range(20):
        turns += [
            {"role": "user", "content": f"{number}: {'lorem ' * 500}"},
            {"role": "assistant", "content": "Indeed."},
        ]
    answer = good(copilot.ask(Call.messages([*turns, {"role": "user", "content": "And now?"}])))
    assert answer.told("history") == "summarized=11"
    sent = shop.received()[-1]["json"]
    assert len(sent["messages"]) == 1 + 2 * 9 + 1
    assert "They talked about lorem." in json.dumps(sent["messages"][0])
    assert sent["stop_sequences"] == ["\n\nHuman:"]
    assert copilot.record(answer)["history_summarized"] == 11
    summary = copilot.record(answer, "/summary")
    assert (summary["purpose"], summary["model"]) == ("summary", HAIKU)
    assert summary["cost_picodollars"] > 0


def test_the_routes_status_adds_up_what_the_log_lines_say_the_providers_cache_saved(shop: Space, copilot: Desk) -> None:
    told = [each for each in copilot.records() if "prompt_cache_saved_picodollars" in each]
    saved = sum(each["prompt_cache_saved_picodollars"] for each in told)
    read = sum(each["cache_read_input_tokens"] for each in told)
    saving = shop.kube.until(
        "the savings of all calls",
        lambda: (found := shop.savings("copilot", "PromptCache")).get("picodollars") == saved and found,
        60,
    )
    written = sum(each["cache_creation_5m_input_tokens"] + each["cache_creation_1h_input_tokens"] for each in told)
    assert (saving["hits"], saving["tries"]) == (read, read + written)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_one_pod_has_had_another_gets_for_nothing(
    shop: Space, server: Valkey, support: Sequence[Desk], stream: bool
) -> None:
    shop.configure(replies={HAIKU: "Within thirty days."})
    one, other = support
    call = faq(f"When may I return it? {stream}", stream=stream)
    made = good(one.ask(call))
    assert made.told("cache") == "miss"
    shop.kube.until("the answer at the server", lambda: len(server.contents()) > stream, 20)
    asked = shop.provider("/fake/bill")["calls"]
    given = good(other.ask(call))
    assert (given.told("cache"), given.body) == ("hit", made.body)
    assert given.headers["request-id"] == made.headers["request-id"]
    assert int(given.headers["age"]) >= 0
    assert shop.provider("/fake/bill")["calls"] == asked
    record = other.record(given)
    assert (record["cache"], record["cost_picodollars"]) == ("hit", 0)
    assert record["saved_picodollars"] == one.record(made)["cost_picodollars"] > 0


def test_who_reads_the_server_learns_neither_questions_nor_answers(shop: Space, server: Valkey) -> None:
    found = server.contents()
    assert len(found) >= 2
    assert all(name.startswith(f"keelage:{shop.name}:") for name in found)
    assert not any(word in value for value in found.values() for word in (b"return", b"thirty", b"claude", b"text"))


def test_the_same_call_at_the_same_time_is_asked_once(shop: Space, support: Sequence[Desk]) -> None:
    shop.configure(latency_s=1.0)
    before = shop.provider("/fake/bill")["calls"]
    answers = [good(each) for each in support[0].ask_at_once([faq("What is the time?")] * 8)]
    shop.configure(latency_s=0.0)
    assert sorted(each.told("cache") for each in answers) == ["hit"] * 7 + ["miss"]
    assert shop.provider("/fake/bill")["calls"] == before + 1


def test_a_call_says_by_cache_control_what_it_wants(shop: Space, support: Sequence[Desk]) -> None:
    desk, question = support[0], "What does it cost?"
    absent = desk.ask(faq(question, control="only-if-cached"))
    assert (absent.error, absent.told("reason")) == ("GatewayTimeoutError", "NotCached")
    assert good(desk.ask(faq(question, control="no-store"))).told("cache") == "bypass"
    assert good(desk.ask(faq(question))).told("cache") == "miss"
    assert good(desk.ask(faq(question, control="only-if-cached"))).told("cache") == "hit"
    shop.configure(replies={HAIKU: "Two dollars now."})
    assert good(desk.ask(faq(question, control="no-cache"))).text == "Two dollars now."
    assert good(desk.ask(faq(question))).text == "Two dollars now."


def test_users_have_answers_of_their_own(support: Sequence[Desk]) -> None:
    def asked(user: str) -> str:
        headers = {"x-keelage-user": user} if user else {}
        return good(support[0].ask(Call.chat("Who am I?", temperature=0, extra_headers=headers))).told("cache")

    assert [asked(user) for user in ("ada", "ada", "bob", "", "")] == ["miss", "hit", "miss", "bypass", "bypass"]


def test_vectors_of_the_same_texts_are_made_once(support: Sequence[Desk]) -> None:
    first, again = (good(support[0].ask(Call.embeddings("one", "two"))) for _ in range(2))
    assert (first.told("cache"), again.told("cache")) == ("miss", "hit")
    assert first.body == again.body


def test_a_server_that_stands_still_or_dies_costs_hits_and_no_call(
    shop: Space, server: Valkey, support: Sequence[Desk]
) -> None:
    one, other = support

    def remarks(desk: Desk) -> str:
        return served(shop, desk, "/readyz")

    with stopped(server.process.pid):
        for number in range(3):
            assert good(one.ask(faq(f"Does it stand? {number}"))).told("cache") == "miss"
            assert good(one.ask(faq(f"Does it stand? {number}"))).told("cache") == "hit"
        assert "valkey.caches.svc:6379" in remarks(one)
    server.kill()
    assert good(other.ask(faq("Is it dead?"))).told("cache") == "miss"
    assert good(one.ask(faq("Is it dead?"))).told("cache") == "miss"
    assert "calls go on without it" in shop.kube.until(
        "the other to know", lambda: "valkey" in (said := remarks(other)) and said, 20
    )
    assert "keelage_shared_cache_up" in served(shop, one, "/metrics")

    server.begin_again()
    shop.kube.until("both to use it again", lambda: not any("valkey" in remarks(each) for each in support), 90)
    assert good(one.ask(faq("Is it back?"))).told("cache") == "miss"
    shop.kube.until("the answer at the server", server.contents, 20)
    assert good(other.ask(faq("Is it back?"))).told("cache") == "hit"


def test_an_old_answer_is_given_where_the_provider_fails(shop: Space, support: Sequence[Desk]) -> None:
    desk, call = support[0], faq("Will it be stale?")
    kept = good(desk.ask(call))
    patch = [{"op": "replace", "path": "/spec/rules/1/responseCache/exact/ttl", "value": "1s"}]
    shop.kubectl("patch", "llmroute", "helpdesk", "--type=json", "-p", json.dumps(patch))
    shop.configure(model_faults={HAIKU: "529"})
    try:
        given = shop.kube.until(
            "an answer past its time",
            lambda: (found := good(desk.ask(call))).told("cache") == "stale" and found,
            30,
        )
    finally:
        shop.configure(model_faults={})
    assert given.body == kept.body
    assert int(given.headers["age"]) >= 1
    assert desk.record(given)["cache"] == "stale"


def test_the_routes_status_adds_up_what_the_log_lines_say_kept_answers_saved(
    shop: Space, support: Sequence[Desk]
) -> None:
    for _ in range(2):
        support[0].record(good(support[0].ask(faq("Does it pay?"))))
    told = [each for desk in support for each in desk.records() if each["cache"]]
    saved = sum(each["saved_picodollars"] for each in told)
    assert saved > 0
    saving: Mapping[str, Any] = shop.kube.until(
        "the savings of all calls",
        lambda: (found := shop.savings("helpdesk", "ResponseCache")).get("picodollars") == saved and found,
        60,
    )
    assert saving["hits"] == sum(each["cache"] in ("hit", "stale") for each in told)


def test_a_question_in_other_words_gets_the_kept_answer_and_one_that_only_looks_alike_does_not(
    shop: Space, desks: Mapping[str, list[Desk]]
) -> None:
    """By an embedder that finds all texts alike: the worst that there could be."""
    shop.configure(vectors="alike")
    (desk,) = desks["frontdesk"]

    def asked(question: str) -> Answer:
        return good(desk.ask(Call.messages(question)))

    made, given = asked("How do I export my data?"), asked("I would like to know how I can export my data.")
    assert (made.told("cache"), given.told("cache")) == ("miss", "semantic")
    assert given.body == made.body
    record, vectors = desk.record(given), desk.record(given, "/embedding")
    assert (record["cost_picodollars"], vectors["model"]) == (0, "text-embedding-3-small")
    assert vectors["cost_picodollars"] > 0
    assert asked("How long is invoice 1234 valid?").told("cache") == "miss"
    assert asked("How long is invoice 1235 valid?").told("cache") == "miss"

    saved = record["saved_picodollars"] - vectors["cost_picodollars"]
    shop.kube.until(
        "the savings in the route's status",
        lambda: shop.savings("frontdesk", "SemanticCache").get("picodollars") == saved,
        60,
    )


def test_the_budgets_status_is_the_bill_of_what_was_asked(shop: Space) -> None:
    def settled() -> int:
        status = shop.budget()
        spent = int(status["amounts"]["spent"])
        return spent if status["reserved"] == "0.00" and spent >= shop.bill() else 0

    assert shop.kube.until("the last settlements to be told", settled, 60) == shop.bill()

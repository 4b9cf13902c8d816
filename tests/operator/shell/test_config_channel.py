"""Configuration is pushed when it changes, rights come from the leader only."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from msgspec.structs import replace
from tests.operator.shell.border_fakes import POD, Clock, Ledgers, Pods, Routes, config

from keelage_api.codec import decode_config
from keelage_api.errors import MessageError
from keelage_api.sync import (
    By,
    ConfigReply,
    ConfigRequest,
    Resting,
    Right,
    SavedBy,
    Saving,
    Share,
    Statement,
    SyncReply,
    SyncRequest,
)
from keelage_api.v1alpha1.llmroute import LLMRouteStatus
from keelage_operator.core.hearsay import AMOUNT_MAX, SAVINGS_MAX, STATEMENTS_MAX
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.savings import Sum
from keelage_operator.core.speakers import Speakers
from keelage_operator.shell.config_channel import ConfigChannel, Forbidden, Leadership, SyncChannel, Unavailable


def channel(routes: Routes, pods: Pods | None = None) -> ConfigChannel:
    return ConfigChannel(routes, pods or Pods(), Clock())


def version_of(reply: ConfigReply) -> str:
    assert reply.config is not None
    return decode_config(bytes(reply.config)).version


async def test_sidecar_without_configuration_gets_it_at_once() -> None:
    assert version_of(await channel(Routes()).answer(POD, ConfigRequest())) == config("shop/one").version


async def test_poll_waits_for_another_version() -> None:
    routes = Routes()
    poll = asyncio.ensure_future(channel(routes).answer(POD, ConfigRequest(version=config("shop/one").version)))
    await routes.polled()
    routes.change()  # of something else in the namespace: the poll goes on
    await routes.polled()
    assert not poll.done()
    routes.configs["web"] = config("shop/two")
    routes.change()
    assert version_of(await poll) == config("shop/two").version


async def test_changed_labels_of_the_pod_change_its_configuration() -> None:
    routes = Routes()
    routes.configs["api"] = config("shop/api")
    poll = asyncio.ensure_future(channel(routes).answer(POD, ConfigRequest(version=config("shop/one").version)))
    await routes.polled()
    routes.pods["uid-1"] = {"app": "api"}
    routes.change()
    assert version_of(await poll) == config("shop/api").version


async def test_poll_without_patience_ends_empty() -> None:
    request = ConfigRequest(version=config("shop/one").version, wait_s=0.0)
    assert await channel(Routes()).answer(POD, request) == ConfigReply()


async def test_pod_that_the_watch_has_not_shown_yet_is_waited_for() -> None:
    routes, pods = Routes(pods={}), Pods()
    poll = asyncio.ensure_future(channel(routes, pods).answer(POD, ConfigRequest()))
    await routes.polled()
    routes.pods["uid-1"] = {"app": "web"}
    routes.change()
    assert version_of(await poll) == config("shop/one").version
    assert pods.asked == 0


async def test_pod_that_the_watch_never_shows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keelage_operator.shell.config_channel.POD_WAIT_S", 0.0)
    pods = Pods(labels={"app": "web"})
    assert version_of(await channel(Routes(pods={}), pods).answer(POD, ConfigRequest())) == config("shop/one").version
    assert pods.asked == 1


async def test_pod_that_does_not_exist_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keelage_operator.shell.config_channel.POD_WAIT_S", 0.0)
    with pytest.raises(Forbidden, match="does not exist"):
        await channel(Routes(pods={})).answer(POD, ConfigRequest())


async def test_nothing_is_served_from_an_empty_cache() -> None:
    with pytest.raises(Unavailable):
        await channel(Routes(ready=False)).answer(POD, ConfigRequest())


LEADER = Leadership(leading=True, address="10.0.0.1:8443")
SAVED = Saving("web", SavedBy.CASCADE, 5, 2, 1)
ASK = SyncRequest("inc-1", "v1", statements=(Statement("shop/month", "", seq=1, want=5),))


def syncing(ledgers: Ledgers, leadership: Leadership, told: list[str]) -> tuple[SyncChannel, Speakers]:
    speakers = Speakers()
    return SyncChannel(ledgers, speakers, lambda: leadership, Clock(), told.append), speakers


async def test_a_sidecar_is_told_to_speak_less_often_where_there_are_many() -> None:
    channel, speakers = syncing(Ledgers(), LEADER, [])
    assert (await channel.answer(POD, ASK)).next_s == 2.0
    for number in range(1401):
        speakers.heard(dataclasses.replace(speakers.of_namespace("shop", 0.0)[0], pod_uid=f"uid-{number}"))
    assert (await channel.answer(POD, ASK)).next_s == 4.0


async def test_leader_grants_and_notes_who_spoke() -> None:
    ledgers, told = Ledgers(), list[str]()
    channel, speakers = syncing(ledgers, LEADER, told)
    reply = await channel.answer(POD, ASK)
    assert reply == SyncReply(rights=(Right("shop/month", "2026-11", 1, 5),))
    assert [pod for pod, _ in ledgers.heard] == [POD]
    assert [s.config_version for s in speakers.of_namespace("shop", 0.0)] == ["v1"]
    await channel.answer(POD, ASK)
    assert told == ["shop"], "a repeated word is no news"


async def test_a_sidecar_whose_shares_were_not_heard_before_is_asked_for_all_of_them() -> None:
    channel, _ = syncing(Ledgers(), LEADER, [])
    share = Share("shop/month", "2026-11", By.USER, "alice", 5)
    assert (await channel.answer(POD, replace(ASK, shares=(share,)))).tell_all


async def test_others_name_the_leader_and_grant_nothing() -> None:
    ledgers, told = Ledgers(), list[str]()
    channel, speakers = syncing(ledgers, Leadership(leading=False, address="10.0.0.1:8443"), told)
    assert await channel.answer(POD, ASK) == SyncReply(leader="10.0.0.1:8443")
    assert (ledgers.heard, told, speakers.of_namespace("shop", 0.0)) == ([], [], ())


async def test_nobody_grants_while_nobody_leads() -> None:
    channel, _ = syncing(Ledgers(), Leadership(leading=False, address=""), [])
    with pytest.raises(Unavailable, match="no leader"):
        await channel.answer(POD, ASK)


async def test_budget_of_another_namespace_is_out_of_reach() -> None:
    ledgers = Ledgers()
    channel, _ = syncing(ledgers, LEADER, [])
    with pytest.raises(Forbidden, match="shop/month"):
        await channel.answer(PodIdentity("lab", "x", "uid-x"), ASK)
    assert ledgers.heard == []


async def test_leaving_sidecar_is_no_longer_counted() -> None:
    ledgers = Ledgers()
    channel, speakers = syncing(ledgers, LEADER, [])
    await channel.answer(POD, ASK)
    await channel.answer(POD, SyncRequest("inc-1", leaving=True))
    assert speakers.of_namespace("shop", 0.0) == ()
    assert len(ledgers.heard) == 2, "its last word reaches the ledgers"


async def test_what_a_sidecar_has_saved_is_shown_soon() -> None:
    told = list[str]()
    channel, speakers = syncing(Ledgers(), LEADER, told)
    await channel.answer(POD, ASK)
    told.clear()
    await channel.answer(POD, ASK)
    assert told == [], "nothing new"
    await channel.answer(POD, replace(ASK, savings=(SAVED,), savings_seq=1))
    assert told == ["shop"]
    assert speakers.savings.shown("shop", "web", "uid", LLMRouteStatus()) == {SavedBy.CASCADE: Sum(5, 2, 1)}


WORD = Statement("shop/month", "", seq=1)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (SyncRequest("x" * 65), "incarnation"),
        (SyncRequest(""), "incarnation"),
        (SyncRequest("a.b"), "incarnation"),
        (SyncRequest("i", statements=(WORD,) * (STATEMENTS_MAX + 1)), "statements: 513"),
        (SyncRequest("i", statements=(replace(WORD, spent=-1),)), r"statements\[0\].spent: -1"),
        (SyncRequest("i", statements=(WORD, replace(WORD, reserved=AMOUNT_MAX + 1))), r"statements\[1\].reserved"),
        (SyncRequest("i", statements=(replace(WORD, want=2**200),)), r"statements\[0\].want"),
        (SyncRequest("i", statements=(replace(WORD, min_want=-(2**64)),)), r"statements\[0\].min_want"),
        (SyncRequest("i", statements=(replace(WORD, granted=2**63),)), r"statements\[0\].granted"),
        (SyncRequest("i", statements=(replace(WORD, keep=2**63),)), r"statements\[0\].keep"),
        (SyncRequest("i", statements=(replace(WORD, left=2**63),)), r"statements\[0\].left"),
        (SyncRequest("i", statements=(replace(WORD, queued=-1),)), r"statements\[0\].queued: -1"),
        (SyncRequest("i", statements=(replace(WORD, queued=2**63),)), r"statements\[0\].queued"),
        (SyncRequest("i", statements=(replace(WORD, uncertain=-1),)), r"statements\[0\].uncertain: -1"),
        (SyncRequest("i", statements=(replace(WORD, uncertain=2**63),)), r"statements\[0\].uncertain"),
        (SyncRequest("i", statements=(replace(WORD, waited_s=-1.0),)), r"statements\[0\].waited_s: -1"),
        (SyncRequest("i", statements=(replace(WORD, waited_s=1e300),)), r"statements\[0\].waited_s"),
        (SyncRequest("i", statements=(replace(WORD, seq=2**63),)), r"statements\[0\].seq"),
        (SyncRequest("i", savings=(SAVED,), savings_seq=-1), "savings_seq: -1"),
        (SyncRequest("i", savings=(SAVED,) * (SAVINGS_MAX + 1)), "savings: 1025"),
        (SyncRequest("i", savings=(SAVED, replace(SAVED, amount=-(2**63)))), r"savings\[1\].amount"),
        (SyncRequest("i", savings=(replace(SAVED, hits=3),)), r"savings\[0\].hits: 3"),
    ],
)
async def test_what_would_spoil_a_ledger_never_reaches_it(request_: SyncRequest, field: str) -> None:
    ledgers, told = Ledgers(), list[str]()
    channel, _ = syncing(ledgers, LEADER, told)
    with pytest.raises(MessageError, match=f"pod shop/.*{field}"):
        await channel.answer(POD, request_)
    assert (ledgers.heard, told) == ([], [])


async def test_of_a_long_complaint_the_beginning_is_kept() -> None:
    channel, speakers = syncing(Ledgers(), LEADER, [])
    resting = (Resting("assistant", "all", "m" * 100_000),) * 1000
    asked = SyncRequest("i", config_error="e" * 100_000, missing_credentials=("s/k",) * 1000, resting=resting)
    await channel.answer(POD, asked)
    (speaker,) = speakers.of_namespace("shop", 0.0)
    assert len(speaker.config_error) == 512
    assert len(speaker.missing_credentials) == 32
    assert [len(each.model) for each in speaker.resting] == [512] * 64

"""The store of answers: what it forgets, and how much memory it takes."""

from __future__ import annotations

import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.response_cache import KeptAnswer, ResponseCache, kept_headers


def answer(body: bytes = b"{}", kept_s: float = 0.0) -> KeptAnswer:
    return KeptAnswer(((b"content-type", b"application/json"),), body, kept_s, 7, "m", "end_turn")


def test_an_answer_is_found_until_it_is_too_old_and_then_forgotten() -> None:
    cache = ResponseCache()
    cache.keep(b"a", answer(kept_s=10.0))
    assert cache.find(b"a", 20.0, 10.0) is not None
    assert cache.find(b"b", 20.0, 10.0) is None
    assert cache.find(b"a", 20.1, 10.0) is None
    assert (len(cache), cache.size) == (0, 0)


def test_those_that_were_used_longest_ago_make_room() -> None:
    cache = ResponseCache(bytes_max=80_000)
    for name in (b"a", b"b", b"c"):
        cache.keep(name, answer(b"x" * 20))
    each = cache.size // 3
    cache.resize(3 * each)
    assert cache.find(b"a", 0.0, 1.0) is not None
    cache.resize(3 * each - 1)
    assert (cache.evicted, len(cache)) == (1, 2)
    assert cache.find(b"b", 0.0, 1.0) is None
    assert cache.find(b"a", 0.0, 1.0) is not None


def test_an_answer_as_large_as_an_eighth_of_the_cache_is_not_kept() -> None:
    cache = ResponseCache(bytes_max=80_000)
    cache.keep(b"a", answer(b"x" * 10_000))
    assert len(cache) == 0
    cache.keep(b"a", answer(b"x" * 9_000))
    assert len(cache) == 1


def test_a_cache_without_memory_keeps_nothing() -> None:
    cache = ResponseCache()
    cache.keep(b"a", answer())
    cache.resize(0)
    cache.keep(b"b", answer())
    assert (len(cache), cache.size) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900), st.booleans()), max_size=60))
def test_its_count_of_bytes_is_that_of_what_it_holds(steps: list[tuple[int, int, bool]]) -> None:
    cache = ResponseCache(bytes_max=12_000)
    for number, (name, size, asks) in enumerate(steps):
        if asks:
            cache.find(bytes([name]), float(number), 20.0)
        else:
            cache.keep(bytes([name]), answer(b"x" * size, float(number)))
        assert cache.size <= cache.bytes_max
        assert (cache.size == 0) == (len(cache) == 0)
    for name in range(10):
        cache.find(bytes([name]), 1e9, 20.0)
    assert (len(cache), cache.size) == (0, 0)


def test_the_bytes_it_counts_are_at_least_those_it_takes() -> None:
    cache = ResponseCache(bytes_max=1024 * 1024)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(5_000):
        headers = tuple((b"x-name-%d" % n, b"value %d" % (number + n)) for n in range(4))
        cache.keep(number.to_bytes(32, "big"), KeptAnswer(headers, b"x" * (number % 900), 0.0, 1 << 40, "m" * 9, ""))
    gc.collect()
    took, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cache.evicted > 0
    assert 0.8 * cache.size < took - before <= 1.02 * cache.bytes_max


def test_headers_that_speak_of_the_call_and_not_of_the_answer_are_not_kept() -> None:
    headers = (
        (b"content-type", b"application/json"),
        (b"date", b"Sat, 21 Nov 2026 12:00:00 GMT"),
        (b"set-cookie", b"session=1"),
        (b"request-id", b"req_1"),
        (b"anthropic-ratelimit-requests-remaining", b"3"),
        (b"anthropic-organization-id", b"org"),
        (b"x-ratelimit-remaining-tokens", b"3"),
        (b"x-keelage-request-id", b"kl_1"),
        (b"x-keelage-tried", b"r/a m 529 3ms"),
        (b"x-keelage-rule", b"r/all"),
        (b"x-keelage-tier", b"fast"),
        (b"x-keelage-dropped", b"top_k"),
        (b"x-should-retry", b"false"),
    )
    assert [name for name, _ in kept_headers(headers)] == [
        b"content-type",
        b"request-id",
        b"anthropic-organization-id",
        b"x-keelage-tier",
        b"x-keelage-dropped",
    ]

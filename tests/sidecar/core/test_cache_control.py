"""What a request's `Cache-Control` asks of kept answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.cache_control import ANY, CacheControl, cache_control


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([], ANY),
        ([b""], ANY),
        ([b"private, max-stale=5, x=y"], ANY),
        ([b"no-store"], CacheControl(no_store=True)),
        ([b"no-cache"], CacheControl(max_age_s=-1.0)),
        ([b"max-age=60"], CacheControl(max_age_s=60.0)),
        ([b'Max-Age = "60"'], CacheControl(max_age_s=60.0)),
        ([b"max-age=0"], CacheControl(max_age_s=-1.0)),
        ([b"max-age=soon"], CacheControl(max_age_s=-1.0)),
        ([b"max-age=60, no-cache"], CacheControl(max_age_s=-1.0)),
        ([b"only-if-cached", b"max-age=60"], CacheControl(only_if_cached=True, max_age_s=60.0)),
        ([b"ONLY-IF-CACHED,no-store"], CacheControl(no_store=True, only_if_cached=True)),
    ],
)
def test_directives_are_read_whatever_their_case_and_number(values: list[bytes], read: CacheControl) -> None:
    headers = ((b"host", b"x"), *((b"cache-control", value) for value in values))
    assert cache_control(headers) == read


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_read(values: list[bytes]) -> None:
    read = cache_control(tuple((b"cache-control", value) for value in values))
    assert read.max_age_s == math.inf or read.max_age_s == -1 or read.max_age_s > 0

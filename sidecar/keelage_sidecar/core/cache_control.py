"""What a request's own `Cache-Control` asks of kept answers (RFC 9111, 5.2.1)."""

from __future__ import annotations

import math

import msgspec

from keelage_sidecar.core.refusal import Headers


class CacheControl(msgspec.Struct, frozen=True, gc=False):
    no_store: bool = False
    """Neither answer from the cache nor keep the answer."""
    only_if_cached: bool = False
    """Answer from the cache or not at all."""
    max_age_s: float = math.inf
    """The oldest answer that will do; below 0: none will, ask and keep the new one."""


ANY = CacheControl()


def cache_control(headers: Headers) -> CacheControl:
    """`no-cache`, `no-store`, `max-age=N` and `only-if-cached`; others are ignored. What is no number is 0."""
    asked = [value for name, value in headers if name == b"cache-control"]
    if not asked:
        return ANY
    no_store = only_if_cached = False
    max_age_s = math.inf
    for directive in b",".join(asked).lower().split(b","):
        name, _, value = directive.strip().partition(b"=")
        match name.rstrip():
            case b"no-store":
                no_store = True
            case b"only-if-cached":
                only_if_cached = True
            case b"no-cache":
                max_age_s = -1.0
            case b"max-age":
                age = value.strip(b' "')
                # An answer of this very moment would be good enough for 0, and nobody who writes 0 means that.
                max_age_s = min(max_age_s, float(int(age[:10]) if age.isdigit() else 0) or -1.0)
    return CacheControl(no_store, only_if_cached, max_age_s)

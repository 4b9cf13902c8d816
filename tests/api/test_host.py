"""What is taken for the host and port of an endpoint."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keelage_api.v1alpha1.host import HOST_AND_PORT

TAKEN = re.compile(HOST_AND_PORT)


def taken(text: str) -> bool:
    return TAKEN.fullmatch(text) is not None


def is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "api.anthropic.com",
        "vllm",
        "vllm.models.svc.cluster.local.",
        "my_server",
        "127.0.0.1:9999",
        "[::1]:8080",
        "[::]",
    ],
)
def test_hosts_are_taken(text: str) -> None:
    assert taken(text)


@pytest.mark.parametrize("text", ["", "-a", "a-", "a..b", ".a", "[]", "[::::]", "[1::2::3]", "[1:2:3:4:5:6:7]", "::1"])
def test_what_is_no_host_is_refused(text: str) -> None:
    assert not taken(text)


@given(st.integers(0, 100_000))
@example(0)
@example(65535)
@example(65536)
@example(99999)
def test_ports_are_those_that_there_are(port: int) -> None:
    assert taken(f"a:{port}") is (1 <= port <= 65535)


@given(st.ip_addresses(v=6))
def test_each_ipv6_address_is_taken_however_it_is_written(address: ipaddress.IPv6Address) -> None:
    assert taken(f"[{address.compressed}]")
    assert taken(f"[{address.exploded.upper()}]")


@given(st.lists(st.sampled_from(["", "0", "f", "ab", "12345", "fFfF"]), min_size=1, max_size=10).map(":".join))
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1::3:4:5:6:7:8")
def test_of_what_looks_like_one_only_addresses_are_taken(text: str) -> None:
    assert taken(f"[{text}]") is is_ipv6(text)


@given(st.ip_addresses(v=4), st.sampled_from(["::", "::ffff:", "1:2:3:4:5:6:", "1::", "::1:2:3:4:5:6:7:"]))
def test_what_ends_as_an_old_address_is_one_where_python_says_so(old: ipaddress.IPv4Address, before: str) -> None:
    if before != "1::":  # legal, and nobody writes it
        assert taken(f"[{before}{old}]") is is_ipv6(f"{before}{old}")

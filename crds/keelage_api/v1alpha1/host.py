"""Host and port of a URL, as an expression that RE2 and Python read alike."""

from __future__ import annotations

_LABEL = r"[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?"
_NAME = rf"{_LABEL}([.]{_LABEL})*[.]?"

_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}([.]{_BYTE}){{3}}"
_PIECE = r"[0-9a-fA-F]{1,4}"
_SHORTENED = "|".join(rf"({_PIECE}:){{1,{before}}}(:{_PIECE}){{1,{7 - before}}}" for before in range(1, 7))
"""`::` stands for one piece at least: at most seven others, on both sides of it."""
_IPV6 = (
    rf"({_PIECE}:){{7}}{_PIECE}|({_PIECE}:){{1,7}}:|{_SHORTENED}|:(:{_PIECE}){{1,7}}|::"
    rf"|({_PIECE}:){{6}}{_IPV4}|::([fF]{{4}}:)?{_IPV4}"
)
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

HOST_AND_PORT = rf"({_NAME}|\[({_IPV6})\])(:{_PORT})?"
"""A name or IPv4 address, or an IPv6 address in brackets; then maybe a port from 1 to 65535."""

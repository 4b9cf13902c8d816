"""Bytes to the types of this package and back; the only place that knows the encoding."""

from __future__ import annotations

from hashlib import sha256
from typing import TypeVar

import msgspec

from keelage_api.errors import MessageError
from keelage_api.proxy_config import FORMAT, ProxyConfig

T = TypeVar("T", bound=msgspec.Struct)

_ENCODER = msgspec.json.Encoder(order="sorted")


def encode(message: msgspec.Struct) -> bytes:
    """JSON with sorted keys: equal values, equal bytes."""
    return _ENCODER.encode(message)


def decode(kind: type[T], data: bytes) -> T:
    """A message of that type; MessageError says which field is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"{kind.__name__}: {error}") from error


def seal(config: ProxyConfig) -> ProxyConfig:
    """The same configuration with `version` set to a digest of its content."""
    blank = msgspec.structs.replace(config, version="")
    return msgspec.structs.replace(config, version=sha256(encode(blank)).hexdigest()[:16])


def decode_config(data: bytes) -> ProxyConfig:
    """A configuration that this sidecar can obey, or MessageError.

    Refused besides malformed data: a newer format, a rule or choice that names a
    backend that is not there, a content that its version does not seal.
    """
    config = decode(ProxyConfig, data)
    if config.format > FORMAT:
        raise MessageError(f"ProxyConfig: format {config.format} is newer than {FORMAT}: upgrade the sidecar's image")
    for rule in config.rules:
        if not rule.choices:
            raise MessageError(f"ProxyConfig: rule {rule.route}/{rule.name} has no choice")
        for choice in rule.choices:
            if choice.backend not in config.backends:
                raise MessageError(
                    f"ProxyConfig: rule {rule.route}/{rule.name} names backend {choice.backend}, which is not there"
                )
    if seal(config).version != config.version:
        raise MessageError(f"ProxyConfig: version {config.version} does not match the content")
    return config

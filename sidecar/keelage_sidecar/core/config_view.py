"""The configuration in force, for the eyes of whoever operates the pod: names and numbers, no secret.

A configuration names keys by reference only; what an endpoint may carry of a login is left out here too.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from keelage_api.proxy_config import ProxyConfig


class View(msgspec.Struct, frozen=True):
    config: ProxyConfig | None
    """None: there is none yet."""
    error: str
    """Why a newer one was refused; empty where none was."""
    missing: Collection[str]
    """Files that it names and that are not there: keys and authorities, as `<object>/<key>`."""

    def page(self) -> bytes:
        """JSON; the price book as the number of its models, since it is the same for everybody and long."""
        if self.config is None:
            return _bytes({"version": "", "error": self.error, "config": None})
        shown = {
            name: msgspec.structs.replace(backend, endpoint=_without_login(backend.endpoint))
            for name, backend in self.config.backends.items()
        }
        config = msgspec.to_builtins(msgspec.structs.replace(self.config, backends=shown, prices={}))
        config["prices"] = {f"{provider}": len(models) for provider, models in self.config.prices.items()}
        return _bytes(
            {
                "version": self.config.version,
                "error": self.error,
                "missing": sorted(self.missing),
                "config": config,
            }
        )


def _without_login(endpoint: str) -> str:
    scheme, mark, rest = endpoint.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


def _bytes(page: dict[str, object]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(page), indent=2) + b"\n"

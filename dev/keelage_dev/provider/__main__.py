"""`python -m keelage_dev.provider --listen 127.0.0.1:9999 [--key NAME=SECRET …] [--set NAME=JSON …]`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import sys
from collections.abc import Callable

import orjson

from keelage_dev.provider.fake import FakeProvider
from keelage_dev.provider.fault import BadFault
from keelage_dev.provider.settings import BadSetting


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="keelage_dev.provider", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9999", metavar="HOST:PORT")
    parser.add_argument("--key", action="append", default=[], metavar="NAME=SECRET", help="accept this key only")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting, as /fake/config")
    options = parser.parse_args()
    keys: dict[str, str] = {}
    for each in options.key:
        name, _, secret = str(each).rpartition("=")
        keys[secret] = name or f"key-{len(keys) + 1}"
    host, _, port = str(options.listen).rpartition(":")
    try:
        settings = {name: orjson.loads(value) for name, _, value in (str(each).partition("=") for each in options.set)}
        provider = FakeProvider(keys, host=host, port=int(port), **settings)
    except (ValueError, BadSetting, BadFault) as wrong:
        parser.error(str(wrong))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(provider))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed; it is only faster."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


async def _serve(provider: FakeProvider) -> None:
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    async with provider:
        print(f"listening on {provider.url.removeprefix('http://')}", file=sys.stderr, flush=True)
        await ended.wait()


if __name__ == "__main__":
    main()

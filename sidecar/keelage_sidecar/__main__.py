"""`python -m keelage_sidecar`: the sidecar of a pod, until SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys

import uvloop

from keelage_sidecar.app import Sidecar
from keelage_sidecar.settings import Settings, SettingsError, read_settings
from keelage_sidecar.shell.control import Control


def main() -> int:
    """Exit status: 0 after an orderly end, 1 if a port is taken, 2 for a wrong environment."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"keelage: {error}\n")
        return 2
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except OSError as error:
        sys.stderr.write(f"keelage: {error}\n")
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    control = Control(settings.operator, settings.ca_pem, settings.token_file)
    sidecar = Sidecar(settings, control, control)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, sidecar.stop)
    await sidecar.start()
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        await sidecar.run()
    finally:
        await control.close()


if __name__ == "__main__":
    sys.exit(main())

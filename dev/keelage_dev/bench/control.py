"""The operator of the benchmark's sidecar, in a process of its own: `python -m keelage_dev.bench.control FOLDER PORT`.

Configuration is compiled from the folder's manifests by the operator's core; rights come from the real ledger with a
store in memory. There is no cluster, so whoever asks is the one pod there is.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from aiohttp import web

from keelage_api.codec import decode, encode
from keelage_api.sync import CONFIG_PATH, SYNC_PATH, ConfigReply, ConfigRequest, SyncReply, SyncRequest
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.compile import BudgetManifest, RouteManifest, compile_namespace
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.price_book import price_book
from keelage_operator.local_folder import read_folder
from keelage_operator.shell.ledger_book import LedgerBook

POLL_S = 25.0


async def serve(folder: Path, port: int) -> None:
    """Until the process is killed."""
    manifests = read_folder(folder)
    compiled = compile_namespace(
        manifests.namespace,
        [RouteManifest.of(each.raw) for each in manifests.manifests if each.kind == "LLMRoute"],
        [BudgetManifest.of(each.raw) for each in manifests.manifests if each.kind == "LLMBudget"],
        price_book(),
    )
    config = compiled.config_for({})
    book = LedgerBook(MemoryStore(), wall=lambda: datetime.now(UTC), clock=time.monotonic)
    book.set_budgets(compiled.budgets_in_force(), {})
    await book.lead()
    pod = PodIdentity(manifests.namespace, "bench", "bench")

    async def configuring(request: web.Request) -> web.Response:
        asked = decode(ConfigRequest, await request.read())
        if asked.version != config.version:
            return web.Response(body=encode(ConfigReply(msgspec.Raw(encode(config)))))
        await asyncio.sleep(POLL_S)
        return web.Response(body=encode(ConfigReply()))

    async def syncing(request: web.Request) -> web.Response:
        return web.Response(body=encode(SyncReply(await book.sync(pod, decode(SyncRequest, await request.read())))))

    app = web.Application(client_max_size=4 << 20)
    app.router.add_post(CONFIG_PATH, configuring)
    app.router.add_post(SYNC_PATH, syncing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))

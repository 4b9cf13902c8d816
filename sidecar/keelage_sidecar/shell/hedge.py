"""Two attempts side by side: the second one is made when the first one is late, and who answers first is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from keelage_sidecar.shell.attempt import Attempt


async def ask_side_by_side(one: Attempt, after_s: float, beside: Callable[[], Attempt | None]) -> Attempt | None:
    """Ask `one`, and after so long the attempt that `beside` gives, if any; nobody asks when this returns.

    The one that has an answer to pass on; None: neither has. The other one may have been stopped on its way.
    """
    async with asyncio.TaskGroup() as group:
        asking = {group.create_task(one.ask()): one}
        done, running = await asyncio.wait(asking, timeout=after_s)
        other = None if done else beside()
        if other is not None:
            task = group.create_task(other.ask())
            asking[task] = other
            running.add(task)
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if any(asking[task].end is None for task in done):
                for task in running:
                    task.cancel()
                break
    return next((attempt for attempt in asking.values() if attempt.answered), None)

"""Two attempts side by side: the second one is made when the first one is late, and who answers first is heard."""

from __future__ import annotations

import asyncio

from keelage_sidecar.shell.attempt import Attempt


async def ask_side_by_side(attempts: list[Attempt], after_s: float) -> None:
    """Ask the one of `attempts`, and after so long the attempt beside it, if one is to be made, which is added.

    Nobody asks any more when this returns: one has answered, or both have failed.
    """
    async with asyncio.TaskGroup() as group:
        asking = {group.create_task(attempts[0].ask()): attempts[0]}
        done, running = await asyncio.wait(asking, timeout=after_s)
        other = None if done else attempts[0].beside()
        if other is not None:
            attempts.append(other)
            task = group.create_task(other.ask())
            asking[task] = other
            running.add(task)
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if any(asking[task].answered for task in done):
                for task in running:
                    task.cancel()
                return

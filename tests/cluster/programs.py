"""Programs that run in the pods of the tests: ordinary users of the two SDKs."""

BURST = """
import asyncio, json, os
import anthropic, openai

CALLS = int(os.environ["CALLS"])
DELAY = float(os.environ.get("DELAY", "0"))
counts = {"ok": 0, "refused": 0, "other": 0}
first_other = ""

async def one(index, claude, gpt):
    global first_other
    try:
        if index % 2:
            await gpt.chat.completions.create(model="gpt-4o-mini", max_completion_tokens=400,
                messages=[{"role": "user", "content": f"question {index} " * 20}])
        else:
            async with claude.messages.stream(model="claude-haiku-4-5", max_tokens=400,
                messages=[{"role": "user", "content": f"question {index} " * 20}]) as stream:
                await stream.get_final_message()
        counts["ok"] += 1
    except (anthropic.RateLimitError, openai.RateLimitError) as error:
        counts["refused"] += 1
    except Exception as error:
        counts["other"] += 1
        first_other = first_other or f"{type(error).__name__}: {error}"

async def main():
    claude = anthropic.AsyncAnthropic(max_retries=0, timeout=60)
    gpt = openai.AsyncOpenAI(max_retries=0, timeout=60)
    async def later(index):
        await asyncio.sleep(DELAY * (index // 8))
        await one(index, claude, gpt)
    await asyncio.gather(*(later(index) for index in range(CALLS)))
    print("RESULT " + json.dumps(counts | {"first_other": first_other}), flush=True)

asyncio.run(main())
import time
time.sleep(100000)
"""

# A lease covers what was lately in flight at once, each call at its bound: after these six, hundreds of single ones.
STEADY = """
import os, time
from concurrent.futures import ThreadPoolExecutor
import anthropic

client = anthropic.Anthropic(max_retries=2, timeout=30)
calls = 0

def ask(_=None):
    client.messages.create(model="claude-haiku-4-5", max_tokens=4000, messages=[{"role": "user", "content": "hello"}])

with ThreadPoolExecutor(6) as pool:
    list(pool.map(ask, range(6)))
while True:
    try:
        ask()
        calls += 1
        print(f"OK {calls}", flush=True)
    except anthropic.APIError as error:
        print(f"ERROR {type(error).__name__}: {error}", flush=True)
    time.sleep(0.3)
"""

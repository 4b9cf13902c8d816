"""Another application, on the openai SDK; nothing of keelage in it either."""

import os
import time

import openai

client = openai.OpenAI()
name = os.environ.get("HOSTNAME", "app")
calls = 0
while True:
    try:
        answer = client.chat.completions.create(
            model="gpt-4o-mini",
            max_completion_tokens=400,
            messages=[{"role": "user", "content": f"Write a line for the log book, entry {calls}."}],
        )
    except openai.RateLimitError as error:
        print(f"{name} openai: call {calls + 1} was refused: {type(error).__name__}: {error}", flush=True)
        time.sleep(3600)
    except openai.APIStatusError as error:
        print(f"{name} openai: {type(error).__name__} {error.status_code}: {error}", flush=True)
        time.sleep(1)
    else:
        calls += 1
        if calls % 10 == 1:
            print(f"{name} openai: call {calls}: {(answer.choices[0].message.content or '')[:40]!r}", flush=True)
        time.sleep(0.1)

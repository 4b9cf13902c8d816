"""An application. It knows the anthropic SDK and its environment, and nothing of keelage."""

import os
import time

import anthropic

QUESTIONS = [
    "Which berth is free tonight?",
    "Translate: the ship is delayed by two hours.",
    "Summarise the harbour rules in three sentences.",
    "What does a pilot cost for a vessel of 120 metres?",
]

client = anthropic.Anthropic()
name = os.environ.get("HOSTNAME", "app")
calls = 0
while True:
    question = QUESTIONS[calls % len(QUESTIONS)]
    try:
        with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=400, messages=[{"role": "user", "content": question}]
        ) as stream:
            answer = stream.get_final_message()
    except anthropic.RateLimitError as error:
        print(f"{name} anthropic: call {calls + 1} was refused: {type(error).__name__}: {error}", flush=True)
        time.sleep(3600)
    except anthropic.APIStatusError as error:
        print(f"{name} anthropic: {type(error).__name__} {error.status_code}: {error}", flush=True)
        time.sleep(1)
    else:
        calls += 1
        if calls % 10 == 1:
            text = "".join(block.text for block in answer.content if block.type == "text")
            print(f"{name} anthropic: call {calls}: {question!r} -> {text[:40]!r}", flush=True)
        time.sleep(0.1)

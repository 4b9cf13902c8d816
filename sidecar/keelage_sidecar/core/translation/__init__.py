"""Between Anthropic Messages and OpenAI Chat Completions, both ways: requests, answers, streams and errors.

Values in, values out. What the other API can say is mapped; what it cannot is dropped and told in a header,
or, where the caller could not rely on the answer without it, refused with the field's name.
"""

"""Trace an existing function with a decorator. The SDK reads OPENAI_API_KEY and OPENAI_BASE_URL.

Without a destination the trace is stored on this machine: `spancast traces` lists it.
To send it to Jaeger or a Collector:

OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/decorate.py
"""

import openai

import spancast

spancast.configure(service_name="decorate")
client = openai.OpenAI()


@spancast.instrument
def complete(**request: object) -> object:
    """Make a completion call; the keyword arguments are the request."""
    return client.chat.completions.create(**request)


answer = complete(
    model="gpt-5.2",
    messages=[{"role": "user", "content": "Say hello."}],
    session_id="chat-42",
    trace={"trace_name": "Greeting", "generation_name": "hello", "feature": "demo"},
)
print(answer.choices[0].message.content)
print(spancast.flush())

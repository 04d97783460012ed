"""Decorate a call you already make. OPENAI_API_KEY and OPENAI_BASE_URL as the SDK reads them.

OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/decorate.py
"""

import openai

import spancast

spancast.configure(service_name="decorate")
client = openai.OpenAI()


@spancast.instrument
def complete(**request: object) -> object:
    """Any callable shaped like a completion; its keyword arguments are the request."""
    return client.chat.completions.create(**request)


answer = complete(
    model="gpt-5.2",
    messages=[{"role": "user", "content": "Say hello."}],
    session_id="chat-42",
    trace={"trace_name": "Greeting", "generation_name": "hello", "feature": "demo"},
)
print(answer.choices[0].message.content)
spancast.flush()

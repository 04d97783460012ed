r"""An application without tracing code. Trace it without changes, to the local store, to a Collector, or beside others:

spancast run -- python examples/entry_point.py && spancast traces
OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 spancast run -- python examples/entry_point.py
OTEL_TRACES_EXPORTER=spancast OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 \
  opentelemetry-instrument python examples/entry_point.py
"""

import anthropic
import openai

question = [{"role": "user", "content": "Say hello."}]
print(openai.OpenAI().chat.completions.create(model="gpt-5.2", messages=question).choices[0].message.content)
print(anthropic.Anthropic().messages.create(model="claude-sonnet-5", max_tokens=50, messages=question).content[0].text)

"""Send one conversation to three destinations with different rules: examples/spancast.yaml."""

import os
from pathlib import Path

import openai

import spancast

spancast.configure(Path(__file__).with_name("spancast.yaml"))
client = spancast.instrument(
    openai.OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "https://openrouter.ai/api/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", os.environ.get("OPENROUTER_API_KEY", "")),
    )
)
with spancast.trace(trace_id="order-7781", trace_name="Support", session_id="chat-42", feature="billing"):
    answer = client.chat.completions.create(
        model="openai/gpt-5.2", messages=[{"role": "user", "content": "Where is my order?"}]
    )
print(answer.choices[0].message.content)
print(spancast.flush())

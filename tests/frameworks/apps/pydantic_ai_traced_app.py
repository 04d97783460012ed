"""The agent of ``pydantic_ai_app.py`` with pydantic-ai's own spans, sent to the same place by OpenTelemetry's SDK."""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
Agent.instrument_all()

agent = Agent("openai-chat:gpt-5.2", name="assistant")


@agent.tool_plain
def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


print(agent.run_sync("Weather in Oslo?").output)

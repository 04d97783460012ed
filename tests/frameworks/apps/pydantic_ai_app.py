"""An agent of pydantic-ai that knows nothing of spancast; run by ``test_run_without_changes.py``."""

from pydantic_ai import Agent

agent = Agent("openai-chat:gpt-5.2")


@agent.tool_plain
def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


print(agent.run_sync("Weather in Oslo?").output)

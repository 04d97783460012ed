"""An agent of openai-agents that knows nothing of spancast; run by ``test_run_without_changes.py``."""

import agents


@agents.function_tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


agents.set_trace_processors([])  # the default one sends to OpenAI
assistant = agents.Agent(name="Assistant", model="gpt-5.2", tools=[weather])
configured = agents.RunConfig(group_id="chat-7")
print(agents.Runner.run_sync(assistant, "Weather in Oslo?", run_config=configured).final_output)

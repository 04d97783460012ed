"""An agent of langgraph that knows nothing of spancast; run by ``test_run_without_changes.py``."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver


@tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


agent = create_agent(ChatOpenAI(model="gpt-5.2"), tools=[weather], checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "chat-7"}}
print(agent.invoke({"messages": [("user", "Weather in Oslo?")]}, thread)["messages"][-1].content)

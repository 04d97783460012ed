"""Session in a web application: a middleware sets it for all calls of a request.

uvicorn examples.fastapi_session:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

import spancast


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    spancast.configure(service_name="shop")
    app.state.client = spancast.instrument(openai.AsyncOpenAI())
    yield
    await app.state.client.close()
    spancast.flush()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def with_session(request: Request, call_next: RequestResponseEndpoint) -> Response:
    session = request.headers.get("x-chat-id", "anonymous")
    with spancast.trace(trace_name="Shop request", session_id=session, path=request.url.path):
        return await call_next(request)


@app.get("/ask")
async def ask(question: str) -> dict[str, str | None]:
    answer = await app.state.client.chat.completions.create(
        model="gpt-5.2", messages=[{"role": "user", "content": question}], trace={"generation_name": "answer"}
    )
    return {"answer": answer.choices[0].message.content}

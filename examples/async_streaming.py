"""Two concurrent streams; one is closed early and still recorded, with the chunks received so far.

See them with `spancast show TRACE_ID`; `spancast traces` lists the ids.
"""

import asyncio

import openai

import spancast


async def read(client: openai.AsyncOpenAI, name: str, *, at_most: int) -> None:
    stream = await client.chat.completions.create(
        model="gpt-5.2",
        messages=[{"role": "user", "content": "Tell me a story."}],
        stream=True,
        trace={"generation_name": name},
    )
    received = 0
    async for chunk in stream:
        if chunk.choices:
            print(name, chunk.choices[0].delta.content or "")
        received += 1
        if received >= at_most:
            await stream.close()
            break


async def main() -> None:
    spancast.configure(service_name="async-streaming")
    async with openai.AsyncOpenAI() as client:
        spancast.instrument(client)
        with spancast.trace(trace_name="Two stories", session_id="chat-42"):
            await asyncio.gather(read(client, "complete", at_most=1_000), read(client, "half", at_most=2))
    print(spancast.flush())


asyncio.run(main())

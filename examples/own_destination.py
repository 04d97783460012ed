"""A destination of your own: any object with ``deliver``. A line of JSON per span, for a log collector on stdout."""

import json

import spancast
from spancast.destinations.protocol import Delivered, Payload
from spancast.testing import ReplayServer, check_destination


class JsonLines:
    def deliver(self, payload: Payload, timeout_s: float) -> Delivered:
        for resource in json.loads(payload.json)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    print(json.dumps({"name": span["name"], "trace": span["traceId"]}), flush=True)
        return Delivered()


check_destination(JsonLines)

with ReplayServer() as server:
    import openai

    spancast.configure(destinations={"lines": JsonLines()})
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="test"))
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello?"}])
    print(spancast.flush())

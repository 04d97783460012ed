from __future__ import annotations

import anthropic
import openai
import pytest

import spancast
from spancast.model.providers import server_of
from spancast.testing import CapturedSpans, ReplayServer
from spancast.testing.spans import attributes

USER = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://acme.openai.azure.com/", "azure.ai.openai"),
        ("https://api.together.ai/v1", "together"),
        ("https://api-inference.together.ai/v1", "together"),
        ("https://api.cerebras.ai", "cerebras"),
        ("https://api.writer.com", "writer"),
        ("https://router.huggingface.co/v1", "hugging_face"),
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", "alibaba_cloud"),
        ("https://api.z.ai/api/paas/v4", "z_ai"),
        ("https://open.bigmodel.cn/api/paas/v4", "z_ai"),
        ("https://api.ai21.com/studio/v1", "ai21"),
        ("https://api.replicate.com/v1", "replicate"),
        ("https://aiplatform.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://europe-west4-aiplatform.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "aws.bedrock"),
        ("https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "aws.bedrock"),
        ("https://my-vllm.eu-west-1.elb.amazonaws.com/v1", None),
        ("https://abc.execute-api.us-east-1.amazonaws.com", None),
        ("https://notapi.openai.com.evil.example", None),
        ("http://127.0.0.1:8000/v1", None),
        ("http://[::1", None),
        ("", None),
    ],
)
def test_provider_is_that_of_the_host(url: str, provider: str | None) -> None:
    assert server_of(url).provider == provider


def test_unknown_host_is_not_the_provider_of_its_format(server: ReplayServer, spans: CapturedSpans) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
        spancast.instrument(client).chat.completions.create(model="m", messages=USER)
        client.responses.create(model="m", input="hi")
    with anthropic.Anthropic(base_url=server.base_url, api_key="k") as messages:
        spancast.instrument(messages).messages.create(model="m", max_tokens=9, messages=USER)
    assert [attributes(span)["gen_ai.provider.name"] for span in spans.all()] == ["_OTHER"] * 3


def test_client_for_a_cloud_behind_an_unknown_host_is_of_that_cloud(server: ReplayServer, spans: CapturedSpans) -> None:
    with openai.AzureOpenAI(azure_endpoint=server.base_url, api_key="k", api_version="2026-01-01") as client:
        spancast.instrument(client).chat.completions.create(model="m", messages=USER)
    assert attributes(spans.one())["gen_ai.provider.name"] == "azure.ai.openai"


def test_decorated_function_without_a_host_has_the_provider_of_its_dialect(spans: CapturedSpans) -> None:
    spancast.instrument(lambda **_: "hi", dialect="anthropic_messages")(model="m")
    assert attributes(spans.one())["gen_ai.provider.name"] == "anthropic"

"""Unknown fields at every level of recorded traffic: none of their values may pass a reader without content.

Each recording is read without content, and with content followed by the filter of privacy mode, whole and streamed, and
with all attributes moved to the overflow attribute. The seed gives the names, shapes and places of the fields.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tests.dialects.streams import RECORDINGS, recordings

from spancast.dialects.protocol import Dialect
from spancast.dialects.registry import find_dialect
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Request, Response
from spancast.model.privacy import without_content
from spancast.tracing.span_attributes import add_content, add_response

CANARY: Final = "canary-k3v9"
DIALECTS: Final = sorted(folder.name for folder in RECORDINGS.iterdir() if folder.name != "schemas")
_NAMES: Final = (
    "zz", "query", "label", "hint", "text_", "x_note", "category", "status_detail", "model_note", "format_hint", "id_of",
    "\x1b[31mred", "a.b", "", "usage_note", "type_of", "reason_note", "title", "description", "mode_note", "tokens_note",
)  # fmt: skip
_SHAPES: Final[Sequence[Any]] = (
    CANARY, [CANARY], {"a": CANARY}, {CANARY: 1}, [[CANARY, {CANARY: [CANARY]}]], json.dumps({"a": CANARY}), f"1 {CANARY}",
)  # fmt: skip


def _with_unknown(chance: random.Random, wire: Any) -> Any:
    """Return ``wire`` with fields of the attack in each of its objects."""
    if isinstance(wire, list):
        return [_with_unknown(chance, item) for item in wire]
    if not isinstance(wire, dict):
        return wire
    added = {chance.choice(_NAMES): chance.choice(_SHAPES) for _ in range(2)}
    return {**added, **{name: _with_unknown(chance, value) for name, value in wire.items()}}


def _of_request(request: Request, *, content: bool) -> Attributes:
    found = dict(request.attributes)
    if content:
        add_content(found, request)
    return found


def _of_response(response: Response, *, content: bool) -> Attributes:
    found: Attributes = {}
    add_response(found, response, content=content, is_cut=False)
    return found


def _read(dialect: Dialect, case: dict[str, Any], chance: random.Random, *, content: bool) -> Iterator[Attributes]:
    if isinstance(case.get("request"), dict):
        request = dialect.read_request(_with_unknown(chance, case["request"]), content=content)
        yield _of_request(request, content=content)
    if "stream" in case:
        stream = dialect.new_stream(content=content)
        for event in case["stream"]:
            stream.feed(_with_unknown(chance, event))
        yield _of_response(stream.result(), content=content)
    elif case.get("response") is not None:
        response = dialect.read_response(_with_unknown(chance, case["response"]), content=content)
        yield _of_response(response, content=content)


def trials(seeds: Sequence[int]) -> tuple[int, dict[str, str]]:
    """Return how many requests and responses had an unknown field recorded, and which attributes still have it."""
    count, leaks = 0, dict[str, str]()
    for name in DIALECTS:
        dialect = find_dialect(name)
        assert dialect is not None
        for case_name, case in sorted(recordings(name).items()):
            for seed in seeds:
                for content in (False, True):
                    chance = random.Random(f"{name} {case_name} {seed}")
                    for attributes in _read(dialect, case, chance, content=content):
                        count += CANARY in str(attributes)
                        overflow: Attributes = {semconv.OVERFLOW: json_codec.encode(attributes)}
                        kept = {**without_content(attributes), **without_content(overflow)}
                        leaks |= {
                            f"{name}/{case_name} {seed} {attribute}": str(value)
                            for attribute, value in kept.items()
                            if CANARY in attribute or CANARY in str(value)
                        }
    return count, leaks

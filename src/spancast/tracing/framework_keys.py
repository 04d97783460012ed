"""Session, user and metadata that a framework holds in a context of its own. No framework is imported.

They become attributes only: they open no group, and they are not sent to the provider.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.diagnostics import never_raise
from spancast.model import json_codec, trace_keys
from spancast.model.trace_keys import NO_KEYS, TraceKeys

_SESSIONS: Final = ("session_id", "thread_id", "conversation_id")
"""The names of a session in the metadata of langchain."""
_USERS: Final = ("user", "user_id")
_OWN_PREFIXES: Final = ("ls_", "lc_", "langgraph_", "checkpoint_", "__")
"""Keys that langchain and langgraph add themselves."""
_NODE: Final = "langgraph_node"
_NOTHING: Final[Mapping[str, Any]] = {}


def _langchain(module: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the framework's module
    config: Mapping[str, Any] | None = module.var_child_runnable_config.get()
    if config is None:
        return _NOTHING
    configurable: Mapping[str, Any] = config.get("configurable") or {}
    # Anything else in it may be a credential.
    named = {name: configurable[name] for name in (*_SESSIONS, *_USERS) if name in configurable}
    return {**named, **(config.get("metadata") or {})}


def _llama_index(module: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the framework's module
    return module.active_instrument_tags.get()


def _openai_agents(module: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the framework's module
    # The public function would create the provider that sends to OpenAI.
    trace = module.Scope.get_current_trace()
    if trace is None:
        return _NOTHING
    group_id = getattr(trace, "group_id", None)
    return {**(getattr(trace, "metadata", None) or {}), **({} if group_id is None else {"session_id": group_id})}


_READERS: Final[tuple[tuple[str, Callable[[Any], Mapping[str, Any]]], ...]] = (
    ("langchain_core.runnables.config", _langchain),
    ("llama_index_instrumentation.dispatcher", _llama_index),
    ("agents.tracing.scope", _openai_agents),
)


def framework_keys() -> TraceKeys:
    """Return the keys of the framework that the current call is made by."""
    keys = NO_KEYS
    for name, read in _READERS:
        module = sys.modules.get(name)
        if module is not None:
            keys = keys.merged_over(_keys(read, module) or NO_KEYS)
    return keys


@never_raise
def _keys(read: Callable[[Any], Mapping[str, Any]], module: object) -> TraceKeys:
    try:
        given: Mapping[Any, Any] = read(module)
    except AttributeError:
        # Another version of the framework, without this name.
        return NO_KEYS
    if not given:
        return NO_KEYS
    custom: dict[str, Any] = {
        key: value
        for key, value in given.items()
        if isinstance(key, str)
        and (key == _NODE or not key.startswith(_OWN_PREFIXES))
        and key not in _SESSIONS
        and key not in _USERS
        and key not in trace_keys.NAMES
        and (isinstance(value, (str, int, float)) or json_codec.is_mapping(value) or json_codec.is_list(value))
    }
    session, user = (next((given[key] for key in names if given.get(key)), None) for names in (_SESSIONS, _USERS))
    keys = trace_keys.read(
        custom, session_id=None if session is None else str(session), user=None if user is None else str(user)
    )
    # They were not given to spancast: an unusual value is no mistake, and strict mode does not reject it.
    return keys.without()

"""Patches of replicate: predictions of models that take a prompt.

``run`` creates a prediction and asks for it until it has ended, which is one span; ``stream`` creates one and reads its
events. Both are functions that the SDK's module and client share. All their requests pass ``Client._request``, where a
prediction that the caller creates is a span of its own.
"""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.diagnostics import counters, never_raise
from spancast.dialects.replicate.prediction import REPLICATE_PREDICTION, has_ended, has_prompt
from spancast.instrumentation.call_keys import NAMES, KeyHooks, keys_of_call, without_keys
from spancast.instrumentation.patching import ClientPatches, Hook, InstancePatch, InstrumentedClients, Method, Patch
from spancast.instrumentation.results import StepRecorder, recorded, starting_late
from spancast.instrumentation.stream_recorder import Arrived
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.model.providers import provided_by
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

_CREATES: Final = re.compile(r"(?:/(?:models|deployments)/([^/]+/[^/]+))?/predictions\Z")
_FETCHES: Final = re.compile(r"/predictions/[^/]+\Z")
_INSTRUMENTED: Final = InstrumentedClients()


def _start(client: Any, body: Mapping[str, Any], keys: Mapping[str, Any]) -> TracedCall | None:  # noqa: ANN401 - the SDK's client
    if not has_prompt(body):
        if keys:
            counters.add("keys_not_traced")
        return None
    url = getattr(client, "_base_url", None)
    server = provided_by("replicate", url if isinstance(url, str) and url else "https://api.replicate.com")
    return CALL_TRACER.start_call(REPLICATE_PREDICTION, {**body, **keys}, server, parse_now=False)


def _request_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the request of ``run`` and ``stream`` until the SDK has made it; the model is in its path."""
    reference = args[0] if args else kwargs.get("ref")
    given = args[1] if len(args) > 1 else kwargs.get("input")
    if isinstance(reference, str):
        model = reference.partition(":")[0]
    else:
        names = [getattr(reference, name, None) for name in ("owner", "name")]
        model = "/".join(names) if all(isinstance(name, str) for name in names) else None  # type: ignore[arg-type]
    return {"model": model, "input": given}


def _without_keys(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    keys = {name: value for name, value in kwargs.items() if name in NAMES}
    return keys, (without_keys(kwargs) if keys else kwargs)


class _Run(CallDescription):
    """``run``: a request and what it takes to get its output."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; remove the trace keys from its arguments."""
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        keys, kwargs = _without_keys(kwargs)
        return _start(owner, _request_of(args, kwargs), keys), args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record the last state of the prediction; an iterator may have to ask for it."""
        response = traced_call.http_response
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            known = None if response is None else json_codec.decode(response.content)
            if not has_ended(known):
                return recorded(traced_call, result, StepRecorder(traced_call, _Polled(traced_call)))
        traced_call.http_response = None
        if response is None:
            traced_call.end_with(None)
        else:
            traced_call.end_with_bytes(response.content)
        return None


class _Create(CallDescription):
    """``_request``, for a prediction that the caller creates."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call."""
        path = _CREATES.search(str(args[1])) if args[0] == "POST" else None
        body: Any = kwargs.get("json")
        if path is None or not json_codec.is_mapping(body) or not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        named = {"model": path[1]} if path[1] else {}
        return _start(owner, {**body, **named}, keys_of_call()), args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - the HTTP response
        """Record the prediction, which may not have ended."""
        traced_call.set_request_bytes(result.request.content)
        traced_call.end_with_bytes(result.content)


class _Polled(Arrived):
    """The last known state of a prediction, whose iterator asks for it."""

    __slots__ = ("_read", "_traced_call")

    def __init__(self, traced_call: TracedCall) -> None:
        super().__init__(traced_call)
        self._traced_call: Final = weakref.ref(traced_call)

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that ignores the SDK's chunks."""
        return _ignore

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        traced_call = self._traced_call()
        response = None if traced_call is None else traced_call.http_response
        content = traced_call is not None and traced_call.captures_content
        known: Any = None if response is None else json_codec.decode(response.content)
        return self._dialect.read_response(known, content=content)


class _Events(Arrived):
    """The events of a stream, and the prediction that was created for it."""

    __slots__ = ("_traced_call",)

    def __init__(self, traced_call: TracedCall) -> None:
        super().__init__(traced_call)
        self._traced_call: Final = weakref.ref(traced_call)

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that reads the next event and does not raise."""
        feed = super().feed

        def feed_event(event: Any) -> None:  # noqa: ANN401 - the SDK's event
            feed({"event": event.event.value, "data": _text(event.data)})

        return never_raise(feed_event)

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        traced_call = self._traced_call()
        response = None if traced_call is None else traced_call.http_response
        if response is not None:
            super().feed(json_codec.decode(response.content))
        return self.reader.result()


def _ignore(_chunk: object) -> None:
    return


def _text(data: Any) -> str:  # noqa: ANN401 - text, or the SDK's object of a file
    return data if isinstance(data, str) else str(getattr(data, "url", data))


def _stream(method: Method) -> Method:
    """Wrap ``stream`` and ``async_stream``, which send their requests with the first step."""

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's generator
        if not _INSTRUMENTED.covers(owner):
            return method(owner, *args, **kwargs)
        keys, kwargs = _without_keys(kwargs)

        def begin() -> StepRecorder | None:
            traced_call = _start(owner, {**_request_of(args, kwargs), "stream": True}, keys)
            if traced_call is None or not traced_call.records_response:
                return None
            return StepRecorder(traced_call, _Events(traced_call))

        return starting_late(method(owner, *args, **kwargs), begin)

    return wrapper


def _async_stream(method: Method) -> Method:
    """Wrap ``Client.async_stream``, which is awaited for its async generator."""

    async def awaited(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's generator
        keys, kwargs = _without_keys(kwargs)
        stream = await method(owner, *args, **kwargs)
        return _stream(lambda *_args, **_kwargs: stream)(owner, *args, **kwargs, **keys)

    return awaited


@never_raise
def _keep(traced_call: TracedCall, args: tuple[Any, ...], response: Any) -> None:  # noqa: ANN401 - the HTTP response
    """Keep the state of the prediction of a call of ``run`` or ``stream``."""
    creates = args[0] == "POST" and _CREATES.search(str(args[1])) is not None
    if creates:
        traced_call.set_request_bytes(response.request.content)
    if creates or _FETCHES.search(str(args[1])):
        traced_call.http_response = response


def _outer_call() -> TracedCall | None:
    """Return the call of ``run`` or ``stream`` that is running."""
    call = CURRENT_CALL.get()
    return call if call is not None and call.dialect is REPLICATE_PREDICTION and not call.has_ended else None


def _sync_request(method: Method) -> Method:
    whole = _CREATE.sync(method)

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the HTTP response
        outer = _outer_call()
        if outer is None:
            return whole(owner, *args, **kwargs)
        response = method(owner, *args, **kwargs)
        _keep(outer, args, response)
        return response

    return wrapper


def _async_request(method: Method) -> Method:
    whole = _CREATE.asynchronous(method)

    async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the HTTP response
        outer = _outer_call()
        if outer is None:
            return await whole(owner, *args, **kwargs)
        response = await method(owner, *args, **kwargs)
        _keep(outer, args, response)
        return response

    return wrapper


def _function(hook: Hook, *, is_async: bool = False) -> Hook:
    """Return ``hook``, which wraps a method of a client, for a function whose first argument is the client."""

    def wrap(function: Method) -> Method:
        def method(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's client and result
            return function(None, client, *args, **kwargs)

        wrapped = hook(method)

        def wrapper(_owner: None, client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's client and result
            return wrapped(client, *args, **kwargs)

        async def async_wrapper(_owner: None, client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's client and result
            return await wrapped(client, *args, **kwargs)

        return async_wrapper if is_async else wrapper

    return wrap


_RUN: Final = wrap_call(_Run())
_CREATE: Final = wrap_call(_Create())
_KEYS: Final = KeyHooks(_INSTRUMENTED)
_MODULE: Final = "replicate.client"
_NAMESPACES: Final = (
    ("replicate.prediction", "Predictions"),
    ("replicate.model", "ModelsPredictions"),
    ("replicate.deployment", "DeploymentPredictions"),
    ("replicate.deployment", "DeploymentsPredictions"),
)

PATCHES: Final = ClientPatches(
    dialects=(REPLICATE_PREDICTION.name,),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch(_MODULE, "run", _function(_RUN.sync)),
        Patch(_MODULE, "async_run", _function(_RUN.asynchronous, is_async=True)),
        Patch(_MODULE, "stream", _function(_stream)),
        Patch(_MODULE, "async_stream", _function(_stream)),
        Patch(_MODULE, "Client._request", _sync_request),
        Patch(_MODULE, "Client._async_request", _async_request),
        *(Patch(module, f"{kind}.create", _KEYS.sync) for module, kind in _NAMESPACES),
        *(Patch(module, f"{kind}.async_create", _KEYS.asynchronous) for module, kind in _NAMESPACES),
    ),
    instance_patches=(
        InstancePatch("run", _RUN.sync),
        InstancePatch("async_run", _RUN.asynchronous),
        InstancePatch("stream", _stream),
        InstancePatch("async_stream", _async_stream),
        InstancePatch("_request", _sync_request),
        InstancePatch("_async_request", _async_request),
    ),
)

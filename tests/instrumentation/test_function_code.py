from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import wrapt

from spancast.instrumentation.function_code import plain_function, restore_function, wrap_function


def _decorated(function: Callable[..., Any]) -> Any:
    count = 0

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return function(*args, **kwargs), count

    return wrapper


def _sum(a: int, b: int = 2, *, c: int = 3) -> int:
    return a + b + c


async def _sum_async(a: int, b: int = 2, *, c: int = 3) -> int:
    await asyncio.sleep(0)
    return a + b + c


def _noting(calls: list[Any]) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            return original(*args, **kwargs)

        return wrapper

    return wrap


def test_wrap_function_every_reference_is_wrapped_and_looks_as_before() -> None:
    function, calls = _decorated(_sum), []
    early_bound, code, signature = function, function.__code__, inspect.signature(function)
    wrap_function(function, _noting(calls))
    assert early_bound(1, c=5) == (8, 1)
    assert calls == [((1,), {"c": 5})]
    assert (inspect.signature(function), function.__name__) == (signature, "_sum")
    restore_function(function)
    assert function.__code__ is code
    assert early_bound(1) == (6, 2)
    assert len(calls) == 1


def test_wrap_function_keeps_the_signature_of_a_plain_function() -> None:
    signature, calls = inspect.signature(_sum), []
    attributes = dict(vars(_sum))
    wrap_function(_sum, _noting(calls))
    try:
        assert inspect.signature(_sum) == signature
        assert _sum(1, 1) == 5
    finally:
        restore_function(_sum)
    assert calls == [((1, 1), {})]
    assert vars(_sum) == attributes
    assert inspect.signature(_sum) == signature
    assert _sum(1) == 6


@pytest.mark.parametrize("function", [_decorated(_sum), _sum])
def test_wrap_function_has_frames_that_a_debugger_can_read(function: Any) -> None:
    wrap_function(function, _noting([]))
    try:
        with pytest.raises(TypeError) as caught:
            function("no number")
    finally:
        restore_function(function)
    trace, seen = caught.value.__traceback__, []
    while trace is not None:
        seen.append(sorted(trace.tb_frame.f_locals))
        trace = trace.tb_next
    assert ["args", "kwargs", "wrapper"] in [
        [name for name in names if name not in ("count", "function")] for names in seen
    ]


async def test_wrap_function_of_a_coroutine_function_stays_one() -> None:
    calls: list[Any] = []
    wrap_function(_sum_async, _noting(calls))
    try:
        assert inspect.iscoroutinefunction(_sum_async)
        assert await _sum_async(1, c=0) == 3
    finally:
        restore_function(_sum_async)
    assert calls == [((1,), {"c": 0})]


def test_wrap_function_twice_wraps_once() -> None:
    function, calls = _decorated(_sum), []
    wrap_function(function, _noting(calls))
    wrap_function(function, _noting(calls))
    function(1)
    assert len(calls) == 1
    restore_function(function)
    wrap_function(function, _noting(calls))
    function(1)
    assert len(calls) == 2
    restore_function(function)


def test_restore_function_leaves_the_code_of_another_library() -> None:
    function = _decorated(_sum)
    wrap_function(function, _noting([]))
    theirs = function.__code__ = function.__code__.replace(co_name="theirs")
    restore_function(function)
    assert function.__code__ is theirs


def test_plain_function_is_found_inside_a_proxy() -> None:
    function = _decorated(_sum)
    proxy = wrapt.FunctionWrapper(function, lambda wrapped, _instance, args, kwargs: wrapped(*args, **kwargs))
    assert plain_function(proxy) is function
    assert plain_function(3) is None


def test_wrap_function_warning_names_the_line_of_the_caller() -> None:
    def warns() -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=2)

    wrap_function(warns, lambda original: original)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warns()
    assert [one.filename for one in caught] == [__file__]

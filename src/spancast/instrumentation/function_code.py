"""Wrappers of functions that programs bind early (``from litellm import completion``).

The code of the function is replaced, not the function: every reference to it is wrapped, and it stays the same object
with the same name and signature.

Invariants (tests/instrumentation/test_function_code.py):
    ``restore_function`` restores the very code, unless another library has replaced it since.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

INTERNAL_FILENAME: Final = "<spancast, as unseen as importlib._bootstrap>"
"""A file name that hides a frame from ``warnings.warn``; see ``patching.hide_frame``."""
_PLACE: Final = "the wrapper"
_MAX_DEPTH: Final = 64


class _Codes(NamedTuple):
    original: CodeType
    wrapped: CodeType
    has_signature: bool
    """Whether the function got ``__signature__``, because its own code no longer has its parameters."""


_codes: Final[WeakKeyDictionary[FunctionType, _Codes]] = WeakKeyDictionary()


def plain_function(held: Any) -> FunctionType | None:  # noqa: ANN401 - any attribute of a module
    """Return ``held``, or the function inside the proxies of other libraries around it; None if it is none."""
    for _ in range(_MAX_DEPTH):
        # Exact type: a proxy claims to be a function.
        if type(held) is FunctionType:
            return held
        held = getattr(held, "__wrapped__", None)
    return None


def wrap_function(function: FunctionType, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Make every call of ``function`` a call of ``wrap(original)``; no effect on a function that is wrapped."""
    known = _codes.get(function)
    if known is not None and function.__code__ is not known.original:
        return
    signature = inspect.signature(function)
    wrapper, names = wrap(_copy(function)), function.__code__.co_freevars
    # The closure stays and must fit.
    template = _template(len(names), is_async=inspect.iscoroutinefunction(function))
    wrapped = template.replace(
        co_consts=tuple(wrapper if one == _PLACE else one for one in template.co_consts),
        co_freevars=names,
        co_name=function.__code__.co_name,
    )
    has_signature = not hasattr(function, "__wrapped__") and "__signature__" not in vars(function)
    if has_signature:
        vars(function)["__signature__"] = signature
    _codes[function] = _Codes(function.__code__, wrapped, has_signature)
    function.__code__ = wrapped


def restore_function(function: FunctionType) -> None:
    """Restore the code of ``function``, unless another library has replaced it since."""
    known = _codes.get(function)
    if known is not None and function.__code__ is known.wrapped:
        function.__code__ = known.original
        if known.has_signature:
            vars(function).pop("__signature__", None)


def _copy(function: FunctionType) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    return copy


@functools.cache
def _template(cells: int, *, is_async: bool) -> CodeType:
    """Return the code of a function that calls the constant ``_PLACE``, with as many free variables as ``cells``.

    Compiled with them: without the instruction that copies them, CPython 3.11 crashes when a debugger reads its locals.
    """
    names = "".join(f"cell_{number}, " for number in range(cells))
    source = f"""
def outer({names}):
    {"async " if is_async else ""}def inner(*args, **kwargs):
        wrapper = {_PLACE!r}
        return {"await " if is_async else ""}wrapper(*args, **kwargs)
        ({names})
"""
    code = compile(source, INTERNAL_FILENAME, "exec")
    for _ in ("outer", "inner"):
        code = next(one for one in code.co_consts if isinstance(one, CodeType))
    return code

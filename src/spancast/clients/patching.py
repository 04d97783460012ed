"""Patches as rows: put on lazily and in any import order, taken off without a trace.

Must never: import an SDK, or leave a wrapper behind after ``uninstall``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

import wrapt

from spancast.errors import logger, tally

Method: TypeAlias = Callable[..., Any]
"""As it stands in a class: its first argument is the object."""
Hook: TypeAlias = Callable[[Method], Method]
"""Returns what is to stand in the place of a method.

An ordinary function, which every call of it costs a microsecond; through wrapt's proxies it is three to five.
"""


_UNSEEN: Final = "<spancast, as unseen as importlib._bootstrap>"
_ours: Final[weakref.WeakSet[Method]] = weakref.WeakSet()
"""What ``hooked`` has made: a mark on the function would be copied by everybody who wraps it."""


class Patch(NamedTuple):
    """One method of one class of an SDK, and what goes around it."""

    module: str
    attribute: str
    """``Class.method``."""

    hook: Hook


class InstancePatch(NamedTuple):
    """The same method reached from a client object: ``chat.completions.create``."""

    path: str
    hook: Hook
    async_hook: Hook | None = None
    """Instead, where the object's method is a coroutine function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One SDK: what ``instrument("name")`` patches, and what ``instrument(client)`` does to one object.

    ``oldest`` is the oldest version the contract suite runs against; ``copies`` are the
    methods that return a new client of the same settings.
    """

    name: str
    distribution: str
    oldest: str
    dialects: tuple[str, ...]
    patches: tuple[Patch, ...]
    instance_patches: tuple[InstancePatch, ...]
    copies: tuple[str, ...] = ()
    skipped: Mapping[str, str]
    """Methods of the SDK's resources that are passed through on purpose, each with the reason."""


class Installation:
    """The patches of one SDK that are on, for its classes and for single objects."""

    def __init__(self, client: Client) -> None:
        self.client: Final = client
        self.is_on = False
        self._hooked: set[Patch] = set()
        self._originals: dict[Patch, tuple[type, Any]] = {}
        self._lock = threading.RLock()

    def install(self) -> None:
        """Patch every class already imported, and the others when they are; harmless when on."""
        with self._lock:
            self.is_on = True
            for patch in self.client.patches:
                if patch in self._hooked:
                    self._apply_if_loaded(patch)
                else:
                    self._hooked.add(patch)
                    # Runs at once where the module is loaded; stays registered (and idle) after uninstall.
                    wrapt.register_post_import_hook(
                        lambda module, patch=patch: self._apply(patch, module), patch.module
                    )

    def uninstall(self) -> None:
        """Restore the original functions."""
        with self._lock:
            self.is_on = False
            for patch, (owner, original) in self._originals.items():
                setattr(owner, patch.attribute.rpartition(".")[2], original)
            self._originals.clear()

    def install_on(self, target: object) -> None:
        """Patch one client object, and the copies made of it; harmless when on."""
        for patch in self.client.instance_patches:
            _patch_instance(target, patch)
        for name in self.client.copies:
            _patch_instance(target, InstancePatch(name, self._instrument_copy))

    def uninstall_from(self, target: object) -> None:
        """Take the patches of one client object off."""
        for path in (*(patch.path for patch in self.client.instance_patches), *self.client.copies):
            owner, name = _walk(target, path)
            if owner is not None and _is_patched(owner, name):
                delattr(owner, name)

    def _instrument_copy(self, method: Method) -> Method:
        def copying(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's client
            made = method(*args, **kwargs)
            self.install_on(made)
            return made

        return copying

    def _apply_if_loaded(self, patch: Patch) -> None:
        import sys  # noqa: PLC0415 - read, not imported: a module that is not loaded stays so

        module = sys.modules.get(patch.module)
        if module is not None:
            self._apply(patch, module)

    def _apply(self, patch: Patch, module: ModuleType) -> None:
        with self._lock:
            if not self.is_on or patch in self._originals:
                return
            class_name, _, method = patch.attribute.partition(".")
            owner = getattr(module, class_name, None)
            original = vars(owner).get(method) if isinstance(owner, type) else None
            if owner is None or original is None:
                # Another version of the SDK: this row is not for it, the others stand by themselves.
                logger.debug("spancast: %s has no %s, not patched", patch.module, patch.attribute)
                tally.add("patches.missing")
                return
            self._originals[patch] = (owner, original)
            setattr(owner, method, hooked(original, patch.hook))


def hooked(method: Method, hook: Hook) -> Method:
    """Return ``method`` with ``hook`` around it: a function of the same name, signature and kind."""
    # By its exact type: another tracer's proxy says that it is a function.
    return _like(method, hook(method if type(method) is FunctionType else _binding(method)))


def _like(method: Method, made: Method) -> Method:
    made = functools.update_wrapper(made, method)
    if inspect.iscoroutinefunction(method) and not inspect.iscoroutinefunction(made):
        made = functools.update_wrapper(_coroutine_function(made), method)
    _ours.add(made)
    return made


def unseen(function: FunctionType) -> FunctionType:
    """Return ``function`` as one that ``warnings.warn`` passes over: an SDK warns of the line of its caller.

    A ``stacklevel`` counts frames, but for those that the file's name marks as the interpreter's own.
    """
    function.__code__ = function.__code__.replace(co_filename=_UNSEEN)
    return function


def _binding(held: Any) -> Method:  # noqa: ANN401 - another tracer's proxy, mostly
    """Return a function that calls what a class holds as the class has it called: bound to the object, if it can be."""
    bind: Any = getattr(held, "__get__", None)

    def call(instance: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        bound = held if bind is None else bind(instance, type(instance))
        return bound(*args, **kwargs)

    return call


def _coroutine_function(function: Method) -> Method:
    """Return ``function``, which returns coroutines, as one that is known to."""
    mark: Callable[[Method], Method] | None = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        return mark(function)

    async def awaited(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        return await function(*args, **kwargs)

    return unseen(awaited)


def load(reference: str) -> Any:  # noqa: ANN401 - whatever the row names
    """Return the object a ``module:name`` row of a table names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _patch_instance(target: object, patch: InstancePatch) -> None:
    owner, name = _walk(target, patch.path)
    if owner is None or _is_patched(owner, name):
        return
    method = getattr(owner, name, None)
    if method is None:
        logger.debug("spancast: %s has no %s, not patched", type(target).__name__, patch.path)
        tally.add("patches.missing")
        return
    hook = (patch.async_hook if inspect.iscoroutinefunction(method) else None) or patch.hook
    # By its exact type: another tracer's proxy has a ``__func__`` as well, which is the method without it.
    if type(method) is MethodType and method.__self__ is owner:
        setattr(owner, name, MethodType(hooked(method.__func__, hook), owner))
        return
    # It knows its object, or needs none.
    setattr(owner, name, _like(method, _bound(hook, method, owner)))


def _bound(hook: Hook, method: Method, owner: object) -> Method:
    def without_owner(_owner: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        return method(*args, **kwargs)

    around = hook(without_owner)

    def bound(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        return around(owner, *args, **kwargs)

    return bound


def _is_patched(owner: object, name: str) -> bool:
    held: Any = getattr(owner, "__dict__", {}).get(name)
    return getattr(held, "__func__", held) in _ours


def _walk(target: object, path: str) -> tuple[Any, str]:
    *parents, name = path.split(".")
    owner: Any = target
    for parent in parents:
        owner = getattr(owner, parent, None)
        if owner is None:
            return None, name
    return owner, name

"""Patches of SDK methods: applied when the SDK is imported, removable.

Invariants (tests/instrumentation/test_wrapping.py, test_other_instrumentations.py):
    No SDK is imported. ``uninstall`` removes our wrappers and no others. A wrapper of ours inside another library's
    wrapper stays there, but passes calls on unrecorded.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias, cast

import wrapt

from spancast.diagnostics import counters, logger, never_raise
from spancast.instrumentation.function_code import INTERNAL_FILENAME, plain_function, restore_function, wrap_function

Method: TypeAlias = Callable[..., Any]
"""A function of a class; its first argument is the object."""
Hook: TypeAlias = Callable[[Method], Method]
"""Returns the wrapper of a method.

The wrapper is a plain function: it adds one microsecond per call, a proxy of wrapt three to five.
"""


_MARK: Final = "_self_spancast"
"""The attribute that holds a ``_Layer``; wrapt stores attributes with the prefix ``_self_`` on the proxy itself."""
_ABSENT: Final = object()
_MAX_DEPTH: Final = 64


class InstrumentedClients:
    """The instrumented clients of one SDK: all of them, or single objects.

    Every wrapper checks it at every call: another library may keep a reference to a wrapper of ours and restore it
    after ``uninstall``. Such a wrapper passes the call on unrecorded.
    """

    def __init__(self) -> None:
        self.all = False
        self._single: dict[int, weakref.ref[object]] = {}

    def covers(self, client: object) -> bool:
        """Return whether calls of ``client`` are recorded."""
        return self.all or id(client) in self._single

    def covers_part(self, name: str, part: object) -> bool:
        """Return whether calls of the clients that have ``part`` as their attribute ``name`` are recorded."""
        return self.all or any(getattr(one(), name, None) is part for one in [*self._single.values()])

    def __bool__(self) -> bool:
        return self.all or bool(self._single)

    def has(self, client: object) -> bool:
        """Return whether ``client`` itself was added."""
        return id(client) in self._single

    def owns(self, resource: Any) -> bool:  # noqa: ANN401 - the SDK's resource
        """Return whether the client of ``resource`` was added."""
        return self.has(getattr(resource, "_client", None))

    def add(self, client: object) -> None:
        """Add one object; it is removed when it is garbage collected."""
        key = id(client)
        self._single[key] = weakref.ref(client, lambda _: self._single.pop(key, None))

    def discard(self, client: object) -> None:
        """Remove one object, if it was added."""
        self._single.pop(id(client), None)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One wrapper of ours; ``original`` is the attribute it has replaced (``_ABSENT`` if there was none).

    It is stored as an attribute of the wrapper. A library that wraps the wrapper copies its attributes, so ``wrapper``
    refers to the one that this belongs to. ``is_of_class``: the wrapper is set on a class, not on an object.
    """

    wrapper: weakref.ref[Any]
    original: Any
    is_of_class: bool


class Patch(NamedTuple):
    """One method of a class of an SDK, or one function, and the hook that wraps it.

    The wrapper of a function gets None as its first argument, the object.
    """

    module: str
    attribute: str
    """``Class.method``, or the name of a function of the module."""

    hook: Hook


class InstancePatch(NamedTuple):
    """A method of a client object, by its path (``chat.completions.create``), and the hook that wraps it."""

    path: str
    hook: Hook
    async_hook: Hook | None = None
    """Used instead of ``hook`` if the object's method is a coroutine function or makes async context managers."""

    kind: str = ""
    """The name of the class of clients that have the method, if others have not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """The description of one SDK; its patches are imported when it is instrumented.

    ``min_version`` is the oldest version that the contract tests run with.
    """

    name: str
    """The name in the API: ``instrument("openai")``."""

    distribution: str
    packages: tuple[str, ...]
    """Its import packages, dotted (``google.genai``), or classes (``botocore.client.BedrockRuntime``).

    ``instrument(client)`` finds the SDK by them, and the import of their modules is noticed.
    """

    min_version: str
    patches: str
    """``module:NAME`` of its ``ClientPatches``."""

    by_name_only: bool = False
    """Whether ``instrument()`` without a name leaves it out: an HTTP library, which is used for anything."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the modules of ``packages``."""
        parts = [(one, *one.rpartition(".")[::2]) for one in self.packages]
        return tuple(module if name[:1].isupper() else one for one, module, name in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPatches:
    """The patches of the classes of an SDK, and those of a single client object.

    ``copy_methods`` are the methods that return a copy of a client.
    """

    dialects: tuple[str, ...]
    patches: tuple[Patch, ...]
    instance_patches: tuple[InstancePatch, ...]
    copy_methods: tuple[str, ...] = ()
    instrumented: InstrumentedClients = field(default_factory=InstrumentedClients)
    """Shared with the hooks."""

    resource_bases: tuple[str, ...] = ()
    """Base classes of the SDK's resources, ``module:Class``; a resource has its client as ``_client``."""

    variants: tuple[str, ...] = ()
    """Attributes in which clients and resources cache variants of themselves, which hold their methods."""

    hook_of_other: Callable[[str, Method], Hook | None] | None = None
    """Returns the hook for a public method of a resource that no patch names (``module:Class.method``), or None."""


class Instrumentor:
    """Applies and removes the patches of one SDK, on its classes and on single objects."""

    def __init__(self, patches: ClientPatches) -> None:
        self.patches: Final = patches
        self._instrumented: Final = patches.instrumented
        self._registered: set[Patch] = set()
        self._patched: dict[tuple[type, str], None] = {}
        self._functions: dict[FunctionType, None] = {}
        self._hooks: Final = {f"{patch.module}:{patch.attribute}": patch.hook for patch in patches.patches}
        self._resource_kinds: set[type] = set()
        self._awaited_modules: set[str] = set()
        self._inner_wrappers: list[tuple[Any, Method]] = []
        self._lock = threading.RLock()

    def instrument(self) -> None:
        """Patch every class that is imported, and the others at their import; may be called again.

        A second call restores the patches that another library has removed since.
        """
        with self._lock:
            self._instrumented.all = True
            self._watch_resources()
            for patch in self.patches.patches:
                if patch in self._registered:
                    module = sys.modules.get(patch.module)
                    if module is not None:
                        self._apply(patch, module)
                else:
                    self._registered.add(patch)
                    # Runs at once if the module is loaded; stays registered after uninstall, without effect.
                    wrapt.register_post_import_hook(
                        lambda module, patch=patch: self._apply(patch, module), patch.module
                    )

    def uninstall(self) -> None:
        """Restore the original methods of the classes, except those that another library has replaced since."""
        with self._lock:
            self._instrumented.all = False
            for owner, name in self._patched:
                for kind in (owner, *_subclasses(owner)):
                    _restore(kind, name)
            for function in self._functions:
                restore_function(function)
            self._resource_kinds.clear()
            if self._instrumented:
                self._watch_resources()
            while self._inner_wrappers:
                proxy, wrapper = self._inner_wrappers.pop()
                layer = _layer_of(wrapper)
                if layer is not None and proxy.__wrapped__ is wrapper:
                    proxy.__wrapped__ = layer.original

    def instrument_client(self, target: object) -> None:
        """Patch one client object and its copies; may be called again."""
        self._instrumented.add(target)
        self._watch_resources()
        for patch in self.patches.instance_patches:
            patch_instance(target, patch)
        for name in self.patches.copy_methods:
            patch_instance(target, InstancePatch(name, self._instrument_copy))
        for resource in self._resources_in(target):
            self._patch_resource(resource)
        self._forget_variants(target)

    def uninstall_from(self, target: object) -> None:
        """Remove the patches of one client object."""
        self._instrumented.discard(target)
        for path in (*(patch.path for patch in self.patches.instance_patches), *self.patches.copy_methods):
            owner, name = _resolve_path(target, path)
            if owner is not None:
                _restore(owner, name)
        for resource in self._resources_in(target):
            held: dict[str, Any] = resource.__dict__
            for name in list(held):
                _restore(resource, name)
        self._forget_variants(target)
        with self._lock:
            if not self._instrumented:
                for base in self._bases():
                    _restore(base, "__init__")

    def _forget_variants(self, target: object) -> None:
        """Remove cached variants (``with_raw_response``): their next use makes them from the current methods."""
        for holder in (target, *self._resources_in(target)):
            for name in self.patches.variants:
                getattr(holder, "__dict__", {}).pop(name, None)

    def _bases(self) -> Iterator[type]:
        """Return the resource base classes that are imported."""
        for reference in self.patches.resource_bases:
            module, _, name = reference.partition(":")
            base = getattr(sys.modules.get(module), name, None)
            if isinstance(base, type):
                yield base

    def _watch_resources(self) -> None:
        """Wrap the constructors of resources, so that their methods are patched when a resource is made.

        There are hundreds of resource classes, and the SDKs import most of them on first use.
        """
        self._watch_bases()
        for reference in self.patches.resource_bases:
            module = reference.partition(":")[0]
            if module not in sys.modules and reference not in self._awaited_modules:
                self._awaited_modules.add(reference)
                wrapt.register_post_import_hook(lambda _module: self._watch_bases(), module)

    def _watch_bases(self) -> None:
        with self._lock:
            if not self._instrumented:
                return
            for base in self._bases():
                if "__init__" in vars(base):
                    self._patch_method(base, "__init__", self._wrap_init)
                for kind in _subclasses(base) if self._instrumented.all else ():
                    self._patch_resource_class(kind)

    def _wrap_init(self, method: Method) -> Method:
        def wrapper(resource: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the SDK's arguments
            method(resource, *args, **kwargs)
            self._patch_new_resource(resource)

        return wrapper

    @never_raise
    def _patch_new_resource(self, resource: Any) -> None:  # noqa: ANN401 - the SDK's resource
        if self._instrumented.all:
            with self._lock:
                self._patch_resource_class(cast("type[Any]", type(resource)))
        if self._instrumented.owns(resource):
            self._patch_resource(resource)

    def _patch_resource_class(self, kind: type) -> None:
        if kind not in self._resource_kinds:
            self._resource_kinds.add(kind)
            for owner, name, hook in self._methods(kind):
                self._patch_method(owner, name, hook)

    def _patch_resource(self, resource: object) -> None:
        for _, name, hook in self._methods(type(resource)):
            patch_instance(resource, InstancePatch(name, hook))

    def _methods(self, kind: type) -> Iterator[tuple[type, str, Hook]]:
        for owner in kind.__mro__:
            for name, held in list(vars(owner).items()):
                if not isinstance(held, FunctionType):
                    continue
                reference = f"{owner.__module__}:{owner.__name__}.{name}"
                hook = self._hooks.get(reference)
                if hook is None and self.patches.hook_of_other is not None and not name.startswith("_"):
                    hook = self.patches.hook_of_other(reference, held)
                if hook is not None:
                    yield owner, name, hook

    def _resources_in(self, holder: Any) -> list[Any]:  # noqa: ANN401 - a client
        """Return the resources that ``holder`` has already made, including those inside proxies of other libraries."""
        bases, found, waiting = tuple(self._bases()), dict[int, Any](), [holder]
        while waiting:
            for value in list(getattr(waiting.pop(), "__dict__", {}).values()):
                inner = [value] if isinstance(value, bases) else list(getattr(value, "__dict__", {}).values())
                for one in inner:
                    if isinstance(one, bases) and id(one) not in found:
                        found[id(one)] = one
                        waiting.append(one)
        return list(found.values())

    def _instrument_copy(self, method: Method) -> Method:
        def wrapper(client: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's client
            client_copy = method(client, *args, **kwargs)
            if self._instrumented.has(client):
                self.instrument_client(client_copy)
            return client_copy

        return wrapper

    def _apply(self, patch: Patch, module: ModuleType) -> None:
        with self._lock:
            if not self._instrumented.all:
                return
            class_name, dot, method = patch.attribute.partition(".")
            owner = getattr(module, class_name, None)
            function = None if dot else plain_function(owner)
            if function is not None:
                self._functions[function] = None
                wrap_function(function, lambda original: _bound(patch.hook(_without_owner(original)), None))
                return
            if not isinstance(owner, type) or vars(owner).get(method) is None:
                # Another version of the SDK; the other patches do not depend on this one.
                logger.debug("spancast: not patched: %s has no %s", patch.module, patch.attribute)
                counters.add("patches_not_found")
                return
            inherited = list(_layers_of(vars(owner)[method]))
            self._patch_method(owner, method, patch.hook)
            for kind in _subclasses(owner):
                if method in vars(kind):
                    self._patch_inherited(kind, method, patch.hook, inherited)

    def _patch_method(self, owner: type, name: str, hook: Hook) -> None:
        self._patched[owner, name] = None
        held = vars(owner)[name]
        if not _contains_ours(held):
            setattr(owner, name, wrap_method(held, hook))

    def _patch_inherited(self, owner: type, name: str, hook: Hook, inherited: list[Any]) -> None:
        """Patch a subclass on which another library has set a wrapper of the inherited method, bypassing ours.

        Our wrapper goes inside that library's proxy, as it would if ours had been applied first.
        """
        outer: Any = None
        for one in _layers_of(vars(owner)[name]):
            if _layer_of(one) is not None:
                return
            if any(one is other for other in inherited):
                break
            outer = one
        else:
            return
        if outer is None or not _is_proxy(outer):
            self._patch_method(owner, name, hook)
        else:
            outer.__wrapped__ = wrapper = wrap_method(outer.__wrapped__, hook)
            self._inner_wrappers.append((outer, wrapper))


def wrap_method(method: Method, hook: Hook) -> Method:
    """Return ``method`` wrapped by ``hook``, with the same name, signature and kind.

    The wrapper is a plain function, unless ``method`` is a wrapt proxy of another library. Then it is a proxy too,
    because that library recognizes its proxies by type.
    """
    held: Any = method
    # Exact type: a proxy claims to be a function.
    if type(held) is FunctionType:
        return _mark(_copy_signature(held, hook(held)), held)
    if _is_proxy(held):
        return _mark(_proxy(held, hook(_binding(held)), wrap_method(held.__wrapped__, hook)), held)
    return _mark(_copy_signature(held, hook(_binding(held))), held)


def _mark(wrapper: Method, original: Any, *, is_of_class: bool = True) -> Method:  # noqa: ANN401 - any attribute
    setattr(wrapper, _MARK, _Layer(weakref.ref(wrapper), original, is_of_class))
    return wrapper


def _layer_of(held: Any) -> _Layer | None:  # noqa: ANN401 - any attribute
    """Return the layer of ``held``; None if it is not a wrapper of ours."""
    if type(held) is MethodType:
        held = held.__func__
    elif isinstance(held, wrapt.BoundFunctionWrapper):
        # Some libraries set the result of getattr, a bound wrapper, on the class.
        held = held._self_parent  # noqa: SLF001 - documented by wrapt
    layer = getattr(held, _MARK, None)
    return layer if isinstance(layer, _Layer) and layer.wrapper() is held else None


def _layers_of(held: Any) -> Iterator[Any]:  # noqa: ANN401 - any attribute
    """Yield ``held`` and the callables it wraps, outermost first."""
    for _ in range(_MAX_DEPTH):
        if held is None:
            return
        yield held
        layer = _layer_of(held)
        held = getattr(held, "__wrapped__", None) if layer is None else layer.original


def _contains_ours(held: Any) -> bool:  # noqa: ANN401 - any attribute
    return any(_layer_of(one) is not None for one in _layers_of(held))


def _restore(owner: Any, name: str) -> None:  # noqa: ANN401 - a class or an object
    held: Any = getattr(owner, "__dict__", {}).get(name, _ABSENT)
    layer = _layer_of(held)
    if layer is None or layer.is_of_class is not isinstance(owner, type):
        return
    if layer.original is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, layer.original)


def _subclasses(owner: type) -> Iterator[type]:
    for kind in owner.__subclasses__():
        yield kind
        yield from _subclasses(kind)


def _copy_signature(method: Method, wrapper: Method) -> Method:
    wrapper = functools.update_wrapper(wrapper, method)
    if inspect.iscoroutinefunction(method) and not inspect.iscoroutinefunction(wrapper):
        wrapper = functools.update_wrapper(_coroutine_function(wrapper), method)
    # Keep the depth of ``__wrapped__``: LangSmith looks one level below a decorated method for its coroutine function.
    inner: Any = getattr(method, "__wrapped__", None)
    if inner is not None:
        wrapper.__dict__["__wrapped__"] = inner
    return wrapper


def _is_proxy(held: Any) -> bool:  # noqa: ANN401 - any attribute
    """Return whether ``held`` is a proxy: its ``__class__`` differs from its type."""
    return held.__class__ is not type(held) and hasattr(held, "__wrapped__")


def _proxy(held: Any, around: Method, inner: Method) -> Method:  # noqa: ANN401 - any attribute
    """Return a proxy in place of the proxy ``held`` that calls ``around``.

    Its ``__wrapped__`` is ``inner``, our wrapper without theirs: some libraries uninstrument by replacing the
    attribute with the ``__wrapped__`` of the outermost wrapper.
    """

    def wrapper(_wrapped: Method, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the SDK's own result
        return around(instance, *args, **kwargs)

    # Some libraries contain a copy of wrapt and recognize only the wrappers of that copy.
    kinds = (kind for kind in type(held).__mro__ if kind.__name__ == wrapt.FunctionWrapper.__name__)
    return next(kinds, wrapt.FunctionWrapper)(inner, hide_frame(wrapper))


def hide_frame(function: FunctionType) -> FunctionType:
    """Hide the frame of ``function`` from ``warnings.warn``, so that an SDK's warning names the line of its caller.

    ``stacklevel`` does not count frames whose file name marks them as internal to the interpreter.
    """
    function.__code__ = function.__code__.replace(co_filename=INTERNAL_FILENAME)
    return function


def _binding(held: Any) -> Method:  # noqa: ANN401 - mostly another library's proxy
    """Return a function that calls the class attribute ``held`` bound to the object, if it is a descriptor."""
    bind: Any = getattr(held, "__get__", None)

    def call(instance: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        bound = held if bind is None else bind(instance, type(instance))
        return bound(*args, **kwargs)

    return call


def _coroutine_function(function: Method) -> Method:
    """Return ``function``, which returns coroutines, as a coroutine function for ``inspect``."""
    mark: Callable[[Method], Method] | None = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        return mark(function)

    async def awaited(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        return await function(*args, **kwargs)

    return hide_frame(awaited)


def patch_instance(target: object, patch: InstancePatch) -> None:
    """Set the wrapper of ``patch`` on ``target``, unless it is there."""
    if patch.kind and all(kind.__name__ != patch.kind for kind in type(target).__mro__):
        return
    owner, name = _resolve_path(target, patch.path)
    if owner is None:
        return
    existing: Any = getattr(owner, "__dict__", {}).get(name, _ABSENT)
    if existing is not _ABSENT and _contains_ours(existing):
        return
    if existing is _ABSENT and not hasattr(cast("type[Any]", type(owner)), name):
        logger.debug("spancast: %s has no %s, not patched", type(target).__name__, patch.path)
        counters.add("patches_not_found")
        return
    method = getattr(owner, name)
    is_async = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(inspect.unwrap(method))
    hook = (patch.async_hook if is_async else None) or patch.hook
    around = hook(_of_class(owner, name, method) if existing is _ABSENT else _without_owner(existing))
    # Exact type, as in ``wrap_method``.
    if type(method) is MethodType and method.__self__ is owner:
        wrapper = _mark(_copy_signature(method.__func__, around), existing, is_of_class=False)
        setattr(owner, name, MethodType(wrapper, owner))
        return
    if _is_proxy(method):
        wrapper = _proxy(method, _with_owner(around, owner), method)
    else:
        wrapper = _copy_signature(method, _bound(around, owner))
    setattr(owner, name, _mark(wrapper, existing, is_of_class=False))


def _of_class(owner: object, name: str, method: Any) -> Method:  # noqa: ANN401 - any attribute
    """Return a function that calls the method which the class of ``owner`` has at the time of the call.

    Tests replace methods of classes, and other libraries wrap them, after a client was instrumented.
    """
    known = method.__func__ if type(method) is MethodType and method.__self__ is owner else None

    def call(_owner: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        kind = type(owner)
        if getattr(kind, name) is known and known is not None:
            return known(owner, *args, **kwargs)
        for base in kind.__mro__:
            if name in vars(base):
                return _binding(vars(base)[name])(owner, *args, **kwargs)
        return method(*args, **kwargs)

    return hide_frame(call)


def _without_owner(method: Method) -> Method:
    """Return a function with an object as first argument, which is not passed to ``method``."""

    def call(_owner: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        return method(*args, **kwargs)

    return hide_frame(call)


def _with_owner(around: Method, owner: object) -> Method:
    """Return a function that calls ``around`` for ``owner`` instead of its first argument."""

    def call(_owner: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        return around(owner, *args, **kwargs)

    return hide_frame(call)


def _bound(around: Method, owner: object) -> Method:
    def bound(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        return around(owner, *args, **kwargs)

    return hide_frame(bound)


def _resolve_path(target: object, path: str) -> tuple[Any, str]:
    *parents, name = path.split(".")
    owner: Any = target
    for parent in parents:
        owner = getattr(owner, parent, None)
        if owner is None:
            return None, name
    if not hasattr(cast("type[Any]", type(owner)), name) and name not in getattr(owner, "__dict__", ()):
        # An object that delegates to others (cohere's raw clients).
        owner = getattr(getattr(owner, name, None), "__self__", owner)
    return owner, name

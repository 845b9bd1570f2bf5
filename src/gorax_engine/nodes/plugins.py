"""Node types of other packages: found by entry point, allowed by name, checked, and run behind a guard.

A package names factories in the entry point group `gorax_engine.nodes`. Only packages that the setting `nodes.plugins`
lists are imported. What is wrong with one of them refuses the start, with the package's name: no plug-in is ever
loaded in part.
"""

import inspect
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeAlias

import anyio

from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import Completed, Failed, Json, NodeKind, NodeSpec, Outcome, StepError, Suspended
from gorax_engine.core.reading.storable import find_malformed
from gorax_engine.errors import ConfigurationError
from gorax_engine.nodes.api import ExpressionError, NodeContext, PluginResources, PureNode, TaskNode
from gorax_engine.nodes.spec_checks import spec_faults
from gorax_engine.telemetry import get_logger

GROUP: Final = "gorax_engine.nodes"
"""The entry point group; a public API that isn't compatible with today's will have another."""
RESERVED: Final = frozenset(
    {
        "action", "ai", "aws", "control", "core", "email", "github", "gorax", "human", "jira", "mongodb", "mysql",
        "pagerduty", "postgres", "slack", "trigger",
    }
)  # fmt: skip
"""Namespaces of the engine's own types and of Gorax's."""
KINDS: Final = (NodeKind.CONTROL, NodeKind.PURE, NodeKind.TASK)
OPEN_TIMEOUT: Final = 30.0
CLOSE_TIMEOUT: Final = 10.0
"""Seconds that a node type may take to open what it needs, and to close it."""

_NAME: Final = re.compile(r"([a-z][a-z0-9_]*)(?::[a-z][a-z0-9_]*)+")
_log = get_logger(__name__)

_Node: TypeAlias = PureNode | TaskNode


@dataclass(frozen=True, slots=True)
class Plugin:
    """A package that adds node types."""

    package: str
    version: str
    nodes: tuple[_Node, ...]


def installed_plugins() -> dict[str, str]:
    """Return the packages that declare node types, by normalised name with version, without importing them."""
    return {name: _version(found[0]) for name, found in sorted(_installed().items())}


def load_plugins(allowed: Sequence[str], resources: PluginResources) -> tuple[Plugin, ...]:
    """Import the `allowed` packages and make their node types.

    Raises ConfigurationError, which names the package, if one is not installed or anything about it is wrong.
    """
    installed = _installed()
    plugins = [_load(name, installed.get(name), resources) for name in dict.fromkeys(map(normalise, allowed))]
    owners: dict[str, str] = {}
    for plugin in plugins:
        for node in plugin.nodes:
            for name in (node.spec.name, *node.spec.aliases):
                if (owner := owners.setdefault(name, plugin.package)) != plugin.package:
                    raise _refusal(plugin.package, f"it claims the name `{name}`, which {owner} claims too")
    return tuple(plugins)


@asynccontextmanager
async def open_plugins(allowed: Sequence[str], resources: PluginResources) -> AsyncIterator[tuple[Plugin, ...]]:
    """Load plug-ins, and keep those of their node types open that are asynchronous context managers.

    Raises ConfigurationError as `load_plugins` does, and if one can't be opened.
    """
    plugins = load_plugins(allowed, resources)
    for package in sorted(installed_plugins().keys() - {plugin.package for plugin in plugins}):
        _log.info("plugin_not_allowed", package=package)
    opened = False
    opening = ""
    with anyio.CancelScope(deadline=anyio.current_time() + OPEN_TIMEOUT) as scope:
        async with AsyncExitStack() as stack:
            for plugin in plugins:
                opening = plugin.package
                for node in plugin.nodes:
                    if isinstance(node, _Guarded):
                        await node.open(stack, plugin.package)
            opened = True
            scope.deadline = math.inf
            try:
                yield plugins
            finally:
                scope.deadline = anyio.current_time() + CLOSE_TIMEOUT
    if scope.cancelled_caught and not opened:
        raise _refusal(opening, f"its node types did not open within {OPEN_TIMEOUT:g} s")
    if scope.cancelled_caught:
        _log.warning("plugins_not_closed", seconds=CLOSE_TIMEOUT)


def normalise(package: str) -> str:
    """Return a package's name as packaging tools compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _installed() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        if entry.dist is not None:
            found.setdefault(normalise(entry.dist.name), []).append(entry)
    return found


def _version(entry: EntryPoint) -> str:
    return entry.dist.version if entry.dist is not None else ""


def _load(package: str, entries: Sequence[EntryPoint] | None, resources: PluginResources) -> Plugin:
    if not entries:
        hint = ", ".join(installed_plugins()) or "none"
        raise _refusal(package, f"it is not installed, or declares none; installed are: {hint}")
    nodes: list[_Node] = []
    names: set[str] = set()
    for entry in entries:
        try:
            made = list(_make(entry, resources))
        except (Exception, SystemExit) as error:
            raise _refusal(package, f"its entry point `{entry.name}` failed: {_text(error)}") from error
        if not made:
            raise _refusal(package, f"its entry point `{entry.name}` gives no node type")
        for node in made:
            guarded = _guard(package, entry.name, node)
            for name in (guarded.spec.name, *guarded.spec.aliases):
                if name in names:
                    raise _refusal(package, f"it claims the name `{name}` twice")
                names.add(name)
            nodes.append(guarded)
    return Plugin(package, _version(entries[0]), tuple(nodes))


def _make(entry: EntryPoint, resources: PluginResources) -> Iterator[Any]:
    """Call a factory, with the resources if it takes an argument; yield what it makes."""
    factory = entry.load()
    if not callable(factory):
        raise TypeError(f"{entry.value} is not a function or class that makes node types")
    made = factory(resources) if _takes_argument(factory) else factory()
    if isinstance(made, list | tuple):
        yield from made
    else:
        yield made


def _takes_argument(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:  # it is written in C and has no signature
        return False
    return False


def _guard(package: str, entry: str, node: Any) -> _Node:
    """Check a node type and put the guard around it."""
    spec = getattr(node, "spec", None)
    if not isinstance(spec, NodeSpec):
        raise _refusal(package, f"its entry point `{entry}` gives a {type(node).__name__} without a `spec`")
    try:
        faults = [*_name_faults(spec), *spec_faults(spec)]
    except Exception as error:
        raise _refusal(package, f"the description of `{spec.name}` can't be read: {_text(error)}") from error
    if spec.kind not in KINDS:
        faults.append(f"its kind must be one of {', '.join(kind.value for kind in KINDS)}")
    method = "run" if spec.kind is NodeKind.TASK else "evaluate"
    function = getattr(node, method, None)
    if not callable(function):
        faults.append(f"a type of kind {spec.kind} needs a method `{method}`")
    elif inspect.iscoroutinefunction(function) is not (method == "run"):
        faults.append(
            "`run` must be a coroutine function" if method == "run" else "`evaluate` must not be one that waits"
        )
    if faults:
        raise _refusal(package, f"the node type `{spec.name}`: {'; '.join(faults)}")
    spec = replace(spec, outcomes=_guarded_outcomes(spec))
    return GuardedTask(node, spec) if spec.kind is NodeKind.TASK else GuardedPure(node, spec)


def _name_faults(spec: NodeSpec) -> Iterator[str]:
    names: tuple[Any, ...] = (spec.name, *spec.aliases)
    for name in names:
        match = _NAME.fullmatch(name) if isinstance(name, str) and len(name) <= 100 else None
        if match is None:
            yield f"`{name}` must have a namespace and be of a-z, 0-9 and _, such as `acme:thing`"
        elif match[1] in RESERVED:
            yield f"`{name}` is in the namespace `{match[1]}`, which is the engine's own"


def _guarded_outcomes(spec: NodeSpec) -> Callable[[Mapping[str, Json]], tuple[str, ...]]:
    """Return the type's outcomes as a function that doesn't raise, for a draft is read with it."""

    def outcomes(config: Mapping[str, Json]) -> tuple[str, ...]:
        try:
            labels: tuple[Any, ...] = tuple(spec.outcomes(config))
        except Exception:  # noqa: BLE001 - whatever is wrong with a plug-in, saving must not depend on it
            _log.exception("outcomes_failed", node_type=spec.name)
            return ()
        return tuple(label for label in labels if isinstance(label, str) and label)

    return outcomes


class _Guarded:
    """What surrounds a plug-in's node type: its faults become failures of the step, never of the engine."""

    def __init__(self, node: Any, spec: NodeSpec) -> None:
        self.spec = spec
        self._node = node

    async def open(self, stack: AsyncExitStack, package: str) -> None:
        """Enter the node type if it is an asynchronous context manager. Raises ConfigurationError."""
        if not isinstance(self._node, AbstractAsyncContextManager):
            return
        try:
            await stack.enter_async_context(self._node)
        except Exception as error:
            raise _refusal(package, f"the node type `{self.spec.name}` can't be opened: {_text(error)}") from error

    def _checked(self, outcome: Any) -> Outcome:
        """Return an outcome that the engine can rely on."""
        if not isinstance(outcome, Completed | Failed | Suspended):
            return _crash(self.spec, f"it returned a {type(outcome).__name__}, which is no outcome")
        value = _error_json(outcome.error) if isinstance(outcome, Failed) else outcome.output
        if find_malformed(value) is not None:
            return _crash(
                self.spec, "what it returned is not plain JSON: null, booleans, finite numbers, text, lists, objects"
            )
        return outcome

    def _failed(self, error: Exception) -> Outcome:
        _log.exception("node_crashed", node_type=self.spec.name)
        return _crash(self.spec, type(error).__name__)


class GuardedPure(_Guarded):
    """A plug-in's node type of kind control or pure."""

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        """Evaluate it; ExpressionError passes."""
        try:
            return self._checked(self._node.evaluate(config, context))
        except (ExpressionError, Unencodable):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of a plug-in is the step's
            return self._failed(error)


class GuardedTask(_Guarded):
    """A plug-in's node type of kind task."""

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        """Run it; ExpressionError and cancellation pass."""
        try:
            return self._checked(await self._node.run(config, context))
        except (ExpressionError, Unencodable):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of a plug-in is the step's
            return self._failed(error)


def _error_json(error: Any) -> Json:
    """Return what must be JSON of a failure. Raises TypeError if it is no StepError."""
    if not isinstance(error, StepError):
        raise TypeError(f"a failure holds a StepError, not a {type(error).__name__}")
    return [error.code, error.message, dict(error.details)]


def _crash(spec: NodeSpec, what: str) -> Failed:
    return Failed(StepError("node_crashed", f"The node type {spec.name} failed: {what.rstrip('.')}."))


def _refusal(package: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The plug-in package {package} can't be used: {what.rstrip('.')}; mend it, or take it from nodes.plugins.",
        code="invalid_plugin",
    )


def _text(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__

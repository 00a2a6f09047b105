"""A module's calls, as torch.fx records them; `graph` turns them into a graph of our own."""

import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from deconvnet.errors import GraphError, reason


def recorded(module: nn.Module, trial: Tensor) -> fx.Graph:
    """The calls that a module makes of images like the trial's.

    Raises:
        GraphError: its way hangs on the images' values, or it fails on them.
    """
    try:
        try:
            return _Tracer(None).trace(module)
        except Exception:  # one whose way hangs on the shapes, which takes a pass to know
            return _Tracer(trial.clone()).trace(module)  # a step may write to it
    except Exception as error:
        raise GraphError(
            f"{type(module).__name__} cannot be traced on images of {list(trial.shape[1:])}: "
            f"{reason(error).splitlines()[0]}. {_remedy(error)}"
        ) from error


def _remedy(error: Exception) -> str:
    if isinstance(error, fx.proxy.TraceError):
        return "Control flow that depends on the image's values must be taken out of forward."
    return "Give the input_size that fits, or take out of forward what cannot be traced."


class _Tracer(fx.Tracer):
    """fx's own, which also looks into modules that are kept in a plain list or dictionary.

    Args:
        trial: images that are sent along: what the module asks of shapes is then told in numbers,
            with which it may choose its way.
    """

    def __init__(self, trial: Tensor | None) -> None:
        super().__init__()
        self._trial = trial
        self._running = False

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if self._running:
            return forward(*args, **kwargs)
        try:
            self.path_of_module(m)
        except NameError:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if self._trial is None:
            return _Value(node, self)
        self._running = True  # modules are run and read as they are, not traced
        try:
            self._value(node)
        finally:
            self._running = False
        return _Sized(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _value(self, node: fx.Node) -> Any:
        if "value" not in node.meta:
            node.meta["value"] = self._run(node)
        return node.meta["value"]

    def _run(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return node.args[0] if node.args else self._trial
        if node.op == "get_attr":
            return attribute(self.root, str(node.target))
        return call(self.root, node, *fx.node.map_arg((node.args, dict(node.kwargs)), self._value))


def _written(operation: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def record(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return record


class _Value(fx.Proxy):
    """A value during tracing; `x += y` writes to x, as it does with a tensor.

    Without these operators Python would make `x = x + y` of it, and what shares x's memory would
    keep its values.
    """

    __iadd__, __isub__ = _written(operator.iadd), _written(operator.isub)
    __imul__, __itruediv__ = _written(operator.imul), _written(operator.itruediv)
    __ipow__ = _written(operator.ipow)


# What is told of a tensor in numbers, without a look at its values.
_TOLD = ("shape", "size", "dim", "ndim", "ndimension", "numel", "dtype", "device", "is_cuda")


class _Sized(_Value):
    """A value whose shape is known."""

    def __getattr__(self, name: str) -> Any:
        if name in _TOLD:
            return getattr(self.node.meta["value"], name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.node.meta["value"])


def call(module: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    """What a call site gives."""
    called: Any = node.target
    if node.op == "call_method":
        called, args = getattr(args[0], str(node.target)), args[1:]
    elif node.op == "call_module":
        called = module.get_submodule(str(node.target))
    return called(*args, **kwargs)


def attribute(module: nn.Module, path: str) -> Any:
    """What stands at a dotted path."""
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value


_WRAPPERS = {
    "DataParallel": "its .module",
    "DistributedDataParallel": "its .module",
    "OptimizedModule": "the module that torch.compile was given (its ._orig_mod)",
    "RecursiveScriptModule": "the module that it was made from",
    "TopLevelTracedModule": "the module that it was made from",
}


def require_traceable(module: Any, input_size: Any) -> None:
    """Refuse what is no network with numbers, or no size.

    Raises:
        GraphError: it says what to give instead.
    """
    if not isinstance(module, nn.Module):
        raise GraphError(f"The network is {module!r:.80}, expected a torch.nn.Module.")
    inner = _WRAPPERS.get(type(module).__name__)
    if inner is not None:
        raise GraphError(f"{type(module).__name__} hides the network from a trace; give {inner}.")
    for name, part in module.named_modules():
        if is_parametrized(part):
            which = next(iter(part.parametrizations))
            place = name or type(module).__name__
            raise GraphError(
                f"'{which}' of '{place}' is computed by a parametrization (weight_norm, "
                "spectral_norm); make it a plain parameter with "
                f"torch.nn.utils.parametrize.remove_parametrizations(part, '{which}')."
            )
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_meta or nn.parameter.is_lazy(value):
            raise GraphError(
                f"'{name}' of {type(module).__name__} has no numbers yet (it is "
                f"{'lazy' if nn.parameter.is_lazy(value) else 'on the meta device'}); give the "
                "module its weights first."
            )
    if (
        not isinstance(input_size, tuple | list)
        or len(input_size) != 3
        or not all(isinstance(n, int) and n > 0 for n in input_size)
    ):
        raise GraphError(f"input_size is {input_size!r}, expected (channels, height, width).")

"""From an nn.Module, through what `tracing` records with torch.fx, to a graph of our own.

There is one node per call site, so functional, in-place, shared and reused ReLUs and pools are all
seen. The caller's module is not changed: the graph works on a copy of its structure, in eval mode,
that shares its parameters. Before a graph is handed out, it is run beside the module on the same
input and must give the same output.

Call sites are named after the module ("features.0"); its second call is "features.0:2"; a function
is named after the module around it ("inception4e.branch1.relu", "layer1.0.add").
"""

import inspect
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from deconvnet.errors import GraphError, UnknownOpError, nearest, reason
from deconvnet.geometry.region import INPUT
from deconvnet.graph.canonicalise import as_maps
from deconvnet.graph.fx import attribute, call, recorded, require_traceable
from deconvnet.graph.nodes import Graph, Node, like, prune, run
from deconvnet.graph.verify import buffers_kept, eval_copy, verify
from deconvnet.ops import (
    activation,
    channels,
    conv,
    elementwise,
    linear,
    norm,
    pad,
    pool,
    reduce,
    resample,
    shape,
)  # fmt: skip
from deconvnet.ops.base import Op, builder_for, known
from deconvnet.ops.channels import Permute
from deconvnet.ops.shape import Identity, Reshape
from deconvnet.precision import exact

# Importing a family enters its builders in the op table.
_FAMILIES = (
    activation, channels, conv, elementwise, linear, norm, pad, pool, reduce, resample, shape,
)  # fmt: skip
_BATCH = 2  # of the trial run: a batch dimension is told from a literal 1


@dataclass(frozen=True)
class _Ref:
    """A graph value during tracing: its node and its shape with the trial batch."""

    node: int
    shape: torch.Size


class _Builder:
    """Walks an fx graph once, running each op on a trial batch to learn the shapes."""

    def __init__(self, module: nn.Module, trial: Tensor) -> None:
        self.module = module
        self.nodes = [Node("input", None, (), tuple(trial.shape[1:]))]
        self.values: dict[fx.Node, Any] = {}
        self.trial = trial
        self.names: Counter[str] = Counter()
        self.storage: dict[int, int] = {INPUT: INPUT}  # node → node that owns its memory
        self.latest: dict[int, int] = {}  # mutated node → node that holds its value now
        self.results: dict[int, Tensor] = {INPUT: trial}
        self.output: _Ref | None = None
        self.own = {id(t) for t in (*module.parameters(), *module.buffers())}
        self.read: dict[int, Tensor] = {}  # those of them that constants were computed from

    def build(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            try:
                self._visit(node)
            except UnknownOpError as error:
                raise UnknownOpError(f"At '{self._label(node)}': {error}") from error

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if any(isinstance(value, _Ref) for value in self.values.values()):
                if not node.args:
                    raise GraphError(
                        f"The module takes a second input '{node.name}'; expected one."
                    )
                self.values[node] = node.args[0]
                return
            self.values[node] = _Ref(INPUT, self.trial.shape)
        elif node.op == "get_attr":
            self.values[node] = attribute(self.module, str(node.target))
        elif node.op == "output":
            result = self._look_up(node.args[0])
            if not isinstance(result, _Ref):
                if isinstance(result, Tensor):
                    raise GraphError("The module's output does not depend on its input.")
                raise GraphError(
                    f"The module returns a {type(result).__name__}, expected one tensor. "
                    "Wrap it in a module that returns its logits."
                )
            if result.node == INPUT:
                raise GraphError("The module returns its input as it is; there is nothing to see.")
            self.output = result
        else:
            self.values[node] = self._call(node)

    def _look_up(self, argument: Any) -> Any:
        def resolve(node: fx.Node) -> Any:
            value = self.values[node]
            if isinstance(value, _Ref) and value.node in self.latest:
                return self.latest_ref(value)
            return value

        return fx.node.map_arg(argument, resolve)

    def latest_ref(self, ref: _Ref) -> _Ref:
        """The value that a tensor has after in-place operations on it or on what it shares."""
        place = ref.node
        while place in self.latest:
            place = self.latest[place]
        before, after = self.nodes[ref.node], self.nodes[place]
        if before.shape == after.shape:
            return _Ref(place, ref.shape)
        view = self._add(before.name, Reshape(after.shape, before.shape), [_Ref(place, ref.shape)])
        self.storage[view.node] = self.storage[place]
        self.latest[ref.node] = view.node
        return view

    def _call(self, node: fx.Node) -> Any:
        args = self._look_up(node.args)
        kwargs = self._look_up(dict(node.kwargs))
        refs = [a for a in _flatten((args, kwargs)) if isinstance(a, _Ref)]
        if not refs:
            return self._fold(node, args, kwargs)
        if node.target in (operator.getitem, getattr) and isinstance(args[0], tuple):
            return _one_of(args[0], args[1])
        shape_only = self._shape_query(node, args, kwargs)
        if shape_only is not None:
            return shape_only
        key: Any = node.target
        if node.op == "call_module":
            called = self.module.get_submodule(str(node.target))
            key = type(called)
            args = (called, *args)
        builder = builder_for(key)
        kwargs = {name: value for name, value in kwargs.items() if not _idle(name, value)}
        if builder is None:
            raise UnknownOpError(self._unknown(key))
        try:
            made = builder(*args, **kwargs)
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            raise UnknownOpError(
                f"this call is unknown to the op table: {reason(error)}. Replace it."
            ) from error
        label = self._label(node)
        if isinstance(made, list):
            return tuple(self._add(label, op, self._before(label, inputs)) for op, inputs in made)
        op, inputs = made[0], self._before(label, made[1])
        if not all(isinstance(value, _Ref) for value in inputs):
            raise UnknownOpError(
                "a constant stands where a map is expected. Compute it outside of forward."
            )
        ref = self._add(label, op, inputs)
        self._alias(node, ref, inputs, args, kwargs)
        return ref

    def _before(self, label: str, inputs: list[Any]) -> list[Any]:
        """What a step reads; steps of our own before a call site are taken first."""
        return [self._own(label, *one) if isinstance(one, tuple) else one for one in inputs]

    def _own(self, label: str, op: Op, inputs: list[Any]) -> _Ref:
        name = op.kind.replace(" ", "_")
        return self._add(f"{label}.{name}", op, self._before(label, inputs))

    def _unknown(self, key: Any) -> str:
        name = key if isinstance(key, str) else getattr(key, "__name__", str(key))
        return (
            f"operation '{name}' is not in the op table; {nearest(name, known())}. "
            "Replace it, or give it an op with deconvnet.ops.register."
        )

    def _add(self, label: str, op: Op, inputs: list[Any]) -> _Ref:
        try:
            value = op.forward(*(self.results[ref.node] for ref in inputs))
        except RuntimeError as error:
            given = " and ".join(str(list(ref.shape[1:])) for ref in inputs)
            raise GraphError(
                f"'{label}' cannot take {given}, which an input of {list(self.nodes[INPUT].shape)} "
                f"leads to: {reason(error).splitlines()[0]}. Give the input_size that fits."
            ) from error
        if value.shape[0] != _BATCH:
            raise GraphError(f"'{label}' changes the batch dimension; images must stay apart.")
        self.names[label] += 1
        name = label if self.names[label] == 1 else f"{label}:{self.names[label]}"
        places = tuple(ref.node for ref in inputs)
        self.nodes.append(Node(name, op, places, tuple(value.shape[1:])))
        place = len(self.nodes) - 1
        self.storage[place] = place
        self.results[place] = value
        return _Ref(place, value.shape)

    def _alias(self, node: fx.Node, ref: _Ref, inputs: list[Any], args: Any, kwargs: Any) -> None:
        """Note which values share memory, and which one an in-place call replaces."""
        source = inputs[0].node
        copied = _name(node) in ("clone", "contiguous")
        if isinstance(self.nodes[ref.node].op, Identity | Permute | Reshape) and not copied:
            self.storage[ref.node] = self.storage[source]
        if self._in_place(node, args, kwargs):
            owner = self.storage[source]
            for place, root in list(self.storage.items()):
                if root == owner and place != ref.node and place not in self.latest:
                    self.latest[place] = ref.node
            self.storage[ref.node] = ref.node

    def _in_place(self, node: fx.Node, args: Any, kwargs: Any) -> bool:
        if node.op == "call_module":
            dropout = isinstance(self.nodes[-1].op, Identity)
            return bool(getattr(args[0], "inplace", False)) and not dropout
        name = _name(node)
        if "dropout" in name:
            return False
        asked = kwargs.get("inplace", _given(node.target, args).get("inplace", False))
        written = name.endswith("_") and not name.endswith("__")
        return bool(asked) or written or name in ("iadd", "isub", "imul", "itruediv", "ipow")

    def _shape_query(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        first = args[0] if args else None
        if not isinstance(first, _Ref):
            return None
        name = _name(node)
        if name == "size":
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            return first.shape if dim is None else first.shape[dim]
        if name in ("dim", "ndimension"):
            return len(first.shape)
        if name == "getattr" and args[1] in ("shape", "device", "dtype", "ndim"):
            if args[1] == "ndim":
                return len(first.shape)
            return first.shape if args[1] == "shape" else getattr(self.trial, args[1])
        return None

    def _fold(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """A call that does not depend on the image is made once, here."""
        called = []
        if node.op == "call_module":
            called = list(self.module.get_submodule(str(node.target)).parameters())
        self.read.update(
            (id(value), value)
            for value in (*called, *_flatten((args, kwargs)))
            if isinstance(value, Tensor) and id(value) in self.own
        )
        try:
            return call(self.module, node, args, kwargs)
        except Exception as error:  # the module's own code: anything
            raise GraphError(f"'{self._label(node)}' fails: {reason(error)}.") from error

    def _label(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return str(node.target)
        name = _name(node).strip("_")
        if name == "fn":  # torch's max_pool2d hides behind a dispatcher of this name
            name = node.name.rsplit("_", 1)[0] if node.name[-1].isdigit() else node.name
            name = "max_pool2d" if name.startswith("max_pool2d") else name
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        around = stack[-1][0] if stack else ""
        return f"{around}.{name}" if around else name


def _one_of(given: tuple[Any, ...], which: Any) -> Any:
    """Of the values that one call gave: by its place, or a maximum by its name."""
    try:
        return given[0 if which == "values" else which]
    except (IndexError, TypeError) as error:
        raise UnknownOpError(
            f"of what this call gives, {which!r} is unknown; expected one of the {len(given)} maps."
        ) from error


def _idle(name: str, value: Any) -> bool:
    """Whether an argument is one that many functions have and that asks for nothing."""
    return value is None and name in ("out", "dtype")


def _name(node: fx.Node) -> str:
    """What a call site calls: a function's or method's name, a module's path."""
    return str(getattr(node.target, "__name__", node.target))


def _given(function: Any, args: Any) -> dict[str, Any]:
    """Arguments by their names, of a function that tells them."""
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return dict(zip(names, args, strict=False))


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        for item in value:
            yield from _flatten(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _flatten(item)
    else:
        yield value


@torch.no_grad()
@exact
def build(module: nn.Module, input_size: tuple[int, int, int]) -> Graph:
    """The graph of a module.

    Raises:
        GraphError: it cannot be traced, or the graph does not reproduce it.
        UnknownOpError: an operation is not in the op table.
    """
    require_traceable(module, input_size)
    copied = eval_copy(module)
    generator = torch.Generator().manual_seed(0)
    trial = torch.randn(_BATCH, *input_size, generator=generator).to(like(copied))
    builder = _Builder(copied, trial)
    with buffers_kept(copied):
        builder.build(recorded(copied, trial))
        assert builder.output is not None
        final = builder.output.node
        verify(copied, trial, builder.results[final])
        traced = prune(builder.nodes, final)
        nodes = as_maps(traced)
        if nodes != traced:
            verify(copied, trial, run(nodes, trial))
    return Graph(copied, tuple(nodes), tuple(builder.read.values()))

"""The deconvnet and occlusion by Captum's conventions: `X(module).attribute(inputs, …)`.

Attributions have the shape of the inputs. As in Captum the seed is 1, so that a gradient is a
gradient; `deconvnet.project` seeds with the activation's height. Give the parameters by keyword.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from deconvnet.address import natural
from deconvnet.errors import InputError, ParameterError
from deconvnet.execution.forward import check_input, record
from deconvnet.graph.network import Network
from deconvnet.graph.trace import trace
from deconvnet.graph.verify import eval_copy
from deconvnet.ops.base import Norm, Rule
from deconvnet.precision import exact
from deconvnet.projection.descend import descend
from deconvnet.projection.project import strongest

Target = int | Sequence[int] | Tensor | None


def _targets(target: Target, count: int, classes: int) -> Tensor:
    """A class per example, int64 [n]."""
    if target is None:
        if classes != 1:
            raise ParameterError(f"target is None, but there are {classes} outputs; name one.")
        target = 0
    try:
        given = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        given = torch.empty(0)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ParameterError(f"target is {target!r}, expected a class, or one for each example.")
    picked = given.to("cpu", torch.int64).reshape(-1)
    if len(picked) == 1:
        picked = picked.expand(count)
    if len(picked) != count:
        raise ParameterError(
            f"{len(picked)} targets for {count} examples; give one, or one for each."
        )
    if int(picked.min()) < 0 or int(picked.max()) >= classes:
        raise ParameterError(f"target is {target}, expected 0 to {classes - 1}.")
    return picked


def _whole_numbers(given: Any) -> tuple[int, ...]:
    """Numbers from 0, one or several; none at all where one of them is something else."""
    numbers = [natural(n) for n in (given if isinstance(given, Sequence) else [given])]
    return tuple(n for n in numbers if n is not None) if None not in numbers else ()


def _baseline(inputs: Tensor, baselines: Any) -> Tensor:
    """What hides the inputs, in their shape."""
    try:
        return torch.as_tensor(baselines, dtype=inputs.dtype).to(inputs).expand_as(inputs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(
            f"baselines is {baselines!r:.80}, expected a number, or a tensor that broadcasts to "
            f"{list(inputs.shape)}."
        ) from error


class Deconvnet:
    """Projection of an output or of a neuron to the inputs.

    Args:
        module: it is not changed.
        rule: "deconv", "guided" or "gradient".
        lrn: local response normalisation on the way down, "identity" or "gradient".
    """

    def __init__(self, module: nn.Module, rule: Rule = "deconv", lrn: Norm = "identity") -> None:
        self.module, self.rule, self.lrn = module, rule, lrn
        self._traced: dict[tuple[int, ...], Network] = {}

    def _network(self, inputs: Tensor) -> Network:
        shape = tuple(inputs.shape[1:])
        if len(shape) != 3:
            raise ParameterError(f"inputs are {list(inputs.shape)}, expected [n, c, h, w].")
        if shape not in self._traced:
            self._traced[shape] = trace(self.module, (shape[0], shape[1], shape[2]))
        return self._traced[shape]

    def _layer_name(self, net: Network, layer: str | nn.Module) -> str:
        if isinstance(layer, str):
            return layer
        for name, module in self.module.named_modules():
            if module is layer:
                if f"{name}:2" in net.place:
                    raise ParameterError(
                        f"layer is '{name}', which is called several times; name the call site: "
                        f"'{name}', '{name}:2', …."
                    )
                return str(name)
        raise ParameterError("layer is a module that is not part of the network.")

    @exact
    def attribute(
        self,
        inputs: Tensor,
        target: Target = None,
        layer: str | nn.Module | None = None,
        neuron: int | tuple[int, ...] | None = None,
    ) -> Tensor:
        """Attributions in the shape of the inputs, [n, c, h, w].

        Args:
            target: the output's class, for all examples or one each, where `layer` is None.
            layer, neuron: a call site (or module) and a position in it, (channel, y, x); a channel
                alone is followed at its strongest position in each example.
        """
        net = self._network(inputs)
        x = check_input(net, inputs)
        name = net.nodes[-1].name if layer is None else self._layer_name(net, layer)
        recorded = record(net, x, [name], self.rule, self.lrn)
        maps = recorded.activations[name]
        if layer is None:
            if maps.dim() != 2:
                raise ParameterError("The output is not [n, classes]; give layer and neuron.")
            channels = _targets(target, len(x), maps.shape[1])
            places = [(0, 0)] * len(x)
        else:
            channels, places = self._neuron(maps, neuron)
        rows = torch.arange(len(x))
        ys, xs = (torch.tensor([place[axis] for place in places]) for axis in (0, 1))
        found = descend(net, recorded, name, rows, channels, ys, xs, torch.ones(len(x)).to(x))
        return found.to(inputs)

    def _neuron(
        self, maps: Tensor, neuron: int | tuple[int, ...] | None
    ) -> tuple[Tensor, list[tuple[int, int]]]:
        if neuron is None:
            raise ParameterError("neuron is None; give a channel, or (channel, y, x).")
        index = _whole_numbers(neuron)
        shape = maps.shape[1:]
        if len(index) not in (1, len(shape)) or any(
            i >= n for i, n in zip(index, shape, strict=False)
        ):
            raise ParameterError(f"neuron is {neuron}, expected a position in {list(shape)}.")
        channels = torch.full((len(maps),), index[0])
        if len(shape) == 1:
            return channels, [(0, 0)] * len(maps)
        if len(index) == 1:
            return channels, [strongest(one[index[0]]) for one in maps]
        return channels, [(index[1], index[2])] * len(maps)


class Occlusion:
    """How much the output falls when a window of the input is replaced by a baseline.

    Args:
        module: any callable from [n, …] to [n, classes]; it is not changed. One in training is
            treated as in eval mode.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor,
        target: Target = None,
        sliding_window_shapes: tuple[int, ...] = (),
        strides: int | tuple[int, ...] | None = None,
        baselines: float | Tensor | None = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Tensor:
        """Attributions in the shape of the inputs: per value, the mean fall over its windows.

        Args:
            sliding_window_shapes: of the window, without the batch: (3, 8, 8).
            strides: of the window, per dimension or one for all; None: 1.
            baselines: what the window shows; a number, or a tensor that broadcasts. None: 0.
            perturbations_per_eval: windows run together.
        """
        if not isinstance(inputs, Tensor):
            raise InputError(f"inputs is a {type(inputs).__name__}, expected a tensor [n, …].")
        shape = tuple(inputs.shape[1:])
        window = _whole_numbers(sliding_window_shapes)
        if len(window) != len(shape) or any(
            not 1 <= w <= n for w, n in zip(window, shape, strict=False)
        ):
            raise ParameterError(
                f"sliding_window_shapes is {sliding_window_shapes}, expected one size per "
                f"dimension of {shape}."
            )
        steps = (1,) * len(shape) if strides is None else _whole_numbers(strides)
        if not isinstance(strides, Sequence | None):
            steps = steps * len(shape)
        if len(steps) != len(shape) or any(
            not 1 <= s <= w for s, w in zip(steps, window, strict=False)
        ):
            raise ParameterError(f"strides is {strides}, expected 1 to the window's {window}.")
        if not natural(perturbations_per_eval):
            raise ParameterError(
                f"perturbations_per_eval is {perturbations_per_eval}, expected ≥ 1."
            )
        base = _baseline(inputs, 0.0 if baselines is None else baselines)
        covers = _covers(shape, window, steps)
        run = eval_copy(self.module) if _in_training(self.module) else self.module
        clean = run(inputs)
        clean = clean if clean.dim() > 1 else clean[:, None]
        classes = _targets(target, len(inputs), clean.shape[1]).to(inputs.device)
        picked = clean.gather(1, classes[:, None])[:, 0]
        total, weight = torch.zeros_like(inputs), torch.zeros_like(inputs[:1])
        bar = tqdm(total=len(covers), desc="occlusion", disable=not show_progress)
        for start in range(0, len(covers), perturbations_per_eval):
            part = covers[start : start + perturbations_per_eval]
            fall = picked - self._occluded(run, inputs, base, part, classes)
            for cover, difference in zip(part, fall, strict=True):
                total[(slice(None), *cover)] += difference.view(-1, *(1,) * len(shape))
                weight[(slice(None), *cover)] += 1
            bar.update(len(part))
        bar.close()
        return total / weight

    def _occluded(
        self,
        run: Callable[[Tensor], Tensor],
        inputs: Tensor,
        base: Tensor,
        part: Sequence[tuple[slice, ...]],
        classes: Tensor,
    ) -> Tensor:
        """[windows, n]: the targets' outputs with each window hidden."""
        copies = inputs.unsqueeze(0).repeat(len(part), *(1,) * inputs.dim())
        for copy, cover in zip(copies, part, strict=True):
            copy[(slice(None), *cover)] = base[(slice(None), *cover)]
        outputs = run(copies.flatten(0, 1))
        outputs = outputs.reshape(len(part), len(inputs), -1)
        return outputs.gather(2, classes.expand(len(part), -1)[..., None])[..., 0]


def _in_training(module: Any) -> bool:
    return isinstance(module, nn.Module) and any(part.training for part in module.modules())


def _covers(
    shape: tuple[int, ...], window: tuple[int, ...], steps: Sequence[int]
) -> list[tuple[slice, ...]]:
    """Every place of the window; the last along a dimension is cut at the border, as in Captum."""
    axes: list[list[slice]] = []
    for length, size, step in zip(shape, window, steps, strict=True):
        count = math.ceil((length - size) / step) + 1
        axes.append([slice(i * step, min(i * step + size, length)) for i in range(count)])
    return list(itertools.product(*axes))


__all__: list[Any] = ["Deconvnet", "Occlusion"]

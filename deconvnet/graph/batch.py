"""A batch of images as a network takes it: checked, on its device, in its precision."""

import torch
from torch import Tensor

from deconvnet.errors import GraphError, InputError
from deconvnet.graph.network import Network


def check_input(net: Network, x: Tensor) -> Tensor:
    """`checked`, in the layout that suits the network: the whole batch is read and written."""
    return checked(net, x).contiguous(memory_format=torch.channels_last)


def checked(net: Network, x: Tensor) -> Tensor:
    """The batch on the network's device, in its precision.

    Args:
        x: [n, c, h, w], or [c, h, w] for one image.

    Raises:
        InputError: another shape, NaN or infinity among the values, or a tensor of another kind.
        GraphError: the network's parameters have gone to another device or precision.
    """
    if not isinstance(net, Network):
        raise InputError(
            f"The network is a {type(net).__name__}, expected a dn.Network; dn.trace(module, "
            "input_size) makes one of a torch.nn.Module."
        )
    if not isinstance(x, Tensor):
        raise InputError(f"The input is a {type(x).__name__}, expected a tensor [n, c, h, w].")
    if x.dim() == 3:
        x = x.unsqueeze(0)
    if tuple(x.shape[1:]) != tuple(net.input_size) or x.shape[0] == 0:
        size = ", ".join(map(str, net.input_size))
        raise InputError(
            f"The input is {list(x.shape)}, expected [n, {size}] for {net.name}; "
            "net.preprocess(image) gives it."
        )
    here = (net.device, net.dtype)
    if here != net.made_in:
        raise GraphError(
            f"The parameters of {net.name} are {_spelt(here)} now, and were {_spelt(net.made_in)} "
            "when it was traced; trace it again, or make the Deconvnet anew."
        )
    if x.is_complex() or x.layout != torch.strided or x.is_meta:
        raise InputError(
            f"The input is a tensor of {x.dtype}, {x.layout}, on {x.device}; expected real numbers "
            "in a dense tensor."
        )
    x = x.detach().to(*here)
    if not finite(x):
        raise InputError("The input holds NaN or infinity; preprocess the image again.")
    net.follow()
    return x


def _spelt(place: tuple[torch.device, torch.dtype]) -> str:
    return f"{place[1]} on {place[0]}"


def finite(x: Tensor) -> bool:
    """Whether there is no NaN or infinity: they survive a sum, which is the cheaper test."""
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())

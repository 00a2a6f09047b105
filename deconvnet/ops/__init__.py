"""The op table: importing this package fills it, one file per family."""

from deconvnet.ops import (
    across,
    activation,
    border,
    conv,
    group,
    linear,
    merge,
    norm,
    order,
    pool,
    relu,
    shape,
    whole,
)
from deconvnet.ops.base import RULES, Op, Rule, Way, builder_for, known, register

__all__ = [
    "RULES",
    "Op",
    "Rule",
    "Way",
    "across",
    "activation",
    "border",
    "builder_for",
    "conv",
    "group",
    "known",
    "linear",
    "merge",
    "norm",
    "order",
    "pool",
    "register",
    "relu",
    "shape",
    "whole",
]

"""The op table: importing this package fills it, one file per family."""

from deconvnet.ops import conv, linear, merge, norm, pool, relu, shape
from deconvnet.ops.base import RULES, Op, Rule, Way, builder_for, known, register

__all__ = [
    "RULES",
    "Op",
    "Rule",
    "Way",
    "builder_for",
    "conv",
    "known",
    "linear",
    "merge",
    "norm",
    "pool",
    "register",
    "relu",
    "shape",
]

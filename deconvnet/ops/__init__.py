"""Operations, one file a family. `graph.build` fills the op table by importing them."""

from deconvnet.ops.base import RULES, BackwardRule, Op, Rule, register

__all__ = ["RULES", "BackwardRule", "Op", "Rule", "register"]

"""Guided backpropagation: R ← max(R, 0) · [y > 0] at a ReLU whose forward output was y.

Sharper than the deconvnet where there are no pools, and nearly independent of the class (Nie et al.
2018). Source: Springenberg et al. 2014, arXiv:1412.6806, section 3.4.
"""

from deconvnet.methods.base import register
from deconvnet.methods.projection import Descent


class Guided(Descent):
    """Guided backpropagation of one unit."""

    name = "guided"
    rule = "guided"
    title = "Guided backpropagation"
    source = "Springenberg et al. 2014, arXiv:1412.6806"


register(Guided())

"""The gradient of the activation times its height: R ← R · [y > 0] at a ReLU with forward output y.

Contrast normalisation is passed by unless asked for, as in the other rules, so that they compare.
Source: Simonyan et al. 2013, arXiv:1312.6034, section 3.
"""

from deconvnet.methods.base import register
from deconvnet.methods.projection import Descent


class Gradient(Descent):
    """Gradient of one unit."""

    name = "gradient"
    rule = "gradient"
    title = "Gradient"
    source = "Simonyan et al. 2013, arXiv:1312.6034, section 3"


register(Gradient())

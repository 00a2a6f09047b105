"""The deconvnet: the reconstruction R is rectified at every ReLU, R ← max(R, 0).

It shows which input structure, given where the maxima were, made the activation. It depends on the
forward pass through the switches only; much of what it shows is theirs (Mahendran & Vedaldi 2016).
Source: Zeiler & Fergus 2013, arXiv:1311.2901, section 2.1.
"""

from deconvnet.methods.base import register
from deconvnet.methods.projection import Descent


class Deconv(Descent):
    """Deconvnet projection of one unit."""

    name = "deconv"
    rule = "deconv"
    title = "Deconvnet projection"
    source = "Zeiler & Fergus 2013, arXiv:1311.2901, section 2.1"


register(Deconv())

"""Methods of explanation; importing this package registers those that come with the toolkit."""

from deconvnet.methods import deconv, gradient, guided, occlusion
from deconvnet.methods.base import (
    Explanation,
    Method,
    Misfit,
    Params,
    Target,
    all_methods,
    get,
    names,
    register,
    unregister,
)

__all__ = [
    "Explanation",
    "Method",
    "Misfit",
    "Params",
    "Target",
    "all_methods",
    "deconv",
    "get",
    "gradient",
    "guided",
    "names",
    "occlusion",
    "register",
    "unregister",
]

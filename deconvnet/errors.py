"""Everything this library raises on purpose, in one tree.

DeconvnetError
├── AddressError          a unit or layer name that does not parse, or is not in the network
├── GraphError            a module that cannot be turned into a graph
│   └── UnknownOpError    … because an operation is not in the op table
├── ProjectionError       an activation that cannot be projected: no path, NaN
├── WeightsError          weights that cannot be found, read or fitted to the architecture
├── ModelError            a model that is not in the zoo, or a file that does not build one
├── InputError            an image or tensor that cannot serve as input
├── ParameterError        a parameter outside what the method takes
├── DatasetError          a dataset that cannot be opened, or has no images
├── IndexError_           an index that is missing, foreign, corrupt or incomplete
└── ClientError           what a server did not do for `deconvnet.client`, drawn there

Each message says the subject, the value, what was expected, and the remedy.
"""

import difflib
import re
from collections.abc import Iterable


class DeconvnetError(Exception):
    """Root of the tree; catching it catches every deliberate refusal.

    Attributes:
        code: a stable word for programs.
    """

    code: str = "deconvnet_error"


class AddressError(DeconvnetError, ValueError):
    """A unit or layer that does not parse or does not exist."""

    code = "address_error"


class GraphError(DeconvnetError):
    """A module that cannot be traced or whose graph does not reproduce it."""

    code = "graph_error"


class UnknownOpError(GraphError):
    """An operation that the op table does not know."""

    code = "unknown_op_error"


class ProjectionError(DeconvnetError):
    """An activation that cannot be taken down to the pixels."""

    code = "projection_error"


class WeightsError(DeconvnetError):
    """Weights that are missing, unreadable or of another architecture."""

    code = "weights_error"


class ModelError(DeconvnetError):
    """An unknown model or a file that does not build one."""

    code = "model_error"


class InputError(DeconvnetError, ValueError):
    """An input the network cannot take."""

    code = "input_error"


class ParameterError(DeconvnetError, ValueError):
    """A parameter outside its range."""

    code = "parameter_error"


class DatasetError(DeconvnetError):
    """A dataset that cannot be opened or is empty."""

    code = "dataset_error"


class IndexError_(DeconvnetError):
    """An index that is missing, foreign, corrupt or incomplete."""

    code = "index_error"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a missing name: the closest known ones, else the first few of all."""
    names = list(dict.fromkeys(known))
    if not names:
        return "there is none"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(close)}"
    shown = ", ".join(names[:12])
    return f"known: {shown}{', …' if len(names) > 12 else ''}"


def reason(error: BaseException) -> str:
    """What another library's error says, in words that are the same on every run.

    Addresses of objects are taken out; an error without words is named after its kind.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = re.sub(r"\s*<[^<>]* at 0x[0-9a-f]+>|\s*at 0x[0-9a-f]+", "", str(error))
    return text.strip().rstrip(".") or type(error).__name__

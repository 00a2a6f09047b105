"""How one unit is spelled, everywhere: in URLs, on the command line, in files and in logs."""

import re
from dataclasses import dataclass, replace
from operator import index
from typing import Any

from deconvnet.errors import AddressError

_NUMBER = "[0-9]{1,9}"
_LAYER = r"[^\s@]+"
_UNIT = re.compile(
    rf"(?P<layer>{_LAYER}):(?P<channel>{_NUMBER})(?:@(?P<y>{_NUMBER}),(?P<x>{_NUMBER}))?"
)


def natural(value: Any) -> int | None:
    """A number from 0 as Python's own integer, NumPy's and torch's too; None for anything else."""
    try:
        number = -1 if isinstance(value, bool) else int(index(value))
    except TypeError:
        number = -1
    return number if number >= 0 else None


def spells_layer(name: Any) -> bool:
    """Whether units of a layer of this name can be spelled."""
    return isinstance(name, str) and re.fullmatch(_LAYER, name) is not None


@dataclass(frozen=True, order=True)
class Unit:
    """A channel of a layer, at one position of its map or wherever it is strongest.

    Attributes:
        layer: a landmark ("conv3") or a call site ("layer1.0.relu:2").
        channel: from 0.
        y, x: position in the layer's map, from 0; both or neither.
    """

    layer: str
    channel: int
    y: int | None = None
    x: int | None = None

    def __post_init__(self) -> None:
        for name in ("channel", "y", "x"):
            value = getattr(self, name)
            if value is None and name != "channel":
                continue
            number = natural(value)
            if number is None:
                raise AddressError(
                    f"A unit of '{self.layer}' has {name} {value!r}; expected a number from 0."
                )
            object.__setattr__(self, name, number)
        if (self.y is None) != (self.x is None):
            raise AddressError(
                f"Unit '{self.layer}:{self.channel}' has one coordinate; give y and x."
            )

    @classmethod
    def parse(cls, text: object) -> "Unit":
        """The unit that `text` spells, "conv3:117" or "conv3:117@12,30".

        Raises:
            AddressError: the text is no unit.
        """
        if isinstance(text, Unit):
            return text
        match = _UNIT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise AddressError(
                f"'{str(text)[:80]}' is not a unit; expected layer:channel or layer:channel@y,x, "
                "such as conv3:117 or conv3:117@12,30."
            )
        y, x = match["y"], match["x"]
        position = (None, None) if y is None or x is None else (int(y), int(x))
        return cls(match["layer"], int(match["channel"]), *position)

    def at(self, y: int, x: int) -> "Unit":
        """The same channel at a given position."""
        return replace(self, y=y, x=x)

    def __str__(self) -> str:
        where = "" if self.y is None else f"@{self.y},{self.x}"
        return f"{self.layer}:{self.channel}{where}"

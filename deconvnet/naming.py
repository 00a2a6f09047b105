"""Names for things that may be called alike."""

from collections.abc import Iterable, Iterator
from itertools import count


def distinct(names: Iterable[str]) -> list[str]:
    """Each name once: a second "a.png" is "a.png (2)", a third "a.png (3)"."""
    taken: set[str] = set()
    numbers: dict[str, Iterator[int]] = {}
    made = []
    for name in names:
        number = numbers.setdefault(name, count(2))
        other = name
        while other in taken:
            other = f"{name} ({next(number)})"
        taken.add(other)
        made.append(other)
    return made

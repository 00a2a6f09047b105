"""Progress of long work: a bar in the terminal, and a function of the caller's."""

from collections.abc import Callable

from tqdm import tqdm

OnProgress = Callable[[str, int, int], None]  # phase, done, of how many
_WORDS = {"scan": ("indexing", "img"), "draw": ("projecting", "hit")}


class Reporter:
    """A progress bar with its rate and time left, and a caller's function.

    Args:
        phase: "scan" or "draw".
        done, total: where it begins, and where it ends.
        shown: whether there is a bar.
        call: told the phase, how many are done and of how many, at each step.
    """

    def __init__(
        self, phase: str, done: int, total: int, shown: bool, call: OnProgress | None
    ) -> None:
        self._phase, self._done, self._total, self._call = phase, done, total, call
        what, unit = _WORDS[phase]
        self._bar = tqdm(total=total, initial=done, desc=what, unit=unit, disable=not shown)
        self.advance(0)

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self._done += count
        self._bar.update(count)
        if self._call is not None:
            self._call(self._phase, self._done, self._total)

    def close(self) -> None:
        """End the bar's line."""
        self._bar.close()

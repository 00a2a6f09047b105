"""How far an occlusion's maps are: coarse, stopped or complete; how fast, and how long still."""

from collections.abc import Mapping
from typing import Any

from deconvnet_app.compute.spec import Progress, UnitResult
from deconvnet_app.web.formatting import brief, count, number
from deconvnet_app.web.occlusion.context import Underway


def thinned(facts: Mapping[str, Any], stride: int) -> str:
    """How coarse a map is: "1 of 16 positions"; nothing where it has them all.

    Args:
        facts: of the map.
        stride: what was asked for, in pixels.
    """
    times = (facts["stride"] // stride) ** 2
    return f"1 of {times} positions" if times > 1 else ""


def complete(found: UnitResult, below: UnitResult | None) -> Underway:
    """The map is there; `below` is shown beside it."""
    positions = found.facts["grid"][0] * found.facts["grid"][1]
    return Underway(
        running=False,
        version=found.pictures["heatmap"] + (below.pictures["heatmap"] if below else ""),
        said="Complete",
        detail=f"{count(positions, 'position')}, every {found.facts['stride']} px, "
        f"in {brief(found.elapsed_s)}",
        done=positions,
        total=positions,
    )


def incomplete(
    progress: Progress, stride: int, form: list[tuple[str, str]], again: str
) -> Underway:  # fmt: skip
    """The map is being made, or was stopped.

    Args:
        stride: what was asked for, in pixels.
        form: what was asked for, as the fields of the form that stops it.
        again: where it goes on; empty: it was not stopped.
    """
    partial = progress.partial
    if partial is None:
        said = "Stopped before the first map" if again else "Coarse map first"
    else:
        said = f"Coarse, {thinned(partial.facts, stride)}; {'stopped' if again else 'refining'}"
    return Underway(
        running=not again,
        version=" ".join([*(value for _, value in form), *(partial.files if partial else [])]),
        said=said,
        detail=_pace(progress, still=not again),
        done=progress.done,
        total=progress.total or 1,
        stop=[] if again else form,
        again=again,
    )


def _pace(progress: Progress, *, still: bool) -> str:
    if not progress.done:
        return "waiting for a worker" if still else ""
    rate = progress.done / max(progress.elapsed_s, 1e-3)
    left = (progress.total - progress.done) / rate
    place = f"{progress.done} of {count(progress.total, 'position')}"
    return f"{place} · {number(rate)} a second · {brief(left)} left" if still else place

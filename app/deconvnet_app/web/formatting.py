"""Numbers, times and shapes as people read them."""

import math
import time
from collections.abc import Sequence

from deconvnet_app.settings import Settings

_STEPS = ((60, "second"), (3600, "minute"), (86400, "hour"), (float("inf"), "day"))


def number(value: float) -> str:
    """Three significant digits; thousands grouped."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = f"{value:#.3g}"
    return f"{value:.2e}" if "e" in text else text.rstrip(".")


def count(value: int, noun: str) -> str:
    """ "1 unit", "3 units"."""
    shown = f"{value:,}".replace(",", "\u202f")
    return f"{shown} {noun}{'' if value == 1 else 's'}"


def percent(share: float) -> str:
    """A share in percent: two digits below one percent."""
    if not math.isfinite(share):
        return "–"
    value = share * 100
    if 0 < value < 1:
        return f"{value:.2g} %"
    return f"{value:.0f} %" if value >= 10 or value == int(value) else f"{value:.1f} %"


def span(seconds: float) -> str:
    """ "42 seconds", "3 hours"."""
    unit = 1.0
    for limit, noun in _STEPS:
        if seconds < limit:
            return count(max(0, int(seconds / unit)), noun)
        unit = limit
    raise AssertionError("unreachable: the last limit is infinite")


def brief(seconds: float) -> str:
    """ "0.4 s" below ten seconds, then as `span`."""
    return f"{seconds:.1f} s" if seconds < 10 else span(seconds)


def ago(then: float, now: float | None = None) -> str:
    """How long ago a time was, in seconds since 1970."""
    passed = (time.time() if now is None else now) - then
    return "just now" if passed < 10 else f"{span(passed)} ago"


def stamp(then: float | None) -> str:
    """UTC, to the second."""
    return "–" if then is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(then))


def short(name: str) -> str:
    """A class by the first of its synonyms: "brown bear" of "brown bear, bruin, Ursus arctos"."""
    return name.split(",", 1)[0].strip().replace("_", " ")


def shape(size: Sequence[int]) -> str:
    """ "256 × 8 × 8"."""
    return " × ".join(map(str, size))


TOKEN_IS = "# DECONVNET_TOKEN: what the file 'token' of the server's data directory holds\n"


def curl(settings: Settings, call: str) -> str:
    """The call for a shell, with what lets it in; no page says where the server's files lie."""
    if not settings.auth:
        return f"curl {call}"
    return f'{TOKEN_IS}curl -H "Authorization: Bearer $DECONVNET_TOKEN" {call}'

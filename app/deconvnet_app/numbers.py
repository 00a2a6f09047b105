"""Whole numbers that people send as text."""

BEYOND = 2**31  # no number that is counted here comes near; databases keep what is below


def whole_number(text: str) -> int | None:
    """The number that a text of ASCII digits spells, if it is below `BEYOND`."""
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(BEYOND))
    number = int(text) if plain else BEYOND
    return number if number < BEYOND else None

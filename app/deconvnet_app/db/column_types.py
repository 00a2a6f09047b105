"""Types of columns that tell a value which was never stored so from one that was.

SQLite keeps in any column what another program puts there: a text for a number, bytes for a text.
Read as it is, it would be a defect's exception somewhere far from here.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy import JSON, Dialect, Double, Integer, String
from sqlalchemy.types import TypeDecorator


class UnreadableError(ValueError):
    """A stored value is of another kind than its column's."""


class _Checked(TypeDecorator[Any]):
    kinds: ClassVar[tuple[type, ...]]

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        read: Any = super().result_processor(dialect, coltype)

        def checked(value: Any) -> Any:
            try:
                found = read(value) if read is not None else value
            except (TypeError, ValueError) as error:
                raise UnreadableError(f"{value!r:.80} cannot be read: {error}") from error
            if found is not None and not self.fits(found):
                raise UnreadableError(f"{found!r:.80} is a {type(found).__name__}")
            return found

        return checked

    def fits(self, value: Any) -> bool:
        return isinstance(value, self.kinds)


class Whole(_Checked):
    """int."""

    impl, cache_ok = Integer, True
    kinds = (int,)


class Number(_Checked):
    """float."""

    impl, cache_ok = Double, True
    kinds = (int, float)


class Text(_Checked):
    """str."""

    impl, cache_ok = String, True
    kinds = (str,)


class Object(_Checked):
    """A JSON object; SQL's NULL for None."""

    impl, cache_ok = JSON(none_as_null=True), True
    kinds = (dict,)


class Texts(_Checked):
    """A JSON list of texts."""

    impl, cache_ok = JSON, True
    kinds = (list,)

    def fits(self, value: Any) -> bool:
        return super().fits(value) and all(isinstance(one, str) for one in value)

"""Form controls from a JSON Schema: a registered method has its form with no further code."""

from collections.abc import Mapping
from typing import Any, Literal

from deconvnet_app.web.components import Field, Option

Schema = Mapping[str, Any]

_KINDS: Mapping[str, Literal["number", "text", "checkbox"]] = {
    "integer": "number",
    "number": "number",
    "boolean": "checkbox",
}


def _choices(schema: Schema) -> list[str]:
    """The values of an enumeration, or of those among several types."""
    types = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [str(value) for one in types for value in one.get("enum", ())]


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def make_fields(schema: Schema, values: Mapping[str, Any]) -> list[Field]:
    """A control for each property.

    Args:
        schema: of a pydantic model.
        values: what has been chosen, by name; else the schema's default shows.
    """
    found = []
    for name, rule in schema.get("properties", {}).items():
        shown = _spell(values.get(name, rule.get("default")))
        choices = _choices(rule)
        if choices and shown not in choices:
            choices = [shown, *choices]
        whole = rule.get("type") == "integer"
        found.append(
            Field(
                name=name,
                label=rule.get("title", name),
                kind="select" if choices else _KINDS.get(rule.get("type", ""), "text"),
                value=shown,
                minimum=rule.get("minimum", rule.get("exclusiveMinimum")),
                maximum=rule.get("maximum", rule.get("exclusiveMaximum")),
                step="1" if whole else "any",
                unit=rule.get("unit", ""),
                help=rule.get("description", ""),
                options=[Option(value=one, label=one, selected=one == shown) for one in choices],
            )
        )
    return found


def read_fields(schema: Schema, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters from what a form sent; text that is no number stays, for the method to refuse."""
    found: dict[str, Any] = {}
    for name, rule in schema.get("properties", {}).items():
        kind = rule.get("type")
        text = given.get(name, "").strip()
        if kind == "boolean":
            found[name] = text == "true"
        elif text and kind in ("integer", "number"):
            found[name] = _number(text, whole=kind == "integer")
        elif text:
            found[name] = text
    return found


def _number(text: str, *, whole: bool) -> int | float | str:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return text

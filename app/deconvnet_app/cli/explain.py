"""`deconvnet explain METHOD`: one command for each registered method, made from its parameters."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deconvnet_app.cli.common import (
    Device,
    Net,
    Picture,
    Weights,
    example,
    load_image,
    load_network,
)

if TYPE_CHECKING:
    from deconvnet.graph.network import Network
    from deconvnet.methods import Explanation, Method, Target

Out = Annotated[Path, typer.Option(help="Folder for the pictures, the arrays and the facts.")]
PLAIN = (bool, int, float, str)


def resolve_class(net: "Network", asked: str) -> int:
    """A class by its number or its name.

    Raises:
        ParameterError: the network has no such class.
    """
    from deconvnet.errors import ParameterError, nearest

    if asked.isdecimal():
        return int(asked)
    known = [name.lower() for name in net.classes or ()]
    if asked.lower() in known:
        return known.index(asked.lower())
    raise ParameterError(f"Class '{asked}' is not one of {net.name}'s; {nearest(asked, known)}.")


def make_target(net: "Network", unit: str | None, asked: str | None) -> "Target | None":
    """What to explain: a unit, a class, or None for what the method chooses.

    Raises:
        ParameterError: both are given.
        AddressError: the unit does not parse.
    """
    from deconvnet.address import Unit
    from deconvnet.errors import ParameterError
    from deconvnet.methods import Target

    if unit and asked:
        raise ParameterError("A unit and a class are given; expected one of them.")
    if unit:
        return Target.model_validate({"unit": str(Unit.parse(unit))})
    return None if asked is None else Target.model_validate({"class": resolve_class(net, asked)})


def run_method(
    name: str,
    params: Mapping[str, Any],
    *,
    net: str,
    image: Path,
    out: Path,
    unit: str | None = None,
    asked: str | None = None,
    weights: str = "DEFAULT",
    device: str | None = None,
) -> "Explanation":
    """Run a registered method on a picture, write what it gives into `out`, and name the files.

    Args:
        params: those that differ from the method's own; None stands for not given.

    Raises:
        ParameterError: a parameter or a target that the method does not take.
    """
    from deconvnet import methods

    method = methods.get(name)
    chosen = method.parse({key: value for key, value in params.items() if value is not None})
    network = load_network(net, weights, device)
    target = make_target(network, unit, asked)
    explanation = method.run(network, load_image(network, image), target, chosen)
    write(explanation, out)
    return explanation


def write(explanation: "Explanation", out: Path) -> None:
    """The pictures as PNG, the arrays as one .npz, the facts as JSON."""
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    out.mkdir(parents=True, exist_ok=True)
    note = PngInfo()
    note.add_itxt("Description", explanation.provenance)
    for name, pixels in explanation.pictures.items():
        Image.fromarray(pixels).save(out / f"{name}.png", pnginfo=note)
        typer.echo(str(out / f"{name}.png"))
    arrays: dict[str, Any] = dict(explanation.arrays)
    np.savez_compressed(out / "arrays.npz", **arrays)
    facts = {"provenance": explanation.provenance, **explanation.facts}
    (out / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    typer.echo(str(out / "arrays.npz"))
    typer.echo(str(out / "facts.json"))
    typer.echo(explanation.provenance)


def _option(name: str, annotation: Any, text: str, place: str | None = None) -> inspect.Parameter:
    declared = typer.Option(f"--{name.replace('_', '-')}", help=text)
    return inspect.Parameter(
        place or name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation | None, declared],
    )


def _parsed(value: Any) -> Any:
    """A list or object is spelled as JSON; any other text stands for itself."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return json.loads(value)
    return value


def method_command(method: "Method") -> Callable[..., None]:
    """A function whose signature has the method's parameters, for typer to read."""
    fields = method.Params.model_fields

    def command(**given: Any) -> None:
        run_method(
            method.name,
            {name: _parsed(given[name]) for name in fields},
            net=given["net"],
            image=given["image"],
            out=given["out"],
            unit=given.get("unit_"),
            asked=given.get("class_"),
            weights=given["weights"],
            device=given["device"],
        )

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("net", kind, annotation=Net),
        inspect.Parameter("image", kind, annotation=Picture),
    ]
    for target, text in (
        ("unit", "Such as conv5:7, or conv5:7@3,4."),
        ("class", "Number or name."),
    ):
        if target in method.explains:
            parameters.append(_option(target, str, text, f"{target}_"))
    for name, field in fields.items():
        annotation = field.annotation if field.annotation in PLAIN else str
        default = "" if field.is_required() else f"  [default: {field.default}]"
        text = (field.description or "") + default
        parameters.append(_option(name, annotation, text))
    parameters += [
        inspect.Parameter("out", kind, default=Path(method.name), annotation=Out),
        inspect.Parameter("weights", kind, default="DEFAULT", annotation=Weights),
        inspect.Parameter("device", kind, default=None, annotation=Device),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = f"{method.title}.\n\nSource: {method.source}"
    return command


class MethodGroup(TyperGroup):
    """A command for each method that is registered when it is asked for."""

    def _group(self) -> TyperGroup:
        from deconvnet import methods

        made = typer.Typer(rich_markup_mode=None)
        made.callback()(lambda: None)
        for method in methods.all_methods():
            aim = "--unit conv5:7 " if method.needs_target else ""
            line = f"deconvnet explain {method.name} zfnet64 photo.png {aim}--out {method.name}"
            made.command(method.name, epilog=example(line))(method_command(method))
        return typer.main.get_group(made)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the registered methods."""
        return self._group().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one method."""
        return self._group().get_command(ctx, cmd_name)


app = typer.Typer(cls=MethodGroup, no_args_is_help=True, rich_markup_mode=None)


@app.callback(epilog=example("deconvnet explain guided zfnet64 photo.png --unit conv5:7"))
def explain() -> None:
    """Run any method on a picture; each one is a command."""

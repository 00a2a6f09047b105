"""The benchmarks, each a script of its own, and one report of their tables: python -m benchmarks.

A benchmark is a script in `benchmarks/` whose docstring begins with the claim that it measures:
`Claim: …`. Its table goes to stdout; the options below are passed on to it.
"""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from deconvnet.errors import DeconvnetError, ParameterError, nearest

FOLDER = Path(__file__).parent
_PREFIX = "Claim: "


def benchmarks(folder: Path) -> dict[str, str]:
    """What each benchmark of a folder claims, by its name."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if text.startswith(_PREFIX):
            found[path.stem] = text.removeprefix(_PREFIX).split("\n\n")[0].replace("\n", " ")
    return found


def command(
    claims: Annotated[
        list[str] | None, typer.Argument(metavar="[CLAIM]...", help="Which; all if none is given.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Networks of the zoo, by commas; each benchmark's own else.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of photographs; scikit-image's own else.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each side.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest network once: shows that all runs.")
    ] = False,
    known: Annotated[bool, typer.Option("--list", help="Say what each claims, and end.")] = False,
    out: Annotated[Path, typer.Option(help="The report, Markdown.")] = Path("benchmarks.md"),
) -> None:
    """Run the benchmarks against their peers; write one report.

    The peers are an extra: pip install 'deconvnet[bench]'.
    """
    said = benchmarks(FOLDER)
    if known:
        for name, claim in said.items():
            typer.echo(f"{name:<12}{claim}")
        return
    chosen = _chosen(claims, said)
    if quick:
        models, runs = models or "zfnet64", 1
    options = ["--device", device, "--runs", str(runs)]
    options += ["--models", *models.split(",")] if models else []
    options += ["--images", str(images)] if images else []
    failed = _run_all({name: FOLDER / f"{name}.py" for name in chosen}, said, options, out)
    typer.echo(f"{out}: {len(chosen) - len(failed)} of {len(chosen)} benchmarks", err=True)
    if failed:
        typer.echo(f"{', '.join(failed)} failed; see above.", err=True)
        raise typer.Exit(2)


def _chosen(asked: Sequence[str] | None, said: Mapping[str, str]) -> list[str]:
    for name in asked or ():
        if name not in said:
            raise ParameterError(f"Benchmark '{name}' is unknown; {nearest(name, said)}.")
    return list(asked or said)


def _run_all(
    scripts: Mapping[str, Path], said: Mapping[str, str], options: Sequence[str], out: Path
) -> list[str]:
    """The names of those that failed; the report is written anew after each."""
    failed = []
    parts = [
        f"# Benchmarks of deconvnet {version('deconvnet')}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; options: {' '.join(options)}",
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    for rank, (name, script) in enumerate(scripts.items(), 1):
        typer.echo(f"[{rank}/{len(scripts)}] {name}: {said[name]}", err=True)
        started = time.monotonic()
        command = [sys.executable, str(script), *options]
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        ended = "took"
        if done.returncode:
            failed.append(name)
            ended = "failed after"
        typer.echo(done.stdout, nl=False)
        parts += [
            done.stdout.strip() or f"## {name}",
            f"*Claim: {said[name]} The benchmark {ended} {time.monotonic() - started:.0f} s.*",
        ]
        out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return failed


def _environment() -> dict[str, str]:
    paths = [
        str(Path(__file__).resolve().parents[1]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


app = typer.Typer(add_completion=False)
app.command(
    epilog="Example: python -m benchmarks index memory --models alexnet,vgg16 --images photos"
)(command)

if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks")
    except DeconvnetError as error:
        sys.exit(f"benchmarks: {error}")

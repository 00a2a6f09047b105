"""The `deconvnet` command: each of its commands is a module of `deconvnet_app.commands`."""

import errno
import os
import sys

import typer

from deconvnet_app.cli import (
    demo,
    evaluate,
    explain,
    figure,
    filters,
    index,
    link,
    models,
    occlude,
    project,
    serve,
    train,
)

app = typer.Typer(
    name="deconvnet",
    help="What each unit of a convolutional network looks for.",
    epilog="deconvnet COMMAND --help shows an example of each.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (demo, serve, link, index, project, occlude, filters, train, evaluate, models):
    name = module.__name__.rpartition(".")[2]
    app.command(name, epilog=module.EPILOG)(module.command)
app.add_typer(figure.app, name="figure")
app.add_typer(explain.app, name="explain")


_SERVER = (
    "alembic", "fastapi", "h11", "itsdangerous", "jinja2", "prometheus_client", "pydantic_settings",
    "sqlalchemy", "sse_starlette", "starlette", "structlog", "uvicorn", "zipstream",
)  # fmt: skip
_EXTRA_OF = {**dict.fromkeys(_SERVER, "server"), "ray": "ray", "skimage": "demo"}


def main() -> None:
    """Run the command line; any error is one message and exit code 2."""
    try:
        app()
    except Exception as error:  # the last line before the user: a message, not a traceback
        if os.environ.get("DECONVNET_TRACEBACK"):
            raise
        typer.echo(f"deconvnet: {_message(error)}", err=True)
        sys.exit(2)


def _message(error: Exception) -> str:
    from deconvnet.errors import DeconvnetError
    from deconvnet_app.errors import AppError

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"'{error.filename}': " if error.filename else ""
        return (
            f"{where}{error.strerror}. Make room, or write to another disk, and run the command "
            "again: what index and train have kept so far, they go on from."
        )
    if isinstance(error, DeconvnetError | AppError | OSError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRA_OF.get(error.name or "")):
        return f"This command needs {error.name}. pip install 'deconvnet[{extra}]'"
    return (
        f"{type(error).__name__}: {error}\n"
        "This is a defect. DECONVNET_TRACEBACK=1 in the environment shows where."
    )

"""The server's log: a line for each event on stderr, JSON unless a person is looking.

Whatever is logged while a request is answered carries its request id.
"""

import logging
import sys
from typing import TextIO

import structlog

QUIET = ("alembic", "PIL", "matplotlib", "asyncio", "uvicorn.error")


def configure(stream: TextIO = sys.stderr) -> None:
    """Let this process log; the server calls it, an application or a library never does."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    last: list[structlog.typing.Processor]
    if stream.isatty():
        last = [structlog.dev.ConsoleRenderer()]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)

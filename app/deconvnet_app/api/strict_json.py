"""JSON bodies, read strictly: what two programs could understand in two ways is refused."""

import gc
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from deconvnet_app.limits import OBJECT_NAMES, objects


class StrictRoute(APIRoute):
    """A route whose JSON body names nothing twice in one object, and holds numbers and text only.

    NaN and infinity are no numbers, and half a surrogate pair is no text.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body, most = await self.body(), objects(self.app.state.deconv.settings)
            with _uncollected():
                self._json = _read(body, most)
        return self._json


@contextmanager
def _uncollected() -> Iterator[None]:
    """Millions of lists make the collector look at them all again and again, for seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read(body: bytes, most: int) -> Any:
    numbers = count(1)

    def one(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if next(numbers) > most:
            _refuse(f"it has more than {most} objects")
        return _once(pairs)

    try:
        text = body.decode("utf-8-sig")
        read = json.loads(text, object_pairs_hook=one, parse_constant=_refuse_constant)
        if re.search(r"\\ud[89a-f]", text, re.IGNORECASE):
            json.dumps(read, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        _refuse("it is not UTF-8")
    except UnicodeEncodeError:  # half a pair could be neither stored nor sent back
        _refuse("a text holds half a surrogate pair")
    except json.JSONDecodeError:
        raise
    except ValueError:
        _refuse("a number has too many digits")
    except RecursionError:
        _refuse("it is nested too deeply")
    return read


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > OBJECT_NAMES:  # each might be a fault, to be found and told while others wait
        _refuse(f"an object has {len(pairs)} names, at most {OBJECT_NAMES} are taken")
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(f"'{twice[:80]}' is there twice in one object")
    return made


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no number of JSON's")


def _refuse(why: str) -> NoReturn:
    raise json.JSONDecodeError(why, "", 0)  # what FastAPI expects of a body that is none

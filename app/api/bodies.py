"""JSON bodies, read strictly: what two programs could understand in two ways is refused."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.limits import OBJECT_NAMES


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
        return _read(await self.body())


def _read(body: bytes) -> Any:
    try:
        text = body.decode("utf-8-sig")
        read = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
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

"""The indexes that there are, each opened and checked when it is first asked for."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet.errors import IndexError_, nearest
from deconvnet.index.reader import ActivationIndex, open_index
from deconvnet.index.store import MANIFEST
from deconvnet_app.errors import Refusal, without_folders

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """An index as it is served.

    Attributes:
        id: what it is asked for by.
        built: when it was finished, in seconds since 1970.
        model: the network as the index describes it, under the name it has in the catalogue.
    """

    id: str
    index: ActivationIndex
    built: float
    model: Mapping[str, Any]


class IndexCatalog:
    """Indexes by id, each opened and checked when first asked for, and again when rebuilt.

    Args:
        paths: id → folder.
        sources: the operator's own networks, name → path/to/net.py:build. An index knows such a
            network as "net:build".
    """

    def __init__(self, paths: Mapping[str, Path], sources: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._names = {_own_name(source): name for name, source in sources.items()}
        self._open: dict[str, Opened] = {}
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        """Every id, sorted; also of those that cannot be opened."""
        return sorted(self._paths)

    def get(self, index_id: str) -> Opened:
        """The index of that id.

        Raises:
            Refusal: 404 for an unknown id; 503 if it is missing, corrupt or unfinished.
        """
        if index_id not in self._paths:
            hint = nearest(index_id, self.ids())
            raise Refusal(404, "not_found", f"Index '{index_id[:80]}' is unknown; {hint}.")
        path = self._paths[index_id]
        with self._lock:
            try:
                manifest = path / MANIFEST
                built = manifest.stat().st_mtime if manifest.is_file() else 0.0
                known = self._open.get(index_id)
                if known is None or known.built != built:
                    self._open[index_id] = self._opened(index_id, open_index(path), built)
                return self._open[index_id]
            except (IndexError_, OSError) as error:
                self._open.pop(index_id, None)
                log.warning("Index '%s' cannot be served: %s", index_id, error)
                detail = without_folders(str(error))
                raise Refusal(503, "index_error", detail, retry_after=60) from error

    def _opened(self, index_id: str, index: ActivationIndex, built: float) -> Opened:
        name = self._names.get(index.model["name"], index.model["name"])
        return Opened(index_id, index, built, {**index.model, "name": name})

    def all(self) -> list[Opened]:
        """Those that can be opened, newest first."""
        found = []
        for index_id in self.ids():
            try:
                found.append(self.get(index_id))
            except Refusal:
                continue
        return sorted(found, key=lambda one: (-one.built, one.id))

    def problems(self) -> list[str]:
        """Why the others cannot."""
        found = []
        for index_id in self.ids():
            try:
                self.get(index_id)
            except Refusal as refusal:
                found.append(refusal.detail)
        return found

    def for_model(self, model: str) -> list[Opened]:
        """A network's indexes, newest first."""
        return [one for one in self.all() if one.model["name"] == model]

    def choose(self, model: str, index_id: str | None) -> Opened:
        """The index asked for, or the newest one of the network.

        Raises:
            Refusal: 404, there is none, or it is another network's.
        """
        if index_id is None:
            found = self.for_model(model)
            if found:
                return found[0]
            detail = (
                f"Model '{model[:80]}' has no index to show. "
                f"Build one: deconvnet index {model[:80]} DATASET --out DIR"
            )
            raise Refusal(404, "not_found", detail)
        one = self.get(index_id)
        if one.model["name"] != model:
            detail = f"Index '{index_id}' is of {one.model['name']}, not of {model[:80]}."
            raise Refusal(404, "not_found", detail)
        return one


def _own_name(source: str) -> str:
    """What the engine calls a network of the user's own file."""
    file, _, attribute = source.partition(".py")
    return f"{Path(file).name}:{attribute.removeprefix(':') or 'build'}"

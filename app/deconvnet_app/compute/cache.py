"""Results of units already computed, by key: one small JSON file each."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from deconvnet_app.artifacts import ArtifactStore, write_whole
from deconvnet_app.compute.spec import UnitResult


class ResultCache:
    """A folder of results; a result whose pictures or arrays are gone counts as not computed."""

    def __init__(self, root: Path, artifacts: ArtifactStore) -> None:
        self.root = root
        self.artifacts = artifacts

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key[2:]}.json"

    def get(self, key: str) -> UnitResult | None:
        """The result, if there is a whole one."""
        try:
            result = UnitResult.model_validate_json(self._path(key).read_bytes())
        except (OSError, ValidationError):
            return None
        return result if self.artifacts.hold(*result.files) else None

    def put(self, result: UnitResult) -> None:
        """Keep a result."""
        write_whole(self._path(result.key), result.model_dump_json().encode())

    def names(self, key: str) -> list[str]:
        """The files of a result, whether they are still there or not."""
        try:
            result = UnitResult.model_validate_json(self._path(key).read_bytes())
        except (OSError, ValidationError):
            return []
        return result.files

    def forget(self, keys: Iterable[str]) -> None:
        """Drop these results; whoever wants one computes it anew."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def stale(self, before: float) -> Iterator[str]:
        """The keys of the results kept before then."""
        for path in self.root.glob("??/*.json"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    yield path.parent.name + path.stem

"""Results of units already computed, by key: one small JSON file each."""

from pathlib import Path

from pydantic import ValidationError

from app.artifacts import ArtifactStore, write_whole
from app.compute.units import UnitResult


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
        names = [*result.pictures.values(), *result.arrays.values()]
        return result if all(map(self.artifacts.has, names)) else None

    def put(self, result: UnitResult) -> None:
        """Keep a result."""
        write_whole(self._path(result.key), result.model_dump_json().encode())

"""The bytes of units' images, from where they are kept."""

from typing import Protocol

from app.artifacts import ArtifactStore, sha256
from app.compute.units import UnitError, UnitSpec
from app.datasets import Datasets
from app.settings import Settings


class Inputs(Protocol):
    """Gives a unit's image."""

    def read(self, spec: UnitSpec) -> bytes:
        """The file's bytes.

        Raises:
            ArtifactMissingError, UnitError: it is gone, or it has changed.
        """


class StoredInputs:
    """Images among the artifacts, or in the datasets."""

    def __init__(self, settings: Settings, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._datasets = Datasets(settings.datasets)

    def read(self, spec: UnitSpec) -> bytes:
        assert spec.image is not None
        if spec.origin is None:
            return self._artifacts.read(spec.image)
        try:
            data = self._datasets.read(spec.origin.dataset, spec.origin.path)
        except OSError as error:
            detail = f"'{spec.origin.path}' is not in '{spec.origin.dataset}' any more."
            raise UnitError("input_missing", detail, 404) from error
        if sha256(data) != spec.image:
            raise UnitError("input_changed", f"'{spec.origin.path}' has changed meanwhile.", 409)
        return data

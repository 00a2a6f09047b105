"""The bytes of units' images, from where they are kept."""

from typing import Protocol

from deconvnet_app.artifacts import ArtifactStore, sha256
from deconvnet_app.compute.units import UnitError, UnitSpec
from deconvnet_app.datasets import Datasets
from deconvnet_app.settings import Settings


class Inputs(Protocol):
    """Gives units' images."""

    def read(self, spec: UnitSpec, image: str) -> bytes:
        """The file's bytes.

        Raises:
            ArtifactMissingError, UnitError: it is gone, or it has changed.
        """


class StoredInputs:
    """Images among the artifacts, or in the datasets."""

    def __init__(self, settings: Settings, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._datasets = Datasets(settings.datasets)

    def read(self, spec: UnitSpec, image: str) -> bytes:
        if spec.origin is None:
            return self._artifacts.read(image)
        try:
            data = self._datasets.read(spec.origin.dataset, spec.origin.path)
        except OSError as error:
            detail = f"'{spec.origin.path}' is not in '{spec.origin.dataset}' any more."
            raise UnitError("input_missing", detail, 404) from error
        if sha256(data) != image:
            raise UnitError("input_changed", f"'{spec.origin.path}' has changed meanwhile.", 409)
        return data

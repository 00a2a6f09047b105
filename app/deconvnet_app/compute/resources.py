"""What a worker keeps at hand: loaded networks, images, somewhere to put results."""

import io
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from PIL import Image

import deconvnet as dn
from deconvnet.data.image import to_rgb
from deconvnet.errors import DeconvnetError
from deconvnet.graph.network import Network
from deconvnet_app.artifacts import ArtifactStore, sha256
from deconvnet_app.catalog.datasets import Datasets
from deconvnet_app.catalog.models import ModelSource, fingerprint, model_source
from deconvnet_app.compute.spec import UnitError, UnitSpec
from deconvnet_app.errors import Refusal
from deconvnet_app.imaging.decoder import Decoder
from deconvnet_app.imaging.reencode import Limits
from deconvnet_app.settings import Settings


class Store(Protocol):
    """Takes the files of results."""

    written: int

    def put_all(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Keep these; the name of each one's content comes back."""


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


class Resources:
    """Loads what units need and keeps the last few networks.

    Args:
        settings: which networks, datasets and device there are.
        artifacts: where results are put.
        inputs: where images are found.
    """

    def __init__(self, settings: Settings, artifacts: Store, inputs: Inputs) -> None:
        self.settings = settings
        self.artifacts = artifacts
        self.inputs = inputs
        self._networks: OrderedDict[str, Network] = OrderedDict()
        self._decoder = Decoder(processes=1)

    def network(self, name: str) -> tuple[Network, str]:
        """The network and its fingerprint; reloaded when its files have changed."""
        source = model_source(self.settings, name)
        key = fingerprint(source)
        if key not in self._networks:
            while len(self._networks) >= self.settings.warm_models:
                self._networks.popitem(last=False)
            self._networks[key] = self._load(source)
        self._networks.move_to_end(key)
        return self._networks[key], key

    def architecture(self, name: str) -> tuple[Network, str]:
        """The network with random weights, and its fingerprint; it is not kept."""
        source = model_source(self.settings, name)
        return self._load(replace(source, weights=None)), fingerprint(source)

    def _load(self, source: ModelSource) -> Network:
        try:
            return dn.load(source.source, weights=source.weights, device=self.settings.device)
        except DeconvnetError as error:
            raise type(error)(_by_last_name(str(error), source)) from error

    def image(self, spec: UnitSpec, image: str) -> Image.Image:
        """One of the unit's images, upright RGB.

        What the server has re-encoded itself is decoded here; a dataset's file, which anybody may
        have made, in a process with little memory and time.

        Raises:
            UnitError: it is gone, has changed, is too large, or cannot be decoded.
            InputError: a stored picture cannot be decoded.
        """
        data = self.inputs.read(spec, image)
        if spec.origin is None:
            return to_rgb(Image.open(io.BytesIO(data)))
        limits = Limits(self.settings.image_pixels, self.settings.image_side, of_dataset=True)
        try:
            found = self._decoder.decode(data, limits)
        except Refusal as error:
            raise UnitError(error.code, error.detail, error.status) from error
        if found.made.status != 200:
            detail = f"'{spec.origin.path}' {found.made.why}"
            raise UnitError(found.made.code, detail, found.made.status)
        return Image.open(io.BytesIO(found.png))

    def close(self) -> None:
        """End the processes that decode."""
        self._decoder.close()


def local_resources(settings: Settings) -> Resources:
    """Resources over the server's own data directory."""
    artifacts = ArtifactStore(settings.data_dir / "artifacts")
    return Resources(settings, artifacts, StoredInputs(settings, artifacts))


def _by_last_name(text: str, source: ModelSource) -> str:
    """What is said of a network's files, without the folders of this machine."""
    for file in filter(None, (source.weights, source.source.split(":")[0])):
        path = Path(file)
        for spelled in (path, path.resolve()):
            if spelled.parent.name:
                text = text.replace(f"{spelled.parent}/", "")
    return text

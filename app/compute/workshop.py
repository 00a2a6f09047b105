"""What a worker keeps at hand: loaded networks, the artifacts, the datasets."""

import io
from collections import OrderedDict
from pathlib import Path

from PIL import Image

import deconvnet as dn
from app.artifacts import ArtifactStore, sha256
from app.compute.sources import ModelSource, fingerprint, model_source
from app.compute.units import UnitError, UnitSpec
from app.datasets import Datasets
from app.settings import Settings
from deconvnet.completeness import require_complete
from deconvnet.errors import DeconvnetError
from deconvnet.network import Network
from deconvnet.pictures import to_rgb


class Workshop:
    """Loads what units need and keeps the last few networks.

    Args:
        settings: which networks, datasets and device there are.
        artifacts: where images are found and results are put.
    """

    def __init__(self, settings: Settings, artifacts: ArtifactStore) -> None:
        self.settings = settings
        self.artifacts = artifacts
        self._networks: OrderedDict[str, Network] = OrderedDict()
        self._datasets = Datasets(settings.datasets)

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

    def _load(self, source: ModelSource) -> Network:
        try:
            return dn.load(source.source, weights=source.weights, device=self.settings.device)
        except DeconvnetError as error:
            raise type(error)(_by_last_name(str(error), source)) from error

    def image(self, spec: UnitSpec) -> Image.Image:
        """The unit's image, upright RGB.

        Raises:
            UnitError: it is gone, has changed, or is larger than the limits allow.
            InputError: it cannot be decoded.
        """
        data = self._bytes(spec)
        try:
            picture = Image.open(io.BytesIO(data))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnitError("input_error", f"The image cannot be opened: {error}.") from error
        limits = self.settings
        width, height = picture.size
        if width * height > limits.image_pixels or max(width, height) > limits.image_side:
            raise UnitError(
                "image_too_large",
                f"The image is {width} x {height}; at most {limits.image_pixels} pixels and "
                f"{limits.image_side} a side are taken.",
                413,
            )
        require_complete(picture, data)
        return to_rgb(picture)

    def _bytes(self, spec: UnitSpec) -> bytes:
        assert spec.image is not None
        if spec.origin is None:
            return self.artifacts.read(spec.image)
        try:
            data = self._datasets.read(spec.origin.dataset, spec.origin.path)
        except OSError as error:
            detail = f"'{spec.origin.path}' is not in '{spec.origin.dataset}' any more."
            raise UnitError("input_missing", detail, 404) from error
        if sha256(data) != spec.image:
            raise UnitError("input_changed", f"'{spec.origin.path}' has changed meanwhile.", 409)
        return data


def _by_last_name(text: str, source: ModelSource) -> str:
    """What is said of a network's files, without the folders of this machine."""
    for file in filter(None, (source.weights, source.source.split(":")[0])):
        path = Path(file)
        for spelled in (path, path.resolve()):
            if spelled.parent.name:
                text = text.replace(f"{spelled.parent}/", "")
    return text

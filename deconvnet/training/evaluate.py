"""How often a classifier is right: top-1 and top-5 over a labelled dataset, on centre crops."""

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from tqdm import tqdm

from deconvnet.data.dataset import Dataset
from deconvnet.data.preprocess import Preprocess
from deconvnet.errors import DatasetError, InputError
from deconvnet.execution.memory import free_bytes

_RAM_SHARE = 0.25  # of free memory that decoded images may fill


class Pixels:
    """Decoded images, uint8 [n, 3, R, R]: in memory where they fit, else decoded when asked for."""

    def __init__(self, dataset: Dataset, preprocess: Preprocess, *, progress: bool) -> None:
        side = preprocess.resize or preprocess.size[0]
        self._stored = Preprocess((side, side), side)
        self._dataset = dataset
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1)
        self._memory: Tensor | None = None
        room = _RAM_SHARE * free_bytes(torch.device("cpu"))
        if len(dataset) * 3 * side * side < room:
            memory = torch.empty(len(dataset), 3, side, side, dtype=torch.uint8)
            bar = tqdm(
                self._threads.map(self._decode, range(len(dataset))),
                total=len(dataset), desc="decoding", unit="img", disable=not progress,
            )  # fmt: skip
            for image_id, pixels in enumerate(bar):
                memory[image_id] = pixels
            self._memory = memory

    def _decode(self, image_id: int) -> Tensor:
        try:
            return self._stored.tensor(self._dataset.image(image_id))
        except InputError as error:
            path = self._dataset.entries[image_id].path
            raise InputError(f"{path}: {error} Remove it from the training set.") from error

    def __getitem__(self, ids: Tensor) -> Tensor:
        if self._memory is not None:
            return self._memory[ids]
        return torch.stack(list(self._threads.map(self._decode, ids.tolist())))


def class_ids(dataset: Dataset, labels: list[str]) -> Tensor:
    """The class of each image, by its label's place in `labels`. int64 [n]."""
    place = {label: rank for rank, label in enumerate(labels)}
    missing = {entry.label for entry in dataset.entries} - set(place)
    if missing:
        example = sorted(str(label) for label in missing)[0]
        raise DatasetError(
            f"Dataset '{dataset.name}' has {len(missing)} labels that the network has not, such as "
            f"'{example}'. Each image must lie in a folder named after its class."
        )
    return torch.tensor([place[str(entry.label)] for entry in dataset.entries])


@torch.no_grad()
def evaluate(
    module: nn.Module,
    preprocess: Preprocess,
    dataset: Dataset,
    labels: list[str],
    *,
    batch: int = 128,
    pixels: Pixels | None = None,
    progress: bool = False,
) -> tuple[float, float]:
    """(top-1, top-5) accuracy in percent over a labelled dataset, on centre crops."""
    targets = class_ids(dataset, labels)
    pixels = pixels or Pixels(dataset, preprocess, progress=progress)
    device = next(module.parameters()).device
    module.eval()
    first = five = 0
    steps = range(0, len(dataset), batch)
    for start in tqdm(steps, desc="evaluating", unit="batch", disable=not progress):
        ids = torch.arange(start, min(start + batch, len(dataset)))
        images = centre(pixels[ids], preprocess.size)
        logits = module(preprocess.normalise(images).to(device)).cpu()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hit = best == targets[ids, None]
        first += int(hit[:, 0].sum())
        five += int(hit.any(1).sum())
    return 100 * first / len(dataset), 100 * five / len(dataset)


def centre(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of images, [n, 3, h, w] → [n, 3, *size]."""
    y, x = (pixels.shape[-2] - size[0]) // 2, (pixels.shape[-1] - size[1]) // 2
    return pixels[..., y : y + size[0], x : x + size[1]]

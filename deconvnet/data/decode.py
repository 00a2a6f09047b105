"""Decoding a dataset's images ahead of the network, in threads, always in order."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

from torch import Tensor

from deconvnet.data.dataset import Dataset
from deconvnet.data.preprocess import Preprocess
from deconvnet.errors import InputError

_MOST_THREADS = 16


@dataclass(frozen=True)
class DecodedImage:
    """One image as the network sees it, uint8 [3, H, W], or why there is none.

    `digest` is 64 bits that tell this picture from another; 0 where there is none.
    """

    pixels: Tensor | None
    reason: str = ""
    digest: int = 0


def load_image(dataset: Dataset, preprocess: Preprocess, image_id: int) -> DecodedImage:
    """Read, decode and crop one image; a failure is told, not raised."""
    try:
        pixels = preprocess.tensor(dataset.image(image_id))
        digest = hashlib.sha256(pixels.numpy().tobytes()).digest()
        return DecodedImage(pixels, digest=int.from_bytes(digest[:8]))
    except InputError as error:
        return DecodedImage(None, str(error))


class ReadAhead:
    """Reads images in order, in threads that run ahead of the one who asks."""

    def __init__(
        self, dataset: Dataset, preprocess: Preprocess, workers: int | None, ahead: int
    ) -> None:
        self._dataset, self._preprocess, self._ahead = dataset, preprocess, ahead
        wanted = min(cpu_count() or 1, _MOST_THREADS) if workers is None else workers
        self._threads = ThreadPoolExecutor(wanted) if wanted else None

    def __call__(self, ids: Iterable[int], block: int) -> Iterator[list[tuple[int, DecodedImage]]]:
        """Lists of `block` (image id, picture) each, the last one shorter."""
        held: list[tuple[int, DecodedImage]] = []
        for item in self._stream(ids):
            held.append(item)
            if len(held) == block:
                yield held
                held = []
        if held:
            yield held

    def _stream(self, ids: Iterable[int]) -> Iterator[tuple[int, DecodedImage]]:
        if self._threads is None:
            for image_id in ids:
                yield image_id, load_image(self._dataset, self._preprocess, image_id)
            return
        waiting: deque[tuple[int, Future[DecodedImage]]] = deque()
        try:
            for image_id in ids:
                task = self._threads.submit(load_image, self._dataset, self._preprocess, image_id)
                waiting.append((image_id, task))
                if len(waiting) > self._ahead:
                    first, done = waiting.popleft()
                    yield first, done.result()
            while waiting:
                first, done = waiting.popleft()
                yield first, done.result()
        finally:
            for _, task in waiting:
                task.cancel()

    def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

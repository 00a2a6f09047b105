"""Claim: an index costs no more than decoding the images and running the network over them.

The index of five layers (top-9, positions and statistics included, no sprites) against the plain
limit: the whole network's channels_last forward over the same images while two threads decode
ahead. Beside it hooks + topk, the way it is usually written, and zennit-crp's run, which finds the
maxima of activations on its way up and those of relevances on its way down: it has no run for
activations alone. Values are checked against both; their error is relative to the layer's largest.
"""

import contextlib
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

import deconvnet as dn
from benchmarks.common import arguments, each, interleave, peer, photographs, stock, table

_BATCH = 32
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")


def dataset(folder: Path, sources: list[Path], count: int) -> Path:
    """`count` JPEGs of about 500 pixels, crops of the photographs."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        image = Image.open(sources[i % len(sources)]).convert("RGB")
        shift = (i // len(sources)) % 16 * 4
        image = image.crop((shift, shift, image.width - 64 + shift, image.height - 64 + shift))
        image.save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def limit(net: dn.Network, files: list[Path]) -> None:
    """Decode in two threads, forward in channels_last, keep nothing."""
    module = net.module.to(memory_format=torch.channels_last)
    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        images = pool.map(lambda path: net.preprocess(Image.open(path)), files)
        part: list[Tensor] = []
        for image in images:
            part.append(image)
            if len(part) == _BATCH:
                module(torch.cat(part).to(net.device, memory_format=torch.channels_last))
                part = []


def hooks(net: dn.Network, files: list[Path]) -> dict[str, tuple[Tensor, Tensor]]:
    """Forward hooks, spatial maximum and torch.topk, merged batch by batch."""
    best: dict[str, tuple[Tensor, Tensor]] = {}
    seen: dict[str, Tensor] = {}
    handles = []
    for layer in LAYERS:
        module = net.module.get_submodule(net.landmarks[layer].split(":")[0])

        def keep(*call: Tensor, layer: str = layer) -> None:
            seen[layer] = call[2].flatten(2).amax(2)

        handles.append(module.register_forward_hook(keep))
    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        images = pool.map(lambda path: net.preprocess(Image.open(path)), files)
        part: list[Tensor] = []
        for rank, image in enumerate(images):
            part.append(image)
            if len(part) < _BATCH:
                continue
            net.module(torch.cat(part).to(net.device, memory_format=torch.channels_last))
            ids = torch.arange(rank + 1 - len(part), rank + 1)[:, None]
            for layer, values in seen.items():
                found = (values.cpu(), ids.expand(-1, values.shape[1]))
                if layer in best:
                    found = tuple(
                        torch.cat([a, b]) for a, b in zip(best[layer], found, strict=True)
                    )
                top = found[0].topk(min(9, len(found[0])), dim=0)
                best[layer] = (top.values, found[1].gather(0, top.indices))
            part = []
    for handle in handles:
        handle.remove()
    return best


class Pictures:
    """The images as zennit-crp wants them, all of one class."""

    def __init__(self, net: dn.Network, files: list[Path]) -> None:
        self.net, self.files = net, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rank: int) -> tuple[Tensor, int]:
        return self.net.preprocess(Image.open(self.files[rank]))[0], 0


def outputs(net: dn.Network) -> dict[str, str]:
    """Layer → the module that gives it; a ReLU that is called twice: the block around it."""
    names = {layer: net.landmarks[layer] for layer in LAYERS}
    return {
        layer: name.split(":")[0].rpartition(".")[0] if ":" in name else name
        for layer, name in names.items()
    }


def crp(net: dn.Network, module: nn.Module, files: list[Path], cache: Path) -> dict[str, Tensor]:
    """zennit-crp's reference images of each channel; layer → the values of the best, [40, c]."""
    attribution = peer("crp.attribution").CondAttribution(module)
    concept = peer("crp.concepts").ChannelConcept()
    names = outputs(net)
    layers = dict.fromkeys(names.values(), concept)
    pictures = Pictures(net, files)
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        run = peer("crp.visualization").FeatureVisualization(
            attribution, pictures, layers, max_target="max", abs_norm=False, path=str(cache)
        )
        run.run(None, 0, len(files), batch_size=_BATCH)
    load = peer("crp.helper").load_maximization
    return {layer: load(run.ActMax.PATH, name)[1] for layer, name in names.items()}


def measure(name: str, folder: Path, runs: int, device: str) -> list[str]:
    """One row."""
    net = dn.load(name, weights=None, device=device)
    shipped = stock(net)
    files = sorted(folder.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as scratch:
        made = iter(range(1000))

        def ours() -> dn.ActivationIndex:
            out = Path(scratch) / str(next(made))
            return dn.build_index(net, folder, out, layers=LAYERS, sprites=False, progress=False)

        def theirs() -> dict[str, Tensor]:
            return crp(net, shipped, files, Path(scratch) / f"crp{next(made)}")

        few = max(1, runs // 2)
        plain = interleave(ours, lambda: limit(net, files), runs, device)
        usual = interleave(ours, lambda: hooks(net, files), few, device)
        rival = interleave(ours, theirs, few, device)
        index, brute, found = ours(), hooks(net, files), theirs()
        errors = [
            abs(hit.value - float(values[rank, channel])) / float(brute[layer][0].max())
            for layer in LAYERS
            for values in (brute[layer][0], found[layer])
            for channel in range(0, index.channels(layer), 17)
            for rank, hit in enumerate(index.top(f"{layer}:{channel}"))
        ]
    return [
        name, f"{len(files) / min(plain.ours):.1f}", f"{1 / plain.ratio:.2f}",
        f"{usual.ratio:.2f}×", f"{rival.ratio:.1f}×", f"{max(errors):.1e}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--count", type=int, default=192, help="images")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = dataset(Path(scratch) / "images", photographs(options.images), options.count)
        for name in each(options.models or ["alexnet", "resnet18", "vgg16"]):
            rows.append(measure(name, folder, options.runs, options.device))
    head = ["network", "images/s", "time over decode + whole forward", "over hooks + topk",
            "over zennit-crp", "error"]  # fmt: skip
    print(table("Index", head, rows, "zennit", "zennit-crp"))


if __name__ == "__main__":
    main()

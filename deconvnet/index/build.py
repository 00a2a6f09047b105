"""Building an index: one forward pass over a dataset, then the pictures of the winners.

Each image goes through the network once, up to the deepest asked layer. Of each map the spatial
maximum is taken; its position only where the value may enter a unit's top k.

The first pass is `index_scan`'s, the second `sprites`'.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch

from deconvnet import fingerprint
from deconvnet.address import natural
from deconvnet.data.dataset import Dataset, open_dataset
from deconvnet.data.decode import ReadAhead
from deconvnet.errors import DatasetError, IndexError_, ParameterError, ProjectionError
from deconvnet.graph.describe import describe
from deconvnet.graph.network import Network
from deconvnet.index import store
from deconvnet.index.draw import Artist
from deconvnet.index.progress import OnProgress, Reporter
from deconvnet.index.reader import ActivationIndex, open_index
from deconvnet.index.scan import Scan, Scanner, ScanPlan, block_size, made_on
from deconvnet.index.sheet import tile_size
from deconvnet.index.topk import TopK
from deconvnet.ops.base import BackwardRule, Rule
from deconvnet.precision import exact

_COLOURS = 3  # red, green, blue: what preprocessing gives
_AHEAD_BYTES = 16 * 2**20  # of pixels decoded ahead of the network


def spatial_landmarks(net: Network) -> tuple[str, ...]:
    """The landmarks that are maps, by depth; those after the fully connected layers are not."""
    maps = [name for name in net.landmarks if len(net.layer(name).shape) == 3]
    return tuple(sorted(maps, key=net.find))


def _layers(net: Network, asked: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(asked, str):
        raise ParameterError(f"layers are '{asked}', expected a sequence: layers=['{asked}'].")
    layers = tuple(asked) if asked is not None else spatial_landmarks(net)
    if not layers or len(set(layers)) != len(layers):
        raise ParameterError(f"layers are {list(layers)}, expected one or more, each once.")
    return tuple(sorted(layers, key=net.find))


def _check_autocast(net: Network) -> None:
    if net.dtype != torch.float32:
        raise ParameterError(
            f"autocast is asked for, but {net.name} is {net.dtype}, expected torch.float32. "
            "Convert the network, or index without autocast."
        )


def _check_ways(net: Network, layers: Sequence[str], rule: Rule) -> None:
    BackwardRule(rule)  # refuses what is no rule
    for layer in layers:
        try:
            net.require_rule(layer, rule)
        except ProjectionError as error:
            raise ProjectionError(f"{error} An index without pictures needs none.") from error


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        least = 0 if name == "workers" else 1
        number = least if value is None else natural(value)
        if number is None or number < least:
            raise ParameterError(f"{name} is {value!r}, expected a whole number, {least} or more.")


def _check(net: Network, dataset: Dataset, k: int, per_group: int | None) -> None:
    if net.input_size[0] != _COLOURS:
        raise ParameterError(
            f"{net.name} takes {net.input_size[0]} channels, and a dataset's pictures have "
            f"{_COLOURS}. Put a convolution from {_COLOURS} before it, as nn.Conv2d({_COLOURS}, "
            f"{net.input_size[0]}, 1)."
        )
    TopK(0, k, per_group)  # refuses what is below 1
    if per_group is not None and not dataset.groups:
        raise ParameterError(
            f"per_group is {per_group}, but dataset '{dataset.name}' has no groups. Give it a "
            "groups.tsv (path, tab, group), or open it with open_dataset(..., group=...)."
        )


@exact
def build_index(
    net: Network,
    dataset: Any,
    out: str | Path,
    *,
    k: int = 9,
    layers: Sequence[str] | None = None,
    progress: bool = True,
    per_group: int | None = None,
    batch: int = 64,
    workers: int | None = None,
    checkpoint_every: int = 4096,
    sprites: bool = True,
    rule: Rule = "deconv",
    on_progress: OnProgress | None = None,
    scanner: Scanner | None = None,
    autocast: bool = False,
) -> ActivationIndex:
    """Find the k images of a dataset that excite each unit most, and project them.

    Killed and called again, it goes on from its last checkpoint. A finished index of the same
    inputs is opened; one of other inputs in the same folder is replaced.

    Args:
        net: the network.
        dataset: a path (folder, tar, zip), several, a torchvision dataset or a `Dataset`. Images
            that cannot be read, or whose activations are not finite, are skipped and listed in
            `index.dataset["skipped"]`.
        out: the index's folder: new, empty or an index.
        k: hits per unit.
        layers: landmarks or call sites; None: all landmarks that are maps.
        progress: show a bar.
        per_group: how many of a unit's hits may come from one group of the dataset; None: any.
        batch: images decoded ahead, as far as their pixels take no more than 16 MiB. Like `workers`
            it changes memory and speed, never a result.
        workers: decoding threads; 0: none; None: one per core, at most 16.
        checkpoint_every: images between checkpoints.
        sprites: also project the hits and keep their pictures.
        rule: of those projections: "deconv", "guided" or "gradient".
        on_progress: called with a phase ("scan", "draw"), how many are done, and of how many.
        scanner: scans in another way than block by block in this process (`shards.sharded`).
        autocast: convolutions and matrix products in bfloat16: values keep two to three digits, so
            units' hits may change places with others nearly as strong. It makes an index of its
            own; its pictures are projected in float32.

    Raises:
        DatasetError: no such dataset, no image in it that can be read, or an image that changed
            while it was indexed.
        AddressError: no such layer. ParameterError: a number outside its range, layers, a network
            that does not take pictures, or autocast of one that is not float32. ProjectionError: a
            layer has no way down by the rule.
        IndexError_: `out` holds other things, or another process is building there.
    """
    _check_numbers(
        k=k, per_group=per_group, batch=batch, workers=workers, checkpoint_every=checkpoint_every
    )
    opened = open_dataset(dataset)
    root = Path(out)
    _check(net, opened, k, per_group)
    if autocast:
        _check_autocast(net)
    wanted = _layers(net, layers)
    if sprites:
        _check_ways(net, wanted, rule)
    plan = ScanPlan(
        network=net.fingerprint,
        dataset=opened.fingerprint,
        layers=wanted,
        k=k,
        per_group=per_group,
        block=block_size(net, wanted),
        rule=rule if sprites else None,
        made_on=made_on(net),
        autocast=autocast,
    )
    with store.building(root):
        if _finished(root, plan):
            store.drop_checkpoint(root)
            return open_index(root)
        scan = Scan(net, opened, plan)
        if not scan.resume(root):
            store.clear(root)
        ahead = max(plan.block, min(batch, _AHEAD_BYTES // prod(net.input_size)))
        decoder = ReadAhead(opened, net.preprocess, workers, ahead)
        try:
            reporter = Reporter("scan", scan.done, len(opened), progress, on_progress)
            steps = _here(scan, decoder) if scanner is None else scanner(scan)
            _run_scan(scan, steps, root, checkpoint_every, reporter)
            if sprites:
                half = max(1, plan.block // 2)  # the canvases take their part of the memory
                artist = Artist(net, scan.tops, scan.digests, half, root, rule)
                artist.draw(decoder, progress, on_progress)
        finally:
            decoder.close()
        store.write_files(root, {store.TABLES: store.pack(scan.tables())})
        store.commit(root, _manifest(scan))
    return open_index(root)


def _finished(root: Path, plan: ScanPlan) -> bool:
    try:
        return store.read_manifest(root).get("key") == plan.key and bool(open_index(root))
    except IndexError_:
        return False


def _here(scan: Scan, decoder: ReadAhead) -> Iterator[int]:
    for block in decoder(range(scan.done, len(scan.dataset)), scan.plan.block):
        scan.add(block)
        yield len(block)


def _run_scan(scan: Scan, steps: Iterator[int], root: Path, every: int, reporter: Reporter) -> None:
    total, saved = len(scan.dataset), scan.done
    for count in steps:
        reporter.advance(count)
        if scan.done - saved >= every or scan.done == total:
            scan.save(root)
            saved = scan.done
    reporter.close()
    if len(scan.skipped) == total:
        raise DatasetError(
            f"None of the {total} images of '{scan.dataset.name}' can be used; the first: "
            f"{scan.skipped[0].path}: {scan.skipped[0].reason}"
        )


def _manifest(scan: Scan) -> dict[str, Any]:
    dataset, plan = scan.dataset, scan.plan
    skipped = sorted([*scan.skipped, *dataset.passed_over], key=lambda s: (s.path, s.reason))
    entries = dataset.entries
    return {
        "key": plan.key,
        "model": describe(scan.net),
        "dataset": {
            "name": dataset.name,
            "count": len(dataset) - len(scan.skipped),
            "labels": dataset.labels,
            "groups": len(dataset.groups),
            "skipped": [asdict(item) for item in skipped],
            "fingerprint": dataset.fingerprint,
            "content": fingerprint.of_bytes(scan.digests.tobytes()),
        },
        "layers": list(plan.layers),
        "k": plan.k,
        "per_group": plan.per_group,
        "rule": plan.rule,
        "made_on": plan.made_on,
        "autocast": plan.autocast,
        "tiles": {layer: tile_size(scan.net, layer) for layer in plan.layers},
        "images": {
            str(i): {"path": entries[i].path, "label": entries[i].label, "group": entries[i].group}
            for i in scan.winners()
        },
    }

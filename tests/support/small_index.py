"""A small network and dataset for the index's tests, also run as a program that can be killed.

python small_index.py IMAGES OUT [PHASE COUNT]: build an index; with PHASE and COUNT say "here" once
so many are done in that phase, and wait to be killed.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn

import deconvnet as dn
from deconvnet.data.dataset import open_dataset
from deconvnet.data.preprocess import Preprocess

SIZE = 32
OPTIONS = {"k": 4, "per_group": 2, "progress": False, "checkpoint_every": 64, "workers": 2}


class Small(nn.Module):
    """Two stages and a classifier, in float64 so that sums agree with any other order to 1e-15."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 6, 5, 2, 2), nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.relu2 = nn.Conv2d(6, 5, 3, padding=1), nn.ReLU()
        self.fc = nn.Linear(5 * 8 * 8, 3)

    def forward(self, x):
        x = self.relu2(self.conv2(self.pool1(self.relu1(self.conv1(x)))))
        return self.fc(x.flatten(1))


def small_network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Small().double()
    module.conv1.bias.data[0] = -1000.0  # a unit that never fires
    return dn.trace(
        module,
        (3, SIZE, SIZE),
        landmarks={"conv1": "relu1", "conv2": "relu2"},
        preprocess=Preprocess((SIZE, SIZE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        name="small",
    )


def group_of(path):
    """Twelve groups, by the number in the file's name; every seventh image has none."""
    number = int(Path(path).stem)
    return None if number % 7 == 0 else f"film {number % 12}"


def build(images, out, **options):
    dataset = open_dataset(images, group=group_of, name="images")
    return dn.build_index(small_network(), dataset, out, **{**OPTIONS, **options})


def _stop_at(phase, count):
    def on_progress(now, done, _):
        if now == phase and done >= count:
            sys.stdout.write("here\n")
            sys.stdout.flush()
            time.sleep(600)

    return on_progress


if __name__ == "__main__":
    where = _stop_at(sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else None
    build(sys.argv[1], sys.argv[2], on_progress=where)

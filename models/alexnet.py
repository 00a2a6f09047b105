"""torchvision's AlexNet: the single-GPU variant of Krizhevsky 2014, 64 first-layer filters, no LRN.

The landmarks are the ReLUs after the five convolutions and the first two linear layers.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "alexnet",
    landmarks={
        "conv1": "features.1",
        "conv2": "features.4",
        "conv3": "features.7",
        "conv4": "features.9",
        "conv5": "features.11",
        "fc6": "classifier.2",
        "fc7": "classifier.5",
    },
    title="AlexNet (one weird trick)",
    source="Krizhevsky 2014, arXiv:1404.5997, by torchvision",
)

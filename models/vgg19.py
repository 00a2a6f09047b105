"""torchvision's VGG-19, configuration E without batch normalisation.

The landmarks are the last ReLU before each of the five pools (conv1_2, conv2_2, conv3_4, conv4_4,
conv5_4 in the paper's words) and those of the first two linear layers.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "vgg19",
    landmarks={
        "conv1": "features.3",
        "conv2": "features.8",
        "conv3": "features.17",
        "conv4": "features.26",
        "conv5": "features.35",
        "fc6": "classifier.1",
        "fc7": "classifier.4",
    },
    title="VGG-19",
    source="Simonyan & Zisserman 2014, arXiv:1409.1556, by torchvision",
)

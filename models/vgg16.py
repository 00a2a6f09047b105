"""torchvision's VGG-16, configuration D without batch normalisation.

The landmarks are the last ReLU before each of the five pools (conv1_2, conv2_2, conv3_3, conv4_3,
conv5_3 in the paper's words) and those of the first two linear layers.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "vgg16",
    landmarks={
        "conv1": "features.3",
        "conv2": "features.8",
        "conv3": "features.15",
        "conv4": "features.22",
        "conv5": "features.29",
        "fc6": "classifier.1",
        "fc7": "classifier.4",
    },
    title="VGG-16",
    source="Simonyan & Zisserman 2014, arXiv:1409.1556, by torchvision",
)

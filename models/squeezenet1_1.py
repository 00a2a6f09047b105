"""torchvision's SqueezeNet 1.1.

The landmarks are the first ReLU, the last fire module before each of the two later pools, and the
last ones of 384 and of 512 channels. A fire module ends in the concatenation of two rectified
expansions, so its landmark is that concatenation: the ReLU outputs side by side.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "squeezenet1_1",
    landmarks={
        "conv1": "features.1",
        "conv2": "features.4.cat",
        "conv3": "features.7.cat",
        "conv4": "features.10.cat",
        "conv5": "features.12.cat",
    },
    title="SqueezeNet 1.1",
    source="Iandola et al. 2016, arXiv:1602.07360, by torchvision",
)

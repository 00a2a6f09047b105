"""torchvision's GoogLeNet with batch normalisation, without the auxiliary heads of training.

The landmarks are the ReLUs of the first and of the third convolution (before the first two pools)
and the last inception module of each later stage. Such a module ends in the concatenation of four
rectified branches, so its landmark is that concatenation: the ReLU outputs side by side.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "googlenet",
    landmarks={
        "conv1": "conv1.relu",
        "conv2": "conv3.relu",
        "conv3": "inception3b.cat",
        "conv4": "inception4e.cat",
        "conv5": "inception5b.cat",
    },
    title="GoogLeNet",
    source="Szegedy et al. 2014, arXiv:1409.4842, by torchvision",
)

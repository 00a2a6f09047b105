"""torchvision's GoogLeNet with batch normalisation, without the auxiliary heads of training.

The landmarks are the ReLUs of the first and of the third convolution (before the first two pools)
and the last inception module of each later stage. Such a module ends in the concatenation of four
rectified branches, so its landmark is that concatenation: the ReLU outputs side by side.

The weights were trained on values from -1 to 1. torchvision's own module gets there from ImageNet's
mean and deviation by arithmetic on its input (`transform_input`); here the preprocessing does it.
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
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)

"""torchvision's ResNet-50.

The landmarks are the first ReLU and the last one of each of the four residual stages. A bottleneck
calls its one ReLU three times; the third call, after the addition, is spelled `relu:3`.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "resnet50",
    landmarks={
        "conv1": "relu",
        "conv2": "layer1.2.relu:3",
        "conv3": "layer2.3.relu:3",
        "conv4": "layer3.5.relu:3",
        "conv5": "layer4.2.relu:3",
    },
    title="ResNet-50",
    source="He et al. 2015, arXiv:1512.03385, by torchvision",
)

"""torchvision's ResNet-18.

The landmarks are the first ReLU and the last one of each of the four residual stages. A basic block
calls its one ReLU twice; the second call, after the addition, is spelled `relu:2`.
"""

from deconvnet.zoo import torchvision_spec

SPEC = torchvision_spec(
    "resnet18",
    landmarks={
        "conv1": "relu",
        "conv2": "layer1.1.relu:2",
        "conv3": "layer2.1.relu:2",
        "conv4": "layer3.1.relu:2",
        "conv5": "layer4.1.relu:2",
    },
    title="ResNet-18",
    source="He et al. 2015, arXiv:1512.03385, by torchvision",
)

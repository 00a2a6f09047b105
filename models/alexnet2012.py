"""AlexNet as published in 2012: 96 filters of 11×11 stride 4, LRN before the pool, grouped layers.

conv2, conv4 and conv5 see half of the channels each, as they did on the two GPUs. The paper says
224×224, but 55×55 maps need 227 pixels without padding; 227 it is. torchvision's `alexnet` is the
later single-GPU variant with 64 first-layer filters and without normalisation.

No weights are shipped: train them with `deconvnet train alexnet2012`, or give a file.

Source: Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural
Networks, NIPS 2012, sections 3 to 5.
"""

from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from deconvnet.zoo import ModelSpec, Preprocess, Recipe


class AlexNet2012(nn.Module):
    """[n, 3, 227, 227] → [n, classes] logits."""

    def __init__(self, classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.relu1 = nn.ReLU()
        # torch divides alpha by the window's size: 5e-4 / 5 is the paper's 1e-4.
        self.norm1 = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.relu2 = nn.ReLU()
        self.norm2 = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, classes)
        self._initialise()

    def _initialise(self) -> None:
        """Weights of deviation 0.01; biases of one where the paper wants ReLUs to start awake."""
        awake = {self.conv2, self.conv4, self.conv5, self.fc6, self.fc7}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert layer.bias is not None
                nn.init.normal_(layer.weight, std=1e-2)
                nn.init.constant_(layer.bias, 1.0 if layer in awake else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.norm1(self.relu1(self.conv1(x))))
        x = self.pool2(self.norm2(self.relu2(self.conv2(x))))
        x = self.relu5(self.conv5(self.relu4(self.conv4(self.relu3(self.conv3(x))))))
        x = self.pool5(x).flatten(1)
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))
        logits: Tensor = self.fc8(x)
        return logits


SPEC = ModelSpec(
    name="alexnet2012",
    build=AlexNet2012,
    input_size=(3, 227, 227),
    landmarks={
        "conv1": "relu1",
        "conv2": "relu2",
        "conv3": "relu3",
        "conv4": "relu4",
        "conv5": "relu5",
        "fc6": "relu6",
        "fc7": "relu7",
    },
    preprocess=Preprocess(
        (227, 227), resize=256, mean=(0.485, 0.456, 0.406), std=(1 / 255, 1 / 255, 1 / 255)
    ),
    title="AlexNet of 2012, grouped",
    source="Krizhevsky, Sutskever & Hinton, NIPS 2012",
    licence="architecture only; no weights are shipped",
    classes=tuple(AlexNet_Weights.DEFAULT.meta["categories"]),
    recipe=Recipe(epochs=90, batch=128, rate=0.01),
)

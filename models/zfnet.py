"""ZFNet as published: eight layers on 224×224 images, 62.36 million parameters at 1000 classes.

7×7 stride 2, max-pool 3×3 stride 2 (ceil), contrast normalisation after the pool, 5×5 stride 2,
pool, normalisation, three dense 3×3, pool, two fully connected layers of 4096. Maps of 110, 55, 26,
13, 13, 13, 13 and 6 pixels a side; receptive fields of the landmarks 7, 27, 75, 107 and 139 pixels.

The paper subtracts the mean image; here the mean of each channel is subtracted, which serves any
dataset. No weights are shipped: train them with `deconvnet train zfnet`, or give a file.

Source: Zeiler & Fergus, arXiv:1311.2901, section 3 and figure 3.
"""

from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from deconvnet.zoo import ModelSpec, Preprocess, Recipe


class ZFNet(nn.Module):
    """[n, 3, 224, 224] → [n, classes] logits."""

    def __init__(self, classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        # torch divides alpha by the window's size: 5e-4 / 5 is the paper's 1e-4.
        self.norm1 = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.conv2 = nn.Conv2d(96, 256, 5, stride=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm2 = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert layer.bias is not None
                nn.init.normal_(layer.weight, std=1e-2)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pool1(self.relu1(self.conv1(x))))
        x = self.norm2(self.pool2(self.relu2(self.conv2(x))))
        x = self.relu5(self.conv5(self.relu4(self.conv4(self.relu3(self.conv3(x))))))
        x = self.pool5(x).flatten(1)
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))
        logits: Tensor = self.fc8(x)
        return logits


SPEC = ModelSpec(
    name="zfnet",
    build=ZFNet,
    input_size=(3, 224, 224),
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
        (224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(1 / 255, 1 / 255, 1 / 255)
    ),
    title="ZFNet",
    source="Zeiler & Fergus 2013, arXiv:1311.2901",
    licence="architecture only; no weights are shipped",
    classes=tuple(AlexNet_Weights.DEFAULT.meta["categories"]),
    recipe=Recipe(epochs=70, batch=128, rate=0.01, rms_clip=0.1),
)

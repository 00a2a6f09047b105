"""ZFNet for 64×64 images: the paper's five stages at a quarter of its input's area per side.

7×7 stride 2, max-pool 3×3 stride 2 (ceil), contrast normalisation, 5×5, pool, normalisation,
three 3×3, pool. Receptive fields of the landmarks: 7, 27, 51, 67 and 83 pixels, jumps 2, 4, 8, 8
and 8. The narrow widths let it train on two CPU cores.

Source: Zeiler & Fergus, arXiv:1311.2901, section 3 and figure 3, scaled down.
"""

from torch import Tensor, nn

from deconvnet.zoo import ModelSpec, Preprocess, Recipe


class ZFNet64(nn.Module):
    """[n, 3, 64, 64] → [n, classes] logits."""

    def __init__(
        self,
        classes: int = 200,
        channels: tuple[int, int, int, int, int] = (64, 160, 256, 256, 160),
        hidden: int = 512,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = channels
        self.conv1 = nn.Conv2d(3, c1, 7, stride=2, padding=3)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm2 = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.fc6 = nn.Linear(c5 * 4 * 4, hidden)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(hidden, hidden)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(hidden, classes)
        self._initialise()

    def _initialise(self) -> None:
        """He's scheme, but conv1 at a tenth of its scale: see the recipe for why."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        self.conv1.weight.data.mul_(0.1)

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
    name="zfnet64",
    build=ZFNet64,
    input_size=(3, 64, 64),
    landmarks={
        "conv1": "relu1",
        "conv2": "relu2",
        "conv3": "relu3",
        "conv4": "relu4",
        "conv5": "relu5",
        "fc6": "relu6",
        "fc7": "relu7",
    },
    preprocess=Preprocess((64, 64), mean=(0.48, 0.45, 0.40), std=(0.27, 0.26, 0.28)),
    title="ZFNet at 64×64, trained on Tiny ImageNet",
    source="Zeiler & Fergus 2013, arXiv:1311.2901, scaled to 64×64",
    licence="weights: trained here; images: ImageNet, non-commercial research",
    # With He's scale in conv1 the first filters stay noise for epochs, and every projection with
    # them; a tenth of it, learnt three times as fast, gives edges and colour blobs.
    recipe=Recipe(epochs=16, batch=128, rate=0.04, first_layer_rate=3.0, shift=6, rms_clip=0.1),
)

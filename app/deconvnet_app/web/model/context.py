"""What a network's page knows; also its JSON twin."""

from deconvnet_app.web.components import Fact, IndexCard, LayerCard, ModelCard
from deconvnet_app.web.page import Page


class ModelPage(Page):
    """A network as the diagram that leads to its layers.

    Attributes:
        no_weights: why it has none here, and how to give them; then its architecture is shown.
    """

    card: ModelCard
    no_weights: str
    facts: list[Fact]
    stages: list[LayerCard]
    provenance: str
    others: list[LayerCard]
    indexes: list[IndexCard]

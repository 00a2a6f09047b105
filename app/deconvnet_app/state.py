"""What the running application consists of."""

from dataclasses import dataclass, field

from deconvnet_app.access import Access
from deconvnet_app.artifacts import ArtifactStore
from deconvnet_app.catalog.datasets import Datasets
from deconvnet_app.catalog.indexes import IndexCatalog
from deconvnet_app.compute.scheduler import Compute
from deconvnet_app.db.engine import Database
from deconvnet_app.imaging.decoder import Decoder
from deconvnet_app.jobs.coordinator import Coordinator
from deconvnet_app.jobs.janitor import Janitor
from deconvnet_app.jobs.watchers import Watchers
from deconvnet_app.metrics import Metrics
from deconvnet_app.settings import Settings


@dataclass(frozen=True)
class AppState:
    """The parts that services work with; one per application, at `app.state.deconv`.

    Attributes:
        keys_in_flight: idempotency keys whose submissions are being answered.
    """

    settings: Settings
    access: Access
    metrics: Metrics
    artifacts: ArtifactStore
    compute: Compute
    decoder: Decoder
    db: Database
    jobs: Coordinator
    datasets: Datasets
    indexes: IndexCatalog
    watchers: Watchers
    janitor: Janitor
    keys_in_flight: set[str] = field(default_factory=set)

    def troubles(self) -> dict[str, str]:
        """The parts that should be at work and are not: what ails each."""
        found = {
            "database": self.db.trouble,
            "coordinator": self.jobs.trouble,
            "compute": self.compute.trouble,
            "janitor": self.janitor.trouble,
        }
        return {name: trouble for name, trouble in found.items() if trouble is not None}

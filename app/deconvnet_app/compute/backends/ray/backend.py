"""The backend on a Ray cluster: one process here for each actor there (`ray_worker`)."""

import os
from functools import partial

from deconvnet_app.compute.backends.process import ProcessBackend
from deconvnet_app.compute.backends.ray.cluster import check
from deconvnet_app.compute.backends.ray.proxy import GONE, REFUSED, cluster_of, work_on_ray
from deconvnet_app.compute.spec import Lost
from deconvnet_app.settings import Settings


class RayBackend(ProcessBackend):
    """Keeps `settings.workers` actors on a cluster that is running.

    A cluster that goes away, as a whole, takes no unit with it: what ran is told as `Lost` with
    `away`, and there is nothing free until it is back.

    Raises:
        ClusterError: the cluster is not there, or lets in whoever comes.
    """

    def __init__(self, settings: Settings) -> None:
        check(cluster_of(settings))
        # What workers are forked from may have started before the token was in the environment.
        environment = {name: one for name, one in os.environ.items() if name.startswith("RAY_")}
        super().__init__(settings, partial(work_on_ray, environment))

    def _lost(self, exitcode: int | None, killed: bool) -> Lost:
        if exitcode in (GONE, REFUSED):
            return Lost("the Ray cluster is away", killed, away=True)
        return Lost("its actor on the Ray cluster has died", killed)

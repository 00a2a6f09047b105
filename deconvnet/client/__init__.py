"""A typed client of a deconvnet server's REST interface: `pip install 'deconvnet[client]'`.

from deconvnet.client import Client

with Client("http://127.0.0.1:8000", token_file=".demo/token") as client:
    job = client.submit("zfnet64", "occlusion", images=[client.upload("photo.png")])
    for item in client.iter_results(job):
        print(item.n, client.array(job, item.n).shape)
"""

try:
    import httpx2  # noqa: F401 - without it nothing below can be imported
except ImportError as error:
    raise ImportError(
        "deconvnet.client needs httpx2, which is not installed: pip install 'deconvnet[client]'"
    ) from error

from deconvnet.client.client import Client
from deconvnet.client.responses import Counts, Event, Fault, Image, Item, Job
from deconvnet.client.transport import ClientError, ProblemError, UnreachableError

__all__ = [
    "Client",
    "ClientError",
    "Counts",
    "Event",
    "Fault",
    "Image",
    "Item",
    "Job",
    "ProblemError",
    "UnreachableError",
]

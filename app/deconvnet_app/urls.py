"""Every URL of the web pages, once.

Routes use the templates (`Urls.MODEL`), everything else the functions; both stand side by side, so
a page moves by one edit. A unit's spelling is its address ("conv3:117"), as everywhere else.
A page's JSON twin is the same path with ".json".
"""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from deconvnet.address import Unit

Query = Mapping[str, object]


def _segment(text: str) -> str:
    return quote(text, safe=":@,~")


def with_query(path: str, query: Query) -> str:
    """The path with those parameters that are set; None, "" and False are left out."""
    pairs = [
        (key, "1" if value is True else str(value))
        for key, value in query.items()
        if value is not None and value is not False and value != ""
    ]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def twin(url: str) -> str:
    """The address of a page's JSON twin."""
    path, mark, query = url.partition("?")
    return ("/home.json" if path == "/" else f"{path}.json") + mark + query


class Urls:
    """Spells the address of every page, picture and file."""

    HOME = "/"
    LOGIN = "/login"
    SEARCH = "/search"
    MODEL = "/models/{model}"
    LAYER = "/models/{model}/layers/{layer}"
    UNIT = "/models/{model}/units/{unit}"
    FILTERS = "/models/{model}/filters/{layer}"
    OCCLUSION = "/occlusion"
    OCCLUSION_STOP = "/occlusion/stop"
    JOBS = "/jobs"
    JOB = "/jobs/{job}"
    CANCEL = "/jobs/{job}/cancel"
    SPRITE = "/media/indexes/{index}/sprites/{layer}/{channel}.png"
    PATCH = "/media/indexes/{index}/images/{image}.png"
    ARTIFACT = "/media/artifacts/{key}"
    STATIC = "/static"
    API = "/api/v1"
    REST = "/rest"

    @staticmethod
    def home(**query: object) -> str:
        """The start page; `seed` chooses the unit it shows."""
        return with_query(Urls.HOME, query)

    @staticmethod
    def login(code: str) -> str:
        """The link that signs a browser in, once."""
        return with_query(Urls.LOGIN, {"code": code})

    @staticmethod
    def search(**query: object) -> str:
        """Jump to what a text names."""
        return with_query(Urls.SEARCH, query)

    @staticmethod
    def model(model: str, **query: object) -> str:
        """A network's diagram."""
        return with_query(f"/models/{_segment(model)}", query)

    @staticmethod
    def layer(model: str, layer: str, **query: object) -> str:
        """A layer's grid of units."""
        return with_query(f"/models/{_segment(model)}/layers/{_segment(layer)}", query)

    @staticmethod
    def unit(model: str, unit: Unit, **query: object) -> str:
        """A unit's page."""
        return with_query(f"/models/{_segment(model)}/units/{_segment(str(unit))}", query)

    @staticmethod
    def filters(model: str, layer: str, **query: object) -> str:
        """A layer's kernels."""
        return with_query(f"/models/{_segment(model)}/filters/{_segment(layer)}", query)

    @staticmethod
    def occlusion(**query: object) -> str:
        """The occlusion page; its whole state is the query."""
        return with_query(Urls.OCCLUSION, query)

    @staticmethod
    def jobs(**query: object) -> str:
        """All jobs and the form for a new one."""
        return with_query(Urls.JOBS, query)

    @staticmethod
    def job(job: str, **query: object) -> str:
        """One job."""
        return with_query(f"/jobs/{_segment(job)}", query)

    @staticmethod
    def cancel(job: str) -> str:
        """Where the cancel button posts."""
        return f"/jobs/{_segment(job)}/cancel"

    @staticmethod
    def sprite(index: str, layer: str, channel: int, version: str) -> str:
        """A unit's projections and patches, as one picture; `version` is the index's own id."""
        path = f"/media/indexes/{_segment(index)}/sprites/{_segment(layer)}/{channel}.png"
        return with_query(path, {"v": version[:12]})

    @staticmethod
    def image(index: str, image: int, version: str) -> str:
        """An indexed image as the network sees it."""
        path = f"/media/indexes/{_segment(index)}/images/{image}.png"
        return with_query(path, {"v": version[:12]})

    @staticmethod
    def artifact(key: str) -> str:
        """A stored file, by its content's hash and suffix."""
        return f"/media/artifacts/{_segment(key)}"

    @staticmethod
    def api(path: str = "", **query: object) -> str:
        """An address of the REST interface."""
        return with_query(Urls.API + path, query)


def _path(*parts: object) -> str:
    return "/api/v1" + "".join(f"/{quote(str(part), safe=':@,')}" for part in parts)


class API:
    """Spells addresses; a route's own path stands beside its function."""

    ROOT = "/api/v1"

    @staticmethod
    def collection(name: str) -> str:
        """models, methods, datasets, indexes, images or jobs."""
        return _path(name)

    @staticmethod
    def model(name: str) -> str:
        """A network."""
        return _path("models", name)

    @staticmethod
    def layers(name: str) -> str:
        """A network's layers."""
        return _path("models", name, "layers")

    @staticmethod
    def dataset_images(dataset: str) -> str:
        """A dataset's images."""
        return _path("datasets", dataset, "images")

    @staticmethod
    def index(index: str) -> str:
        """An index."""
        return _path("indexes", index)

    @staticmethod
    def image(image: str) -> str:
        """An uploaded image."""
        return _path("images", image)

    @staticmethod
    def image_png(image: str) -> str:
        """An uploaded image's picture."""
        return _path("images", f"{image}.png")

    @staticmethod
    def job(job: str, *parts: object) -> str:
        """A job or something of it."""
        return _path("jobs", job, *parts)

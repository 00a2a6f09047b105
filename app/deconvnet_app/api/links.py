"""Every address of the REST interface, once."""

from urllib.parse import quote


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

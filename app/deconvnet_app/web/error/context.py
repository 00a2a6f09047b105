"""What the page of an error knows; also its JSON twin."""

from deconvnet_app.web.components import Link
from deconvnet_app.web.page import Page


class ErrorPage(Page):
    """What went wrong, and what to do."""

    status: int
    detail: str
    request_id: str
    links: list[Link]

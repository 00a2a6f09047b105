"""What the page of the REST interface knows; also its JSON twin."""

from deconvnet_app.web.components import Context
from deconvnet_app.web.page import Page


class Call(Context):
    """One call of the REST interface."""

    method: str
    path: str
    summary: str
    parameters: list[str]
    url: str


class CallGroup(Context):
    """Calls about one subject."""

    name: str
    calls: list[Call]


class RestPage(Page):
    """The REST interface."""

    groups: list[CallGroup]
    openapi: str
    example: str

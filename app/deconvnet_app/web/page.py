"""What each page knows: one Context per page, which is also the page's JSON twin.

Templates show these fields and compute nothing. A picture always comes with its alternative text
and its provenance line; a chart with its geometry and the table it draws.
"""

from typing import Literal

import pydantic

from deconvnet_app.web.components import Context, Link


class Page(Context):
    """What every page has: its place, and the neighbours that the keys lead to."""

    title: str
    url: str
    twin: str
    section: Literal["models", "occlusion", "jobs", "api", ""] = ""
    crumbs: list[Link] = pydantic.Field(default_factory=list)
    previous: Link | None = None
    following: Link | None = None
    layer_previous: Link | None = None
    layer_following: Link | None = None

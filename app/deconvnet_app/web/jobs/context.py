"""What the pages of jobs knows; also its JSON twin."""

from typing import Literal

from deconvnet_app.web.components import (
    Context,
    Fact,
    Field,
    JobRow,
    Link,
    Option,
    Picture,
)
from deconvnet_app.web.page import Page


class JobItem(Context):
    """One image of a job."""

    number: int
    name: str
    state: str
    tone: Literal["calm", "busy", "good", "bad"]
    detail: str
    picture: Picture | None
    downloads: list[Link]


class JobsPage(Page):
    """All jobs, and the form for a new one with its twins."""

    jobs: list[JobRow]
    method: str
    methods: list[Link]
    models: list[Option]
    sources: list[Option]
    fields: list[Field]
    target: str
    target_help: str
    curl: str
    python: str
    problem: str
    next_page: str


class JobPage(Page):
    """One job: progress, items, results."""

    row: JobRow
    facts: list[Fact]
    items: list[JobItem]
    downloads: list[Link]
    cancel: str
    problem: str
    request: str
    page_previous: str
    page_following: str

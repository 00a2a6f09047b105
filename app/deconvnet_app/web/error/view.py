"""An error as a page: what is wrong, and where to go from there."""

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response

from deconvnet_app.http.problems import Problem
from deconvnet_app.urls import Urls
from deconvnet_app.web.components import Link
from deconvnet_app.web.error.context import ErrorPage
from deconvnet_app.web.render import html

# Not for who has yet to sign in: each of them would ask for the same.
_ELSEWHERE = [
    Link(label="Networks", url=Urls.home()),
    Link(label="Occlusion", url=Urls.occlusion()),
    Link(label="Jobs", url=Urls.jobs()),
]


def error_page(request: Request, problem: Problem) -> Response:
    """The page for a problem; its fields are the problem's own."""
    del request
    page = ErrorPage(
        title=problem.title,
        url=problem.instance,
        twin="",
        status=problem.status,
        detail=problem.detail,
        request_id=problem.request_id,
        links=[] if problem.status == HTTPStatus.UNAUTHORIZED else _ELSEWHERE,
    )
    return html("error.html", page, problem.status)

"""A job as a row of a list."""

from typing import Literal

from deconvnet_app.services.job_views import JobView
from deconvnet_app.urls import Urls
from deconvnet_app.web.components import JobRow
from deconvnet_app.web.formatting import ago, number, span

Tone = Literal["calm", "busy", "good", "bad"]

TONES: dict[str, Tone] = {
    "queued": "busy",
    "pending": "busy",
    "running": "busy",
    "cancelling": "busy",
    "succeeded": "good",
    "failed": "bad",
    "cancelled": "calm",
    "expired": "bad",
    "skipped": "calm",
}


def job_row(job: JobView) -> JobRow:
    """A job in a list."""
    counts = job.counts
    return JobRow(
        id=job.id,
        short=job.id[:12],
        url=Urls.job(job.id),
        method=str(job.request["method"]),
        model=str(job.request["model"]),
        state=job.state,
        tone=TONES[job.state],
        done=counts.succeeded + counts.failed + counts.skipped,
        total=counts.total,
        failed=counts.failed,
        created=ago(job.created_at),
        rate=f"{number(job.rate)} items/s" if job.rate else "",
        left=span(job.eta_s) if job.eta_s is not None else "",
    )

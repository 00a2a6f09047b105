"""A job's results as one ZIP, made while it is sent."""

from collections.abc import Iterable, Iterator
from itertools import islice

from zipstream import ZipStream

from deconvnet_app.errors import Refusal
from deconvnet_app.services import jobs
from deconvnet_app.services.job_views import ItemView, JobView
from deconvnet_app.state import AppState


def names(one: ItemView) -> ItemView:
    """An item whose files are told by their places in the archive."""
    folder = f"{one.n:06d}"
    pictures = {name: f"{folder}/{name}.png" for name in one.pictures}
    arrays = {name: f"{folder}/{name}.npy" for name in one.arrays}
    return one.model_copy(update={"pictures": pictures, "arrays": arrays})


def require_files(state: AppState, job: JobView) -> None:
    """Refuse an archive that would end half-way, while it can still be said why.

    Raises:
        Refusal: 404, a file of a result is gone.
    """
    for one in jobs.items_so_far(state, job, "succeeded"):
        files = [*one.pictures.values(), *one.arrays.values()]
        if files and not state.artifacts.hold(*files):
            detail = f"A file of item {one.n}'s result is not stored any more; the others may be."
            raise Refusal(404, "not_found", detail)


def archive(state: AppState, job: JobView) -> Iterator[bytes]:
    """The bytes of the ZIP: every succeeded item's files, results.jsonl and errors.jsonl.

    Of a running job it has what there was when the job was read, and so it ends.
    Files are stored as they are: PNGs are compressed already. One file is open at a time; what is
    kept in memory is the archive's directory, some 0.5 KB a file.
    """
    made = ZipStream()
    taken = set()
    for one in jobs.items_so_far(state, job, "succeeded"):
        taken.add(one.n)
        placed = names(one)
        for kind in ("pictures", "arrays"):
            for name, sha256 in getattr(one, kind).items():
                made.add_path(state.artifacts.path(sha256), getattr(placed, kind)[name])
        yield from made.all_files()
    again = (one for one in jobs.all_items(state, job.id, "succeeded") if one.n in taken)
    made.add(_lines(islice(again, len(taken))), "results.jsonl")
    made.add(_lines(jobs.items_so_far(state, job, "failed")), "errors.jsonl")
    yield from made.finalize()


def _lines(items: Iterable[ItemView]) -> Iterator[bytes]:
    for one in items:
        yield names(one).model_dump_json().encode() + b"\n"

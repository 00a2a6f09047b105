"""A job's results as one ZIP, made while it is sent."""

from collections.abc import Iterator

from zipstream import ZipStream

from app.services import jobs
from app.services.job_views import ItemView
from app.state import AppState


def names(one: ItemView) -> ItemView:
    """An item whose files are told by their places in the archive."""
    folder = f"{one.n:06d}"
    pictures = {name: f"{folder}/{name}.png" for name in one.pictures}
    arrays = {name: f"{folder}/{name}.npy" for name in one.arrays}
    return one.model_copy(update={"pictures": pictures, "arrays": arrays})


def archive(state: AppState, job_id: str) -> Iterator[bytes]:
    """The bytes of the ZIP: every succeeded item's files, results.jsonl and errors.jsonl.

    Files are stored as they are: PNGs are compressed already. One file is open at a time; what is
    kept in memory is the archive's directory, some 0.5 KB a file.
    """
    made = ZipStream()
    for one in jobs.all_items(state, job_id, "succeeded"):
        placed = names(one)
        for kind in ("pictures", "arrays"):
            for name, sha256 in getattr(one, kind).items():
                made.add_path(state.artifacts.path(sha256), getattr(placed, kind)[name])
        yield from made.all_files()
    for name, state_of in (("results.jsonl", "succeeded"), ("errors.jsonl", "failed")):
        made.add(_lines(state, job_id, state_of), name)
    yield from made.finalize()


def _lines(state: AppState, job_id: str, item_state: str) -> Iterator[bytes]:
    for one in jobs.all_items(state, job_id, item_state):
        yield names(one).model_dump_json().encode() + b"\n"

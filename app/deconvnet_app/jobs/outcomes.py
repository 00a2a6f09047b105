"""What becomes of an item, as changes of the database that are made when there is a transaction."""

import json
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from deconvnet_app.compute.spec import UnitError, UnitResult, WorkerLostError
from deconvnet_app.db import jobs as store
from deconvnet_app.db.errors import never_taken
from deconvnet_app.db.models import Job, JsonObject
from deconvnet_app.errors import DamagedError

MOST_DEATHS = 3

Change = Callable[[Session, float], object]


def hopeless(error: Exception) -> bool:
    """Whether the same change would end in the same error, now or later."""
    return never_taken(error) or isinstance(error, DamagedError)


def unstorable(error: Exception) -> UnitError:
    """A refusal of the database's as an item's error."""
    return UnitError("unstorable", f"What came of this item cannot be stored: {said(error)}.")


def said(error: Exception) -> str:
    """What the database said, without the statement, which may be as long as a result."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(cause).__name__}: {cause}".strip().partition("\n")[0].rstrip(".")


def success(claim: store.Claim, result: UnitResult) -> Change:
    value = result.model_dump(mode="json")
    wanted = claim.request["outputs"]
    if "png" not in wanted:
        value["pictures"] = {}
    if "npy" not in wanted:
        value["arrays"] = {}
    json.dumps(value, allow_nan=False)  # what no JSON can say could be neither kept nor sent
    return lambda session, now: store.succeed(session, claim, value, now)


def failure(claim: store.Claim, error: BaseException) -> Change:
    if isinstance(error, WorkerLostError):
        died = not error.wanted
        return lambda session, now: store.release(
            session, claim, now, died=died, most_deaths=MOST_DEATHS
        )
    code = getattr(error, "code", "internal_error")
    if code == "storage_full":  # no fault of the item's: it waits until there is room
        return lambda session, now: store.release(
            session, claim, now, died=False, most_deaths=MOST_DEATHS
        )
    value: JsonObject = {"code": code, "detail": str(error)}
    if getattr(error, "fatal", False):
        return lambda session, now: _fail_all(session, claim, value, now)
    return lambda session, now: store.fail(session, claim, value, now)


def _fail_all(session: Session, claim: store.Claim, error: JsonObject, now: float) -> None:
    """An error that every other item would meet too: the job ends with it."""
    job = session.get_one(Job, claim.job)
    if job.state == "running":
        store.stop(session, job, now, error, "running")
    store.fail(session, claim, error, now)

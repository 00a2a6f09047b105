"""What a job's request says, and how jobs and items are shown."""

from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    create_model,
)

from deconvnet.methods import Method, Params, Target
from deconvnet_app.db import jobs as store
from deconvnet_app.db.models import Item, Job
from deconvnet_app.limits import JOB_TIMEOUT_S, METADATA_ENTRIES, TEXT_CHARS

Text = Annotated[str, StringConstraints(max_length=TEXT_CHARS)]
Output = Literal["png", "npy"]
JobState = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"]
ItemState = Literal["pending", "running", "succeeded", "failed", "skipped"]


def _distinct(outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    if len(set(outputs)) < len(outputs):
        raise ValueError("Expected each name once")
    return outputs


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageInput(_Strict):
    """An uploaded image."""

    id: Annotated[str, Field(description="as POST /images gave it", max_length=64)]
    custom_id: Annotated[Text | None, Field(description="a name of your own, once in a job")] = None


class ImagesInput(_Strict):
    """Uploaded images, in order."""

    images: Annotated[
        list[ImageInput],
        Field(min_length=1, fail_fast=True),  # not a fault for each of a million
    ]


class DatasetInput(_Strict):
    """Images of a dataset that the operator has registered."""

    dataset: Annotated[Text, Field(description="the dataset's id")]
    glob: Annotated[Text, Field(description="which paths: * ? [] in a name, ** for folders")] = "**"
    limit: Annotated[int | None, Field(ge=1, strict=True, description="at most so many")] = None


def _kind(inputs: Any) -> str:
    """Which kind of inputs is meant, so that what is wrong is said of that kind alone."""
    listed = isinstance(inputs, ImagesInput) or (isinstance(inputs, dict) and "images" in inputs)
    return "ImagesInput" if listed else "DatasetInput"


Inputs = Annotated[
    Annotated[ImagesInput, Tag("ImagesInput")] | Annotated[DatasetInput, Tag("DatasetInput")],
    Discriminator(_kind),
]


def inputs_of_at_most(images: int) -> Any:
    """`Inputs` whose list ends there: nobody is answered while a longer one is read to its end."""
    listed = Annotated[list[ImageInput], Field(min_length=1, max_length=images, fail_fast=True)]
    bounded: Any = create_model(
        "ImagesInput", __base__=ImagesInput, __doc__=ImagesInput.__doc__, images=listed
    )
    return Annotated[
        Annotated[bounded, Tag("ImagesInput")] | Annotated[DatasetInput, Tag("DatasetInput")],
        Discriminator(_kind),
    ]


class JobRequest(_Strict):
    """What a job shall do, whatever its method; `request_of` is the shape for one method."""

    model: Annotated[Text, Field(description="a network of GET /models")]
    method: Annotated[Text, Field(description="a method of GET /methods")]
    params: Annotated[Params, Field(description="the method's parameters")]
    target: Annotated[
        Target | None, Field(description="a class or a unit; null: the predicted class")
    ] = None
    inputs: Annotated[Inputs, Field(description="which images")]
    outputs: Annotated[
        tuple[Output, ...],
        Field(
            fail_fast=True,
            max_length=len(get_args(Output)),
            json_schema_extra={"uniqueItems": True},
            description="what is kept of each item's result",
        ),
        AfterValidator(_distinct),
    ] = ("png", "npy")
    timeout_s: Annotated[
        float | None,
        Field(gt=0, le=JOB_TIMEOUT_S, description="seconds the job may take once started"),
    ] = None
    metadata: Annotated[
        dict[Text, Text], Field(description="kept and given back", max_length=METADATA_ENTRIES)
    ] = {}


def request_of(method: Method, inputs: Any = Inputs) -> type[JobRequest]:
    """The request's shape for one method, with its parameters."""
    fields: Any = {
        "inputs": (inputs, Field(description="which images")),
        "method": Literal[method.name],
        "params": (method.Params, Field(default_factory=dict, validate_default=True)),
    }
    return create_model(
        f"{method.name.title()}Job",
        __base__=JobRequest,
        __doc__=method.title,
        **fields,
    )


class Counts(_Strict):
    """How many items there are, and how they ended."""

    total: int
    succeeded: int
    failed: int
    skipped: int


def _resolved(request: dict[str, Any]) -> dict[str, Any]:
    """A job's request as it was kept; one that lacks these is damaged."""
    if missing := {"model", "method"} - request.keys():
        raise ValueError(f"the request has no {sorted(missing)[0]}")
    return request


class JobView(_Strict):
    """A job as the interface shows it.

    Attributes:
        rate: items per second since it was started; null before there is one.
        eta_s: seconds left at that rate.
        request: as resolved: every parameter has its value.
        fingerprints: of the network, the code and the inputs: the contents of uploads, or the paths
            of a dataset's files, whose contents each item's `sha256` tells.
    """

    id: str
    state: JobState
    version: int
    counts: Counts
    rate: float | None
    eta_s: float | None
    request: Annotated[dict[str, Any], AfterValidator(_resolved)]
    fingerprints: dict[str, Any]
    error: dict[str, Any] | None
    created_at: float
    started_at: float | None
    updated_at: float
    finished_at: float | None

    @property
    def terminal(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in store.TERMINAL


class ItemView(_Strict):
    """One input of a job, and what came of it.

    `sha256` names the bytes that the result was computed on: the stored PNG of an upload, or a
    dataset's file as it was then.
    """

    n: int
    state: ItemState
    custom_id: str | None
    image: str | None
    dataset: str | None
    path: str | None
    attempt: Annotated[
        int,
        Field(
            description="attempts spent: those that ended in a result, an error or the death of "
            "the worker; the end of a server, also by force, and a cancelled job spend none"
        ),
    ]
    facts: dict[str, Any] | None
    pictures: dict[str, str]
    arrays: dict[str, str]
    provenance: str | None
    sha256: str | None
    elapsed_s: float | None
    error: dict[str, Any] | None
    finished_at: float | None


def job_view(job: Job) -> JobView:
    """A row as the interface shows it."""
    done = job.succeeded + job.failed - job.done_before
    spent = job.updated_at - job.started_at if job.started_at else 0.0
    rate = done / spent if done and spent > 0 else None
    active = job.state in store.ACTIVE
    left = job.total - job.succeeded - job.failed - job.skipped
    return JobView(
        id=job.id,
        state=cast(JobState, job.state),
        version=job.version,
        counts=Counts(
            total=job.total, succeeded=job.succeeded, failed=job.failed, skipped=job.skipped
        ),
        rate=round(rate, 3) if rate else None,
        eta_s=round(left / rate, 1) if rate and active else None,
        request=job.request,
        fingerprints=job.fingerprints,
        error=job.error,
        created_at=job.created_at,
        started_at=job.started_at,
        updated_at=job.updated_at,
        finished_at=job.finished_at,
    )


def item_view(row: Item) -> ItemView:
    """A row as the interface shows it."""
    result = row.result or {}
    return ItemView(
        n=row.n,
        state=cast(ItemState, row.state),
        custom_id=row.custom_id,
        image=row.image,
        dataset=row.dataset,
        path=row.path,
        attempt=row.spent,
        facts=result.get("facts"),
        pictures=result.get("pictures", {}),
        arrays=result.get("arrays", {}),
        provenance=result.get("provenance"),
        sha256=result.get("image"),
        elapsed_s=result.get("elapsed_s"),
        error=row.error,
        finished_at=row.finished_at,
    )

"""The client: what a program asks of the server, each a call."""

import io
import json
import operator
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, SupportsIndex
from urllib.parse import quote

import httpx2

from deconvnet.client.responses import Event, Image, Item, Job
from deconvnet.client.transport import Transport, UnreachableError
from deconvnet.errors import ParameterError
from deconvnet.naming import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

API = "/api/v1"
SILENCE_S = 45.0  # a stream of events says something every 15 s
PAGE = 1000

Target = str | SupportsIndex | Mapping[str, Any]


class Client:
    """A server's REST interface; usable as a context, and from several threads.

    A request that is refused for now (429, 503) or gets no answer is sent again, for `patience_s`
    seconds; a submission carries an idempotency key, so that this makes one job.

    Args:
        url: where the server is.
        token: what lets in.
        token_file: where it is: the file `token` in the server's data directory. Without either,
            the environment's DECONVNET_TOKEN or DECONVNET_TOKEN_FILE says it.
        timeout_s: seconds to wait for a connection, and for any part of an answer.

    Raises (all calls): ProblemError, UnreachableError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: str | None = None,
        *,
        token_file: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 120.0,
    ) -> None:
        token = token or _find_token(token_file)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        http = httpx2.Client(base_url=url, headers=headers, timeout=timeout_s)
        self._transport = Transport(http, patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.http.close()

    def about(self) -> Mapping[str, Any]:
        """The server's version, limits and links."""
        told: Mapping[str, Any] = self._json("GET", "")
        return told

    def models(self) -> list[str]:
        """The names of the networks that there are."""
        return [one["name"] for one in self._pages("/models", {})]

    def datasets(self) -> list[str]:
        """The ids of the datasets that jobs may name."""
        return [one["id"] for one in self._pages("/datasets", {})]

    def upload(self, image: str | os.PathLike[str] | bytes, name: str | None = None) -> Image:
        """Send a picture: a file, or its bytes. The same picture twice is kept once."""
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        name = name or ("image" if isinstance(image, bytes) else Path(image).name)
        return Image.of(self._json("POST", "/images", files={"file": (name, data)}))

    def submit(
        self,
        model: str,
        method: str,
        *,
        images: Sequence[Image | str | Path] | None = None,
        dataset: str | None = None,
        glob: str = "**",
        limit: int | None = None,
        params: Mapping[str, Any] | None = None,
        target: Target | None = None,
        outputs: Sequence[str] = ("png", "npy"),
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Job:
        """Have a method applied to many images; returns once the job is safe.

        Args:
            images: uploaded ones (or their ids), or the paths of files, which are uploaded first.
                Their names become `custom_id`; of equal ones, the second is "NAME (2)".
            dataset, glob, limit: instead of `images`, those of a dataset of the server.
            params: the method's parameters; numbers, here and below, may be NumPy's.
            target: a class by its number, or a unit such as "conv5:7".
            timeout_s: seconds that the job may take once it is started.
            key: the idempotency key; a fresh one unless given. The same key and request, from
                whatever process, is one job.
        """
        if (images is None) == (dataset is None):
            raise ParameterError("A job takes either images or a dataset: give one of the two.")
        inputs: dict[str, Any] = {"dataset": dataset, "glob": glob, "limit": limit}
        if images is not None:
            inputs = {"images": self._inputs(images)}
        body = {
            "model": model,
            "method": method,
            "params": dict(params or {}),
            "target": _target(target),
            "inputs": inputs,
            "outputs": list(outputs),
            "timeout_s": timeout_s,
            "metadata": dict(metadata or {}),
        }
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return Job.of(self._json("POST", "/jobs", json=_plain(body), headers=headers))

    def _inputs(self, images: Sequence[Image | str | Path]) -> list[dict[str, str]]:
        kept = [self.upload(one) if isinstance(one, Path) else one for one in images]
        names = iter(distinct(one.name for one in kept if isinstance(one, Image)))
        return [
            {"id": one.id, "custom_id": next(names)} if isinstance(one, Image) else {"id": one}
            for one in kept
        ]

    def job(self, job: Job | str) -> Job:
        """How a job stands now."""
        return Job.of(self._json("GET", _job(job)))

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """All jobs, or those in a state, newest first."""
        return map(Job.of, self._pages("/jobs", {"state": state}))

    def wait(self, job: Job | str, timeout_s: float | None = None) -> Job:
        """The job once it has ended.

        Raises:
            TimeoutError: it has not within `timeout_s` seconds; it goes on.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause = 0.05
        while not (found := self.job(job)).ended:
            if until is not None and time.monotonic() + pause > until:
                raise TimeoutError(f"Job '{found.id}' is {found.state} after {timeout_s:g} s.")
            time.sleep(pause)
            pause = min(1.5 * pause, 1.0)
        return found

    def items(self, job: Job | str, state: str | None = None) -> Iterator[Item]:
        """A job's items, or those in a state, in the order of its inputs."""
        return map(Item.of, self._pages(f"{_job(job)}/items", {"state": state}))

    def iter_results(self, job: Job | str, *, partial: bool = False) -> Iterator[Item]:
        """The items that succeeded, in the order of the inputs, once the job has ended.

        Args:
            partial: those that there are, though the job goes on.
        """
        if not partial:
            self.wait(job)
        yield from self.items(job, "succeeded")

    def picture(self, job: Job | str, n: int, name: str = "heatmap") -> bytes:
        """A picture of an item's result, as PNG."""
        return self._item_file(job, n, f"{name}.png")

    def array(self, job: Job | str, n: int, name: str = "map") -> "NDArray[Any]":
        """An array of an item's result."""
        data = io.BytesIO(self._item_file(job, n, f"{name}.npy"))
        import numpy as np  # noqa: PLC0415 - only for those who ask for an array

        found: NDArray[Any] = np.load(data, allow_pickle=False)
        return found

    def _item_file(self, job: Job | str, n: int, name: str) -> bytes:
        path = f"{API}{_job(job)}/items/{n}/{quote(name, safe='')}"
        return self._transport.send("GET", path).content

    def download(
        self, job: Job | str, path: str | os.PathLike[str], *, partial: bool = False
    ) -> Path:
        """All results as one ZIP in a file, which is there when it is whole."""
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
        address = f"{API}{_job(job)}/results.zip?partial={str(partial).lower()}"
        try:
            with (
                unfinished.open("wb") as file,
                self._transport.stream("GET", address) as response,
            ):
                for chunk in response.iter_bytes():
                    file.write(chunk)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return target

    def events(self, job: Job | str, after: int = 0) -> Iterator[Event]:
        """What happens to a job, as it happens, to its end; nothing is missed or told twice.

        Args:
            after: the last event that is known already.
        """
        address = f"{API}{_job(job)}/events"
        timeout = httpx2.Timeout(self._transport.http.timeout.connect, read=SILENCE_S)
        while True:
            try:
                with self._transport.stream(
                    "GET", address, headers={"Last-Event-ID": str(after)}, timeout=timeout
                ) as response:
                    for told in httpx2.EventSource(response):
                        yield Event(int(told.id), told.event, json.loads(told.data))
                        after = int(told.id)
                        if told.event == "end":
                            return
            except UnreachableError:
                # The connection was lost; the job is asked for, which is patient but not for ever.
                self.job(job)

    def cancel(self, job: Job | str) -> Job:
        """Start no further item; what is done stays."""
        return Job.of(self._json("POST", f"{_job(job)}/cancel"))

    def retry_failed(self, job: Job | str) -> Job:
        """Queue the failed items of a job that has ended again."""
        return Job.of(self._json("POST", f"{_job(job)}/retry-failed", safe=False))

    def delete(self, job: Job | str) -> None:
        """Take a job that has ended away, with its results."""
        self._transport.send("DELETE", f"{API}{_job(job)}", safe=False)

    def _json(self, method: str, path: str, **given: Any) -> Any:
        return self._transport.send(method, f"{API}{path}", **given).json()

    def _pages(self, path: str, params: Mapping[str, str | None]) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, Any] = {key: one for key, one in params.items() if one is not None}
        asked["limit"] = PAGE
        while True:
            page = self._json("GET", path, params=asked)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            asked["cursor"] = page["next_cursor"]


def _find_token(file: str | os.PathLike[str] | None) -> str | None:
    if file is None and (token := os.environ.get("DECONVNET_TOKEN")):
        return token
    file = file or os.environ.get("DECONVNET_TOKEN_FILE")
    return Path(file).read_text(encoding="ascii").strip() if file else None


def _job(job: Job | str) -> str:
    return f"/jobs/{quote(job if isinstance(job, str) else job.id, safe='')}"


def _plain(value: Any) -> Any:
    """The same of JSON's kinds alone: NumPy's numbers and arrays as numbers and lists."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.tolist() if hasattr(value, "tolist") else value  # NumPy's, torch's


def _target(target: Target | None) -> Mapping[str, Any] | None:
    if isinstance(target, SupportsIndex):
        return {"class": operator.index(target)}
    return {"unit": target} if isinstance(target, str) else target

"""Everything an operator may choose, from keywords or from the environment (DECONVNET_…)."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024

HostName = Annotated[str, StringConstraints(to_lower=True, pattern=r"^([a-z0-9._-]+|[0-9a-f:]+)$")]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def share_dir(name: str) -> Path:
    """static or templates: inside an installed wheel, else of the checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "_share" / name
    return installed if installed.is_dir() else here.parents[1] / name


class Settings(BaseSettings):
    """The server's settings; built by whoever starts it, never at import.

    Dictionaries are written as JSON in the environment:
    `DECONVNET_INDEXES='{"demo": "out/demo"}'`.
    """

    model_config = SettingsConfigDict(
        env_prefix="DECONVNET_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a database's URL may hold a password
    )

    data_dir: Annotated[Path, Field(description="where uploads, jobs and results are kept")] = Path(
        ".demo"
    )
    database: Annotated[
        str | None,
        Field(description="URL of a PostgreSQL database; None: SQLite in data_dir", repr=False),
    ] = None
    host: Annotated[str, Field(description="the address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0: any free port")] = 8000
    allowed_hosts: Annotated[
        list[HostName], Field(description="names it is reached by, besides this machine's own")
    ] = []
    auth: Annotated[bool, Field(description="ask for the token; never off beyond loopback")] = True

    models: Annotated[
        dict[str, str], Field(description="networks besides the zoo's: name → path/to/net.py:build")
    ] = {}
    weights: Annotated[
        dict[str, str], Field(description="weights other than DEFAULT: model → path or name")
    ] = {}
    indexes: Annotated[dict[str, Path], Field(description="id → the index's directory")] = {}
    datasets: Annotated[dict[str, Path], Field(description="id → folder, tar or zip")] = {}

    backend: Annotated[
        Literal["process", "ray", "inline"],
        Field(description="where units run; inline is for tests"),
    ] = "process"
    ray_address: Annotated[
        str | None, Field(description="HOST:PORT of the head of a Ray cluster that is running")
    ] = None
    ray_network: Annotated[
        bool, Field(description="use a cluster that other machines can reach")
    ] = False
    ray_no_token: Annotated[
        bool, Field(description="use a cluster that asks nobody for a token")
    ] = False
    workers: Annotated[int, Field(ge=1, le=64, description="compute processes")] = 1
    device: Annotated[str | None, Field(description="cuda, mps, cpu; None: the best there is")] = (
        None
    )
    warm_models: Annotated[int, Field(ge=1, description="networks kept loaded per worker")] = 3
    memory_mb: Annotated[
        float | None,
        Field(gt=0, description="MiB to choose batches by; None: a quarter of what is free"),
    ] = None
    unit_timeout_s: Annotated[float, Field(gt=0, description="deadline of one unit, seconds")] = 600
    drain_s: Annotated[float, Field(ge=0, description="grace for running units at shutdown")] = 10

    receive_s: Annotated[
        float, Field(gt=0, description="seconds a client may take to send a request")
    ] = 10
    receive_rate: Annotated[
        int, Field(gt=0, description="bytes a second that a body's sender must reach")
    ] = 16 * 1024
    connections: Annotated[int, Field(gt=0, description="most connections at once")] = 2000

    file_bytes: Annotated[int, Field(gt=0, description="largest uploaded file")] = 20 * MIB
    request_bytes: Annotated[int, Field(gt=0, description="largest request body")] = 100 * MIB
    json_bytes: Annotated[
        int, Field(gt=0, description="largest body that is no upload: it is parsed at one go")
    ] = 16 * MIB
    image_pixels: Annotated[int, Field(gt=0, description="most pixels of an image")] = 50_000_000
    image_side: Annotated[int, Field(gt=0, description="longest side of an image")] = 16_384
    job_inputs: Annotated[int, Field(gt=0, description="most inputs of one job")] = 50_000
    queued_jobs: Annotated[int, Field(gt=0, description="most unfinished jobs")] = 100
    event_streams: Annotated[int, Field(gt=0, description="most clients following jobs")] = 128
    submissions: Annotated[int, Field(gt=0, description="most submitted jobs a minute")] = 120
    uploads: Annotated[int, Field(gt=0, description="most uploaded files a minute")] = 1200
    retention_s: Annotated[
        float, Field(gt=0, description="how long finished jobs, uploads and results are kept")
    ] = 7 * 86_400
    artifact_bytes: Annotated[int, Field(gt=0, description="quota of stored files")] = 10_240 * MIB

    @field_validator("database")
    @classmethod
    def _of_postgresql(cls, url: str | None) -> str | None:
        """Refuse other databases, without repeating a URL that may hold a password."""
        if url is None or url.startswith(("postgresql://", "postgresql+psycopg://")):
            return url
        raise ValueError(
            "This is no URL of PostgreSQL; expected postgresql+psycopg://USER@HOST/NAME. Leave it "
            "out to keep jobs in SQLite in the data directory."
        )

    @field_validator("models", "weights")
    @classmethod
    def _absolute(cls, files: dict[str, str]) -> dict[str, str]:
        """Files by whole paths: not every process that reads them is where the server is."""
        return {
            name: str(Path(file).absolute()) if Path(file).suffix else file
            for name, file in files.items()
        }

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.backend == "ray" and self.ray_address is None:
            raise ValueError(
                "backend is 'ray' without an address. Give the head of a cluster that is running, "
                "such as --ray-address 127.0.0.1:6379; none is started from here."
            )
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        """Nobody else's machine gets in unasked, or by a name that was not given."""
        if is_loopback(self.host):
            return self
        if not self.auth:
            raise ValueError(
                f"Listening on {self.host} without asking for the token would let in whoever can "
                "reach it. Leave out --no-auth, or listen on 127.0.0.1."
            )
        if not self.allowed_hosts:
            raise ValueError(
                f"Listening on {self.host} needs --allowed-host: the name or address by which "
                "browsers will reach it."
            )
        return self

    @property
    def database_place(self) -> Path | str:
        """SQLite's file, or PostgreSQL's URL."""
        return self.database or self.data_dir / "deconvnet.sqlite"

    @property
    def address(self) -> str:
        """Where a browser finds the server."""
        host = self.host if is_loopback(self.host) else self.allowed_hosts[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

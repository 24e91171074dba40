"""Settings of what computes."""

from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field


class ExecutorSettings(BaseModel):
    """Who computes, if not processes of this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: str = Field(
        "",
        pattern="^(tls://.+:[0-9]+)?$",
        description="Dask scheduler, tls://HOST:PORT; empty: processes of this machine",
    )
    tls_directory: Path | None = Field(
        None,
        description="Where the cluster's cert.pem and key.pem are; empty: state/tls in the root",
    )
    patience_s: float = Field(
        300.0,
        gt=0,
        description="Seconds that a machine may be without a worker before the "
        "Measurement Sets on its own disk are given up and their tiles converted again",
    )
    minimum_jobs: int = Field(0, ge=0, description="Jobs of SLURM or PBS that are kept")
    maximum_jobs: int = Field(10, ge=1, description="Most jobs of SLURM or PBS at once")
    slurm: dict[str, Any] | None = Field(
        None,
        description="Jobs of SLURM compute, table [executor.slurm]: cores, memory, walltime, "
        "queue and whatever else dask-jobqueue's SLURMCluster takes",
    )
    pbs: dict[str, Any] | None = Field(
        None, description="Jobs of PBS compute, table [executor.pbs], as for SLURM"
    )


class ComputeSettings(Protocol):
    """What executors need of the settings."""

    @property
    def root(self) -> Path:
        """Directory that holds everything."""
        ...

    @property
    def workers(self) -> int:
        """Number of processes on this machine."""
        ...

    @property
    def slots_dir(self) -> Path:
        """Where this machine's compute slots are locked."""
        ...

    @property
    def tls_dir(self) -> Path:
        """Where the keys of the cluster are."""
        ...

    @property
    def executor(self) -> ExecutorSettings:
        """A cluster that computes."""
        ...

"""The executor of a Dask cluster, the processes on its workers, and jobs of SLURM and PBS."""

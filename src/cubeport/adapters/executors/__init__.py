"""Where the units of an ingestion are made, if not by this process: on the workers of a Dask cluster."""

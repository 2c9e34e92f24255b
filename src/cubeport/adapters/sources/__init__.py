"""The readers of NetCDF, HDF5 and GRIB files, Zarr folders, and series of them, each as one lazy dataset of *stored* values."""

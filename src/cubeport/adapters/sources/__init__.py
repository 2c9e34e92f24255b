"""What can be read: NetCDF and HDF5 files, Zarr folders, and series of them, each as one lazy dataset of *stored* values."""

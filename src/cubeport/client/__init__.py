"""What a user imports: connect(url) → search → open as xarray."""

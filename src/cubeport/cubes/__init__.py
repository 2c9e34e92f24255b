"""What a gridded dataset is: axes (CF), coverage, selection, layout. Functions accept xarray objects as values; nothing here opens
a file.
"""

"""What a gridded dataset is: axes (CF), coverage, selection, layout. xarray travels through as a value; nothing is opened here."""

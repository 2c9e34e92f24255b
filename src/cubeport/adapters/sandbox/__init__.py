"""The confined child: starting it, what it may do, how it answers. It knows no file format and no task."""

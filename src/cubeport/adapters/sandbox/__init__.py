"""The confined child: how it is started, what it can access, and how it answers. The package knows no file formats and no tasks."""

"""Where and how the bytes of artifacts are written: storage profiles, plans, path templates, writers, views."""

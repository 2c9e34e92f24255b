"""Where the bytes of artifacts go and how they are written: storage profiles, plans, path templates, writers, views."""

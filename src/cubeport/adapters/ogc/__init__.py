"""pygeoapi: our provider, its configuration in memory."""

"""HTTP with FastAPI and ASGI: one router for each face, and no logic of the service."""

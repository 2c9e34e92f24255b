"""FastAPI and ASGI: one router per face; no logic."""

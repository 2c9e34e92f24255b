"""Stores of records: ``sql`` (SQLAlchemy Core; SQLite) and ``tinydb`` (one JSON file)."""

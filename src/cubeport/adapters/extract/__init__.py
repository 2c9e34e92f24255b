"""Metadata extractors."""

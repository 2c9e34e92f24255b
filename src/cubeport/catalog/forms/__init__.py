"""Text and values in one fixed form: canonical JSON, strict YAML, addresses, redaction of secrets."""

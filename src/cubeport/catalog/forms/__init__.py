"""Fixed forms of text and values: canonical JSON, strict YAML, addresses, redaction of secrets."""

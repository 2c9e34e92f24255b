"""Output forms: one file a form, from values that were read to the bytes of an answer."""

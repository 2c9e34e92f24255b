"""Tables of zones as text: one file for each form."""

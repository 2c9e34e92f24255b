"""What the service does: one module per verb. ``ports`` says what it needs from outside."""

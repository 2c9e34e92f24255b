"""Sources of other machines: each kind is one module. What they bring is kept for the next attempt, and read by the gate alone."""

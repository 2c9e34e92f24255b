"""cubeport."""

"""``python -m cubeport``."""

from cubeport.main import run

run()

"""``python -m cubeport``."""

import sys

from cubeport.main import run

if __name__ == "__main__":  # a server process of several imports this under another name
    sys.exit(run())

"""`python -m data.archive`."""

import sys

from data.archive.run import main

if __name__ == "__main__":
    sys.exit(main())

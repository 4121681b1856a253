"""`python -m data.archive`."""

import sys

from data.archive.days import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m data.ingest`."""

import sys

from data.ingest.run import main

if __name__ == "__main__":
    sys.exit(main())

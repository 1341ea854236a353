"""The command line: `python -m pipelines JOB`."""

import sys

if __name__ == "__main__":  # a worker process imports this, too, and needs none of what follows
    from pipelines.commands import main

    sys.exit(main())

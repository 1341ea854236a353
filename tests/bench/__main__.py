"""The command line: `python -m tests.bench WHAT`."""

if __name__ == "__main__":  # a worker process imports this, too, and needs none of what follows
    from tests.bench.commands import main

    main()

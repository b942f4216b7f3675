"""`python -m liftscape` is the command line."""

from liftscape.cli import main

if __name__ == "__main__":
    main()

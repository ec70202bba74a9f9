"""`python -m proofcard`."""

from proofcard.cli import main

if __name__ == "__main__":
    main()

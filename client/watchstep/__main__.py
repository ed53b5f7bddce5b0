"""`python -m watchstep` is the command `watchstep`."""

from watchstep.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m afmid` is the command `afmid`."""

from afmid.cli.main import main

if __name__ == "__main__":
    main()

"""The command line: parse, call, print. `main.py` is the entry, each other module holds the commands of one noun."""

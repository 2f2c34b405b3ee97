"""The subcommands of ``sightline``: each parses options, calls the Python API and prints."""

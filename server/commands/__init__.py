"""The subcommands of ``sightline``, one file for each kind of thing a person does.

Every function here parses, asks the Python API and prints; whatever a command can do, a script can
do with the same calls.
"""

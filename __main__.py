"""``python -m sightline``: the same as the ``sightline`` command."""

from sightline.server.cli import main

main()

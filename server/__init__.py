"""The online half: a query is encoded and the nearest images are returned."""

"""The library as tools of the Model Context Protocol, for assistants and other programs.

Read-only: the tools search, and read the thumbnails and files of images in the catalog, by id.
Needs the extra ``mcp``.
"""

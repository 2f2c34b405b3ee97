"""The offline half of Sightline: pictures go in, a library comes out.

Nothing heavy is loaded by importing this package; torch is loaded by ``indexer.encoder``, faiss by
``indexer.vector_index``, when they are first used.
"""

__version__ = "0.1.0"

"""The offline half of Sightline: pictures go in, a library comes out.

Nothing heavy is loaded by importing this package; torch is loaded by ``indexer.encoder``, faiss by
``indexer.vector_index``, when they are first used.
"""

import os

# Threads of OpenMP that wait for work should sleep: spinning, they take the cores from the decoding
# processes and from one another (on two busy cores k-means took five times as long). It must be set
# before torch or faiss are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

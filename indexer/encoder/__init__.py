"""Encodes images and texts to unit vectors in one space, by CLIP-family models.

``Encoder`` is the entrance; ``registry`` lists the named models. Importing the package does not
import torch.
"""

from sightline.indexer.encoder.encoder import Encoder
from sightline.indexer.encoder.image_batches import encode_photos

__all__ = ["Encoder", "encode_photos"]

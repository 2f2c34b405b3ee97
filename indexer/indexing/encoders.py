"""The encoder of a library: loading it, without importing what an indexing run needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.indexer.encoder import Encoder, registry

if TYPE_CHECKING:
    from sightline.indexer.encoder.model_files import Download
    from sightline.indexer.library import AnyLibrary


def load_encoder(model: str | None = None, *, device: str = "auto", dtype: str = "auto") -> Encoder:
    """The encoder for a new library: a name of the registry, a hub id, a folder, or the default.
    ModelError if it cannot be loaded."""
    return Encoder.load(model or registry.DEFAULT, device=device, dtype=dtype)


def encoder_for(
    library: AnyLibrary,
    *,
    device: str = "auto",
    dtype: str = "auto",
    download: Download = "named",
    few_texts: bool = False,
) -> Encoder:
    """The encoder that made ``library``, in the same revision. ModelError if it is not on this
    machine and ``download`` does not permit it: a library may name any model of the hub."""
    encoder = Encoder.load(
        library.model,
        device=device,
        dtype=dtype,
        revision=library.revision,
        download=download,
        few_texts=few_texts,
    )
    library.check_model(encoder.model, encoder.revision, encoder.dimension)
    return encoder

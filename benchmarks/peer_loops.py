"""Indexing and searching as a script with one of three libraries would; run by ``peers``.

    python peer_loops.py LIBRARY index MODEL OUT FOLDER
    python peer_loops.py LIBRARY search MODEL OUT TEXT
    python peer_loops.py open_clip models DIR
    python peer_loops.py rclip fill VECTORS OUT FOLDER
    python peer_loops.py clip_retrieval fill VECTORS OUT

``LIBRARY`` is ``transformers``, ``sentence_transformers`` or ``open_clip``, and the Python that of
its environment: this file imports nothing of Sightline. ``models`` writes ViT-B/32 with random
weights: for open_clip, and of 256 pixels as the ONNX files of rclip. ``fill`` stores the vectors of
a NumPy file as the program would: as rclip's database of images in a folder, or as the embeddings
and metadata that clip-retrieval indexes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BATCH = 32
"""Images per batch, as these libraries recommend; larger ones are no faster on a CPU."""


def load(library: str, model: str) -> tuple[Any, Any]:
    """Two functions: PIL images to vectors, and a text to a vector (NumPy, not normalised)."""
    import torch

    if library == "sentence_transformers":
        from sentence_transformers import SentenceTransformer

        both = SentenceTransformer(model, device="cpu", local_files_only=True)
        return both.encode, lambda text: both.encode([text])
    if library == "transformers":
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        clip = CLIPModel.from_pretrained(model).eval()

        def images(batch: list[Any]) -> Any:
            processor = AutoImageProcessor.from_pretrained(model)
            pixels = processor(images=batch, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                return clip.get_image_features(pixel_values=pixels).pooler_output.numpy()

        def text(query: str) -> Any:
            tokens = AutoTokenizer.from_pretrained(model)([query], return_tensors="pt")
            with torch.inference_mode():
                return clip.get_text_features(input_ids=tokens["input_ids"]).pooler_output.numpy()

        return images, text
    import open_clip

    tower, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=model)
    tower.eval()

    def transformed(batch: list[Any]) -> Any:
        with torch.inference_mode():
            return tower.encode_image(torch.stack([transform(one) for one in batch])).numpy()

    def tokenized(query: str) -> Any:
        with torch.inference_mode():
            return tower.encode_text(open_clip.get_tokenizer("ViT-B-32")([query])).numpy()

    return transformed, tokenized


def batches(paths: list[Path]) -> Iterator[list[Any]]:
    """The images, decoded by Pillow, ``BATCH`` at a time."""
    from PIL import Image

    for start in range(0, len(paths), BATCH):
        yield [Image.open(path).convert("RGB") for path in paths[start : start + BATCH]]


def index(library: str, model: str, out: Path, folder: Path) -> None:
    """Writes a FAISS index where the environment has FAISS, else a NumPy file."""
    import numpy as np

    images, _ = load(library, model)
    paths = sorted(folder.iterdir())
    vectors = np.concatenate([images(batch) for batch in batches(paths)]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (out / "paths.txt").write_text("\n".join(map(str, paths)))
    if library == "transformers":
        import faiss

        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        faiss.write_index(flat, str(out / "index.faiss"))
    else:
        np.save(out / "vectors.npy", vectors)


def search(library: str, model: str, out: Path, query: str) -> None:
    """Prints the ten nearest images."""
    import numpy as np

    _, text = load(library, model)
    vector = np.asarray(text(query), np.float32)
    vector /= np.linalg.norm(vector)
    if library == "transformers":
        import faiss

        nearest = faiss.read_index(str(out / "index.faiss")).search(vector, 10)[1][0]
    else:
        nearest = np.argsort(-(np.load(out / "vectors.npy") @ vector[0]))[:10]
    paths = (out / "paths.txt").read_text().splitlines()
    print("\n".join(paths[number] for number in nearest if number >= 0))


def models(out: Path) -> None:
    """Writes ``open_clip.pt``, and ``rclip``, a data folder of rclip 4."""
    import open_clip
    import torch

    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), out / "open_clip.pt")
    model = open_clip.create_model("ViT-B-32-256").eval()
    rclip = out / "rclip"
    onnx = rclip / "ViT-B-32-256-datacomp_s34b_b86k"
    onnx.mkdir(parents=True, exist_ok=True)
    (rclip / "tokenizer").mkdir(exist_ok=True)
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(Path(open_clip.__file__).parent / vocabulary, rclip / "tokenizer" / vocabulary)
    for name in ("LICENSE", "OPENAI-CLIP-MIT.txt", "README.md", "THIRD_PARTY_NOTICES.md"):
        (rclip / name).touch()  # without them rclip downloads everything again

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.model.encode_text(tokens)

    for name, tower, example in (
        ("visual", model.visual, torch.zeros(2, 3, 256, 256)),
        ("textual", Text(), torch.zeros(2, 77, dtype=torch.long)),
    ):
        torch.onnx.export(
            tower.eval(),
            (example,),
            str(onnx / f"{name}.onnx"),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            dynamo=False,
        )


def fill_rclip(vectors: Path, out: Path, folder: Path) -> None:
    """Writes rclip's database as its indexing does."""
    import numpy as np
    from rclip.db import DB, NewImage

    database = DB(out / "db.sqlite3")
    for number, vector in enumerate(np.load(vectors)):
        image = NewImage(
            filepath=str(folder / f"{number // 100}" / f"IMG_{number:07}.jpg"),
            modified_at=1.7e9 + number,
            size=3_000_000 + number,
            vector=vector.tobytes(),
            hash=f"{number:032x}",
        )
        database.upsert_image(image, commit=False)
    database.close()


def fill_clip_retrieval(vectors: Path, out: Path) -> None:
    """Writes embeddings in float16 and metadata as ``clip-retrieval inference`` does."""
    import numpy as np
    import pandas as pd

    found = np.load(vectors)
    for name in ("img_emb", "metadata"):
        (out / name).mkdir(parents=True)
    np.save(out / "img_emb" / "img_emb_0.npy", found.astype(np.float16))
    paths = [f"/photographs/{number // 100}/IMG_{number:07}.jpg" for number in range(len(found))]
    pd.DataFrame({"image_path": paths}).to_parquet(out / "metadata" / "metadata_0.parquet")


if __name__ == "__main__":
    _, LIBRARY, ACTION, *REST = sys.argv
    if ACTION == "models":
        models(Path(REST[0]))
    elif ACTION == "fill":
        {"rclip": fill_rclip, "clip_retrieval": fill_clip_retrieval}[LIBRARY](*map(Path, REST))
    elif ACTION == "index":
        index(LIBRARY, REST[0], Path(REST[1]), Path(REST[2]))
    else:
        search(LIBRARY, REST[0], Path(REST[1]), REST[2])

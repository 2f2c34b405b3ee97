"""``PhotoTools``: what each tool does. Plain functions of the engine, called in worker threads."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import PurePath
from typing import Annotated

from mcp.types import CallToolResult, ImageContent, TextContent
from PIL import Image
from pydantic import Field

from sightline.indexer.errors import NotFoundError, PhotoError, UsageError
from sightline.indexer.types import ImageRecord
from sightline.server.mcp import answers
from sightline.server.search import SearchEngine
from sightline.server.search.current_engine import CurrentEngine
from sightline.server.search.originals import open_original, original
from sightline.server.search.suggestions import CATALOG_KINDS, filter_text

MAX_K = 50
"""Photos in one answer: 50 take about 2,500 tokens."""

MAX_PIXELS = 1024
"""Longer side of an image that is sent."""

STORED_PIXELS = 512
"""Longer side of a thumbnail; up to this size the file is not read."""

MAX_FACETS = 500

MAX_GROUPS = 50

KINDS = tuple(dict.fromkeys(CATALOG_KINDS.values()))

PhotoId = Annotated[int, Field(ge=1, lt=2**63, description="A photo's id.")]
K = Annotated[int, Field(ge=1, le=MAX_K, description="Number of photos.")]
Offset = Annotated[int, Field(ge=0, le=10_000_000, description="Results to skip.")]


class PhotoTools:
    """The tools over one engine. With ``absolute``, answers have the paths of files on this
    machine. Safe to use from several threads; each call holds a lease of ``engines``."""

    def __init__(self, engine: SearchEngine | CurrentEngine, *, absolute: bool = False) -> None:
        self.engines = CurrentEngine.of(engine)
        self._absolute = absolute

    @property
    def _engine(self) -> SearchEngine:
        return self.engines.latest

    def search_photos(
        self,
        query: Annotated[str, Field(max_length=2000, description="Text, filters, or both.")],
        k: K = 20,
        offset: Offset = 0,
    ) -> Annotated[CallToolResult, answers.FoundPhotos]:
        """Search the photo library by what photos show, and by date, place, camera and so on.

        query is a description in plain words, with optional parts:
          dog on a beach            photos that look like this; names, captions and keywords count
          -people  -"street sign"   less of this
          2:golden retriever        a term with double weight
          like:42                   photos that resemble photo 42
          after:2023-06-01 before:2024   taken on or after, taken before
          in:Holidays  camera:iphone  lens:50mm  type:heic  rating:4
          person:Ada  keyword:family  label:dog
          is:portrait  is:landscape  is:square  near:52.5,13.4,10 (latitude, longitude, km)
          sort:newest  sort:oldest  (default: best match first)
        Quote values with spaces: in:"Lake Como". Filters alone list their photos, newest first.

        Some photos are always closest, so look at good: false marks photos that probably do not
        show what was searched. Use facets for the values of filters.
        """
        result = self._engine.search(query, k=k, offset=offset)
        following = offset + k if len(result.hits) == k and offset + k < result.total else None
        return answers.as_result(
            answers.found_photos(result, absolute=self._absolute, following=following)
        )

    def find_similar(
        self,
        id: Annotated[PhotoId | None, Field(description="A photo of the library.")] = None,
        image: Annotated[
            str | None, Field(description="Or an image file, base64-encoded (JPEG, PNG, HEIC...).")
        ] = None,
        k: K = 20,
    ) -> Annotated[CallToolResult, answers.FoundPhotos]:
        """Find the photos that look most like one photo of the library, or like another image."""
        if (id is None) == (image is None):
            raise UsageError("give id or image, and not both")
        if id is not None:
            result = self._engine.similar(self._record(id).id, k=k)
        else:
            result = self._engine.search("", images=[_decoded(image or "")], k=k)
        return answers.as_result(
            answers.found_photos(result, absolute=self._absolute, following=None)
        )

    def get_photo(
        self,
        id: PhotoId,
        size: Annotated[
            int, Field(ge=64, le=MAX_PIXELS, description="Pixels of the longer side, at most.")
        ] = STORED_PIXELS,
    ) -> CallToolResult:
        """Look at one photo. The image is sent as JPEG; 512 pixels show what is in it, 1024 its
        details and text."""
        data = base64.b64encode(self.jpeg(id, size)).decode()
        about = answers.summary(self._record(id), absolute=self._absolute)
        return CallToolResult(
            content=[
                ImageContent(type="image", data=data, mime_type="image/jpeg"),
                TextContent(type="text", text=about.model_dump_json(exclude_none=True)),
            ]
        )

    def describe_photo(self, id: PhotoId) -> Annotated[CallToolResult, answers.PhotoDetails]:
        """Everything the catalog has about one photo: date, place, people, camera, title,
        caption, keywords, rating, labels, and what the model guesses that it shows."""
        record = self._record(id)
        found = self._engine.library.labels([id]).get(id, [])
        return answers.as_result(
            answers.details(
                record,
                absolute=self._absolute,
                labels=[label for label, _ in found],
                shows=[text for text, _ in self._engine.words_for(id, k=5)],
            )
        )

    def facets(
        self,
        kind: Annotated[str, Field(json_schema_extra={"enum": list(KINDS)})],
        limit: Annotated[int, Field(ge=1, le=MAX_FACETS, description="Number of values.")] = 50,
    ) -> Annotated[CallToolResult, answers.Facets]:
        """List the folders, people, places, countries, cameras, lenses, file types, years,
        keywords, labels, ratings or collections of the library with their number of photos, most
        frequent first."""
        if kind not in KINDS:
            raise UsageError(f"kind is {kind[:40]!r}; it must be one of {', '.join(KINDS)}")
        library = self._engine.library
        if kind == "folder":
            found = library.suggest(kind, "", limit)
        else:
            found = library.facets(kind)[:limit]
        name = next(name for name, one in CATALOG_KINDS.items() if one == kind)
        return answers.as_result(
            answers.Facets(
                kind=kind,
                values=[
                    answers.Facet(
                        value=one.text,
                        count=one.count,
                        filter=None if kind == "year" else filter_text(name, one.text) or None,
                    )
                    for one in found
                ],
            )
        )

    def find_duplicates(
        self,
        query: Annotated[
            str, Field(max_length=2000, description="Filters only, as in search_photos.")
        ] = "",
        k: Annotated[int, Field(ge=1, le=MAX_GROUPS, description="Number of groups.")] = 20,
        offset: Offset = 0,
    ) -> Annotated[CallToolResult, answers.Duplicates]:
        """Find copies of files and near-identical shots, in groups with the best file first.
        Nothing is deleted."""
        groups = self._engine.duplicates.find(query).groups
        page = groups[offset : offset + k]
        ids = [id for group in page for id in group.ids]
        records = {record.id: record for record in self._engine.library.images(ids)}
        return answers.as_result(
            answers.Duplicates(
                groups=[
                    answers.DuplicateGroup(
                        kind=group.kind,
                        spare_bytes=group.spare,
                        photos=[
                            answers.summary(records[id], absolute=self._absolute)
                            for id in group.ids
                            if id in records
                        ],
                    )
                    for group in page
                ],
                total=len(groups),
                spare_bytes=sum(group.spare for group in groups),
                next_offset=offset + k if offset + k < len(groups) else None,
            )
        )

    def library_status(self) -> Annotated[CallToolResult, answers.LibraryStatus]:
        """The size of the library, its folders, the months it spans, and whether it is being
        indexed."""
        library = self._engine.library
        facts = library.status()
        months = library.histogram(None).months
        run = facts.get("run")
        return answers.as_result(
            answers.LibraryStatus(
                photos=facts["images"],
                unreadable_files=facts["failures"],
                model=PurePath(facts["model"]).name
                if PurePath(facts["model"]).is_absolute()
                else facts["model"],
                folders=[
                    answers.Folder(
                        name=root["path"] if self._absolute else PurePath(root["path"]).name,
                        photos=root["images"],
                        available=root["available"],
                    )
                    for root in facts["roots"]
                ],
                first_month=months[0][0] if months else None,
                last_month=months[-1][0] if months else None,
                indexing=f"{run['done']} of {run['total'] or '?'} files done" if run else None,
            )
        )

    def jpeg(self, id: int, size: int) -> bytes:
        """The photo as JPEG, at most ``size`` pixels on the longer side: from its thumbnail up to
        ``STORED_PIXELS``, else from its file, or its thumbnail if the file is missing. Raises
        ``NotFoundError``."""
        record = self._record(id)
        data = None
        if size > STORED_PIXELS:
            data = self._preview(record, size)
        if data is None:
            data = self._engine.library.thumbnail(id)
        if data is None:
            raise NotFoundError(f"photo {id} has no thumbnail, and its file cannot be read")
        with Image.open(io.BytesIO(data), formats=["WEBP", "JPEG"]) as image:
            if image.format == "JPEG" and max(image.size) <= size:
                return data
            small = image.convert("RGB")
            small.thumbnail((size, size), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=85)
            return out.getvalue()

    def _preview(self, record: ImageRecord, size: int) -> bytes | None:
        decoder = self._engine.query_encoder.decoder
        try:
            open_original(record, decoder).file.close()
            return decoder.preview(original(record), size)
        except (NotFoundError, PhotoError):
            return None

    def _record(self, id: int) -> ImageRecord:
        record = self._engine.library.image(id)
        if record is None:
            raise NotFoundError(f"there is no photo {id} in this library")
        return record


def _decoded(image: str) -> bytes:
    """The bytes of a base64 text or ``data:`` URL."""
    _, comma, data = image.partition(";base64,")
    try:
        return base64.b64decode("".join((data if comma else image).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("image is not valid base64") from error

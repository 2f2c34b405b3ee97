"""What the tools return, as compact as an assistant's context demands: fields without a value are
left out, numbers are rounded, paths start at the name of their root."""

from __future__ import annotations

from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from sightline.indexer.types import ImageRecord
from sightline.server.search import SearchResult
from sightline.server.search.image_json import folder_of


class PhotoSummary(BaseModel):
    """One photo in a list."""

    id: int
    path: str
    """From the name of its root; the file's path where the client may see it."""
    date: str | None = Field(None, description="When it was taken, local time.")
    place: str | None = Field(None, description="Name, or latitude,longitude.")
    relevance: float | None = Field(None, description="0 to 1; 0.5 at the relevance threshold.")
    good: bool | None = Field(None, description="Whether it is a good match.")
    similar: int | None = Field(None, description="Near-identical shots that are left out.")


class FoundPhotos(BaseModel):
    """One page of search results."""

    photos: list[PhotoSummary]
    total: int = Field(description="Photos that meet the filters.")
    good: int | None = Field(None, description="How many of them are good matches.")
    good_is_estimated: bool | None = Field(None, description="Whether that is only about right.")
    message: str | None = None
    interpreted: list[str] | None = Field(
        None, description="Words of the query that were read as dates, or may be dates."
    )
    next_offset: int | None = Field(None, description="The offset of the next page, if any.")


class PhotoDetails(BaseModel):
    """What the catalog has about one photo."""

    id: int
    path: str
    width: int
    height: int
    format: str
    bytes: int
    date: str | None = None
    title: str | None = None
    caption: str | None = None
    place: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    lens: str | None = None
    rating: int | None = None
    people: list[str] | None = None
    keywords: list[str] | None = None
    labels: list[str] | None = None
    shows: list[str] | None = Field(
        None, description="Everyday words that the model finds in the photo; a guess."
    )
    url: str | None = None


class Facet(BaseModel):
    """One value, and the photos that have it."""

    value: str
    count: int
    filter: str | None = Field(None, description="For the query of search_photos.")


class Facets(BaseModel):
    """Values of one kind, most frequent first."""

    kind: str
    values: list[Facet]


class DuplicateGroup(BaseModel):
    """Photos that are the same, the best file first."""

    kind: str = Field(description="copies: equal files; similar: near-identical shots.")
    spare_bytes: int = Field(description="Bytes of all files but the first.")
    photos: list[PhotoSummary]


class Duplicates(BaseModel):
    """One page of groups."""

    groups: list[DuplicateGroup]
    total: int = Field(description="Number of groups.")
    spare_bytes: int = Field(description="Bytes of all spare files of all groups.")
    next_offset: int | None = None


class Folder(BaseModel):
    """A folder that is indexed."""

    name: str
    photos: int
    available: bool


class LibraryStatus(BaseModel):
    """The library's contents."""

    photos: int
    unreadable_files: int
    model: str
    folders: list[Folder]
    first_month: str | None = None
    last_month: str | None = None
    indexing: str | None = Field(None, description="The indexing run in progress.")


def as_result(answer: BaseModel) -> CallToolResult:
    """``answer`` as structured content and, for clients without it, as text."""
    text = answer.model_dump_json(exclude_none=True)
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
    )


def path_of(record: ImageRecord, *, absolute: bool) -> str:
    """The path that the client is shown."""
    if absolute:
        return str(record.absolute)
    return f"{folder_of(record)}/{record.path.rpartition('/')[2]}"


def summary(record: ImageRecord, *, absolute: bool, **values: Any) -> PhotoSummary:
    """``record`` in a list; ``values`` are further fields."""
    info = record.info
    place = info.place
    if place is None and info.latitude is not None and info.longitude is not None:
        place = f"{info.latitude:.3f},{info.longitude:.3f}"
    return PhotoSummary(
        id=record.id,
        path=path_of(record, absolute=absolute),
        date=_minute(record),
        place=place,
        **values,
    )


def found_photos(result: SearchResult, *, absolute: bool, following: int | None) -> FoundPhotos:
    """A page of ``result``; ``following`` is the offset of the next one."""
    ranked = result.good is not None
    return FoundPhotos(
        photos=[
            summary(
                hit.record,
                absolute=absolute,
                relevance=round(hit.relevance, 2) if ranked else None,
                good=hit.match if ranked else None,
                similar=len(hit.duplicates) or None,
            )
            for hit in result.hits
        ],
        total=result.total,
        good=result.good,
        good_is_estimated=result.good_is_estimated or None,
        message=result.message,
        interpreted=[one.sentence for one in result.interpreted] or None,
        next_offset=following,
    )


def details(
    record: ImageRecord, *, absolute: bool, labels: list[str], shows: list[str]
) -> PhotoDetails:
    """Everything about ``record``."""
    info = record.info
    return PhotoDetails(
        id=record.id,
        path=path_of(record, absolute=absolute),
        width=info.width,
        height=info.height,
        format=info.format,
        bytes=record.size,
        date=_minute(record),
        title=info.title,
        caption=info.caption,
        place=info.place,
        latitude=_degrees(info.latitude),
        longitude=_degrees(info.longitude),
        camera=info.camera,
        lens=info.lens,
        rating=info.rating,
        people=list(info.people) or None,
        keywords=list(info.keywords) or None,
        labels=labels or None,
        shows=shows or None,
        url=info.url,
    )


def _minute(record: ImageRecord) -> str | None:
    taken = record.info.taken_at
    return f"{taken:%Y-%m-%d %H:%M}" if taken else None


def _degrees(value: float | None) -> float | None:
    """To one metre."""
    return None if value is None else round(value, 5)

"""Pictures and documents: Anthropic's `source` and OpenAI's URLs, `data:` ones included."""

from __future__ import annotations

import re

from keelage_sidecar.core.refusal import quoted
from keelage_sidecar.core.translation.fields import Fields, Untranslatable

_DATA = re.compile(r"data:([\w.+/-]+);base64,", re.IGNORECASE)
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PDF = "application/pdf"


def picture_part(block: Fields) -> dict[str, object]:
    """An Anthropic image block as a chat part; `type` is taken already."""
    url = _url(block)
    block.drop("cache_control", "transformations")
    block.finish()
    return {"type": "image_url", "image_url": {"url": url}}


def picture_block(part: Fields) -> dict[str, object]:
    """A chat part of type `image_url` as an Anthropic image block, without its cache mark."""
    picture = _needed(part, "image_url")
    url = picture.text("url")
    if picture.take("detail") not in (None, "auto"):
        picture.losses.add(picture.at("detail"))
    picture.finish()
    found = _DATA.match(url)
    if found is None:
        if url[:5].lower() == "data:" or not url.lower().startswith(("https://", "http://")):
            raise Untranslatable(picture.at("url"), "a picture needs an https URL or a base64 data URL")
        return {"type": "image", "source": {"type": "url", "url": url}}
    media = found[1].lower()
    if media not in _PICTURES:
        raise Untranslatable(
            picture.at("url"), f"{quoted(media)} is no picture that Anthropic reads: send one of {', '.join(_PICTURES)}"
        )
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": url[found.end() :]}}


def document_part(block: Fields, *, files: bool) -> dict[str, object]:
    """An Anthropic document block as a chat part; `files`: the server takes PDF."""
    citations = block.inner("citations")
    if citations is not None and citations.flag("enabled"):
        raise Untranslatable(block.at("citations"), "OpenAI's API has no citations of documents: leave them out")
    block.drop("cache_control")
    title, context = block.text("title"), block.text("context")
    source = _needed(block, "source")
    match source.text("type"):
        case "text":
            said = source.text("data")
        case "content" if isinstance(content := source.take("content"), str):
            said = content
        case "base64" if files:
            media = source.text("media_type")
            data = source.text("data")
            source.finish()
            block.finish()
            file: dict[str, object] = {
                "filename": title or "document.pdf",
                "file_data": f"data:{media or _PDF};base64,{data}",
            }
            return {"type": "file", "file": file}
        case other:
            raise Untranslatable(source.path, f"a document of type {quoted(other)} cannot be sent there: send its text")
    source.ignore("media_type")
    source.finish()
    block.finish()
    return {"type": "text", "text": "\n".join(filter(None, (title, context, said)))}


def document_block(part: Fields) -> dict[str, object]:
    """A chat part of type `file` as an Anthropic document block, without its cache mark."""
    file = _needed(part, "file")
    file.refuse("a file that OpenAI keeps cannot be read by Anthropic: send its data", "file_id")
    name, data = file.text("filename"), file.text("file_data")
    file.finish()
    found = _DATA.match(data)
    if found is None or found[1].lower() != _PDF:
        raise Untranslatable(file.at("file_data"), "Anthropic reads PDF as a base64 data URL: send it so, or send text")
    source = {"type": "base64", "media_type": _PDF, "data": data[found.end() :]}
    return {"type": "document", "source": source, **({"title": name} if name else {})}


def _url(block: Fields) -> str:
    source = _needed(block, "source")
    match source.text("type"):
        case "url":
            url = source.text("url")
        case "base64":
            url = f"data:{source.text('media_type')};base64,{source.text('data')}"
        case other:
            raise Untranslatable(source.path, f"a picture of type {quoted(other)} cannot be sent there: send base64")
    source.finish()
    return url


def _needed(holder: Fields, name: str) -> Fields:
    inner = holder.inner(name)
    if inner is None:
        raise Untranslatable(holder.at(name), "an object is needed")
    return inner

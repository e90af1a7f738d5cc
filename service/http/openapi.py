"""Parts of the OpenAPI document for routes that read their own body."""

from typing import Any

# OpenAPI 3.1 knows contentMediaType; generators of clients know format: binary.
FILE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}


def multipart_body(images: int, document: str | None = None, schema: Any = None) -> dict[str, Any]:
    """The OpenAPI media type of a form with up to so many `image` files and a JSON part."""
    image: dict[str, Any] = (
        FILE
        if images == 1
        else {"anyOf": [FILE, {"type": "array", "items": FILE, "minItems": 1, "maxItems": images}]}
    )
    properties = {"image": image, **({document: schema} if document else {})}
    required = ["image"] if document != "request" else []
    form = {"type": "object", "properties": properties, "required": required}
    return {"multipart/form-data": {"schema": form}}


def reference(name: str) -> dict[str, str]:
    """A reference to a schema of the OpenAPI document."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_body(name: str, media: str = "application/json", example: Any = None) -> dict[str, Any]:
    """The OpenAPI media type of a JSON body."""
    return {media: {"schema": reference(name)} | ({} if example is None else {"example": example})}


def body(*contents: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI part of a route that reads its own body."""
    merged = {media: schema for content in contents for media, schema in content.items()}
    return {"requestBody": {"required": True, "content": merged}}

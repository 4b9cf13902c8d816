"""Which calls a rule takes."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.constraint import pattern
from keelage_api.v1alpha1.metadata import ModelPattern, Part, Word


class HeaderMatchType(enum.StrEnum):
    EXACT = "Exact"
    PREFIX = "Prefix"


class PathMatchType(enum.StrEnum):
    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"


class HeaderMatch(Part):
    """A header of the call and its value."""

    type: HeaderMatchType = HeaderMatchType.EXACT
    """Exact: the whole value; Prefix: its beginning."""
    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64),
        pattern("[-!#$%&'*+.^_`|~0-9a-zA-Z]+", "must be the name of a header, as in x-tenant"),
    ]
    """In any case."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """Compared as it is written."""


class PathMatch(Part):
    """The path of the call."""

    type: PathMatchType = PathMatchType.PATH_PREFIX
    """PathPrefix: the path or one below it, by whole elements; Exact: that path only."""
    value: Annotated[
        str,
        StringConstraints(min_length=1, max_length=128),
        pattern(r"/[-._~a-zA-Z0-9/]*", "must be a path that begins with /, as in /v1/embeddings"),
    ]
    """Without query."""


class Match(Part):
    """Conditions on a call; all that are given must hold."""

    models: Annotated[tuple[ModelPattern, ...], Field(max_length=32)] = ()
    """Any of these models, as the application asked for; `*` at the end stands for anything."""
    features: Annotated[tuple[Word, ...], Field(max_length=32)] = ()
    """Any of these features: header `x-keelage-feature`, else the pod's label `keelage.dev/feature`."""
    users: Annotated[tuple[Word, ...], Field(max_length=32)] = ()
    """Any of these users: header `x-keelage-user`, else the user named in the request, else the pod's label
    `keelage.dev/user`."""
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=8)] = ()
    """All of these headers."""
    path: PathMatch | None = None
    """This path."""

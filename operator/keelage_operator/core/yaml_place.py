"""Where a field of a manifest stands in its file, for people who are to mend it."""

from __future__ import annotations

import re

import yaml

_STEP = re.compile(r"[.]?([^.\[\]]+)|\[([^\]]*)\]")


def line_of(document: yaml.Node, field: str) -> int:
    """The line, from 1, of `spec.rules[0].name` or `spec.backends[openai].prices`: of as much of it as is there.

    What is missing has no line of its own: then it is that of the object that should have it.
    """
    _, mark = _walk(document, field)
    return int(mark.line) + 1


def node_of(document: yaml.Node, field: str) -> yaml.Node:
    """What stands there, or above it."""
    node, _ = _walk(document, field)
    return node


def _walk(document: yaml.Node, field: str) -> tuple[yaml.Node, yaml.Mark]:
    """As far as the field is there, with where its key or item begins."""
    node, mark = document, document.start_mark
    for name, item in _STEP.findall(field):
        found = _entry(node, name) if name else _item(node, item)
        if found is None:
            break
        node, mark = found
    return node, mark


def doubled_key(document: yaml.Node) -> tuple[str, int] | None:
    """The first key that an object of the document has twice, with the line of the second; None: no object has."""
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                stack.append(value)
                # What `<<` merges was put beside the object's own keys, which replace it.
                if not isinstance(key, yaml.ScalarNode) or not _within(node, key):
                    continue
                if key.value in seen:
                    return str(key.value), int(key.start_mark.line) + 1
                seen.add(key.value)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
    return None


def _within(outer: yaml.Node, inner: yaml.Node) -> bool:
    """Whether it is written there, not only referred to."""
    begins, at, ends = outer.start_mark.index, inner.start_mark.index, outer.end_mark.index
    return bool(begins <= at < ends)


def written_out(document: yaml.Node) -> int:
    """How many nodes the document has where each alias is what it stands for. Raises MarkedYAMLError for one that
    stands for something that it is a part of."""
    sizes: dict[int, int] = {}
    """By node; 0: it is being counted."""

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known == 0:
            raise yaml.MarkedYAMLError(
                problem="what the anchor stands for holds an alias of it", problem_mark=node.start_mark
            )
        if known is None:
            sizes[id(node)] = 0
            known = 1
            if isinstance(node, yaml.MappingNode):
                known += sum(size(key) + size(value) for key, value in node.value)
            elif isinstance(node, yaml.SequenceNode):
                known += sum(map(size, node.value))
            sizes[id(node)] = known
        return known

    return size(document)


def _entry(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Mark] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return value, key.start_mark
    return None


def _item(node: yaml.Node, which: str) -> tuple[yaml.Node, yaml.Mark] | None:
    """By its index, or by its name."""
    if not isinstance(node, yaml.SequenceNode):
        return None
    for index, item in enumerate(node.value):
        named = _entry(item, "name")
        if which == str(index) or (named is not None and named[0].value == which):
            return item, item.start_mark
    return None

"""Splicing changes the named members and no other byte."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keelage_sidecar.core.endpoints import CHAT
from keelage_sidecar.core.json_span import (
    appended,
    elements,
    layout_of,
    located,
    outermost,
    raw_members,
    repeats_a_key,
    splice,
)
from keelage_sidecar.core.weight import weigh

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", '{"a":[', ",}", ":"]
)
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXTS | st.sampled_from(["model", "max_tokens", "stream"]), VALUES, max_size=6)


@given(OBJECTS, st.dictionaries(st.sampled_from(["model", "max_tokens", "stream"]), VALUES, max_size=3), st.booleans())
def test_splice_equals_the_original_with_those_fields_set(
    original: dict[str, object], changes: dict[str, object], spread: bool
) -> None:
    body = orjson.dumps(original, option=orjson.OPT_INDENT_2 if spread else None)
    spliced = splice(body, {name: orjson.dumps(value) for name, value in changes.items()})
    assert orjson.loads(spliced) == orjson.loads(orjson.dumps({**original, **changes}))


@given(OBJECTS.filter(bool), st.dictionaries(st.sampled_from(["new", "newer"]), VALUES, min_size=1), st.booleans())
def test_what_is_appended_is_as_if_spliced(original: dict[str, object], more: dict[str, object], spread: bool) -> None:
    body = orjson.dumps(original, option=orjson.OPT_INDENT_2 if spread else None)
    members = [orjson.dumps(name) + b":" + orjson.dumps(value) for name, value in more.items()]
    assume(original.keys().isdisjoint(more))
    assert appended(body, members) == splice(body, {name: orjson.dumps(value) for name, value in more.items()})


@given(OBJECTS, st.booleans())
def test_keys_are_counted_at_all_depths(original: dict[str, object], spread: bool) -> None:
    body = orjson.dumps(original, option=orjson.OPT_INDENT_2 if spread else None)
    assert layout_of(body).keys == weigh(CHAT.kind, original).keys
    assert not repeats_a_key(body, weigh(CHAT.kind, original).keys)


@given(OBJECTS, st.booleans())
def test_the_scan_finds_each_members_value(original: dict[str, object], spread: bool) -> None:
    body = orjson.dumps(original, option=orjson.OPT_INDENT_2 if spread else None)
    layout = layout_of(body)
    found = {name: orjson.loads(body[member.start : member.end]) for name, member in layout.members.items()}
    assert found == orjson.loads(body)
    assert body[layout.close :] == b"}"


def test_everything_but_the_span_stays_byte_for_byte() -> None:
    body = b' { "a" : "\\u00e9\\"}," ,\n"mod\\u0065l"\t: "x" , "z":[1.0,{"model":"y"}] } \n'
    assert splice(body, {"model": b'"new"'}) == (
        b' { "a" : "\\u00e9\\"}," ,\n"mod\\u0065l"\t: "new" , "z":[1.0,{"model":"y"}] } \n'
    )
    assert splice(body, {"n": b"1"}) == body.replace(b"] } \n", b'] ,"n":1} \n')
    assert splice(b"{ }", {"n": b"1", "m": b"2"}) == b'{ "n":1,"m":2}'
    assert splice(body, {}) is body


@pytest.mark.parametrize(
    ("body", "repeated"),
    [
        (b'{"a":1,"b":{"a":2}}', False),
        (b'{"a":1,"\\u0061":2}', True),
        (b'{"x":[{"ttl":"1h","ttl":"5m"}]}', True),
        (b'{"a":"he said \\"b\\": 1"}', False),
        (b'{"a":"he said \\"b\\": 1","c":1,"c":2}', True),
        (b'{"a\\\\":1,"b":{"c":1,"c":2}}', True),
        (b'{"a\\\\":1,"b":"\\\\\\": "}', False),
        (b"{%b}" % b",".join(b'"k%d" : "x:y%b"' % (number, b"-" * 400) for number in range(40)), False),
        (b'{%b,"k3":1}' % b",".join(b'"k%d" : "x:y%b"' % (number, b"-" * 400) for number in range(40)), True),
    ],
)
def test_a_repeated_key_is_found_at_any_depth(body: bytes, repeated: bool) -> None:
    assert repeats_a_key(body, weigh(CHAT.kind, orjson.loads(body)).keys) is repeated


def test_a_body_too_deep_for_the_fast_way_is_spliced_all_the_same() -> None:
    body = b'{"a":' + b"[" * 1020 + b"]" * 1020 + b',"model":"x"}'
    assert orjson.loads(body)
    assert splice(body, {"model": b'"y"', "n": b"1"}) == body.replace(b'"x"}', b'"y","n":1}')


def test_a_string_of_megabytes_is_scanned_in_one_pass() -> None:
    body = orjson.dumps({"data": "A" * 4_000_000 + '\\"' * 1000, "model": "x"})
    assert layout_of(body).members["model"].end == len(body) - 1


@given(OBJECTS, st.booleans())
def test_members_are_found_with_their_bytes(original: dict[str, object], spread: bool) -> None:
    body = orjson.dumps(original, option=orjson.OPT_INDENT_2 if spread else None)
    members = raw_members(body)
    assert list(members) == list(original)
    assert {name: orjson.loads(value) for name, value in members.items()} == orjson.loads(body)
    assert all(value in body for value in members.values())


@given(st.lists(VALUES, max_size=6), st.booleans())
def test_elements_of_an_array_are_found_where_they_lie(values: list[object], spread: bool) -> None:
    body = orjson.dumps({"before": "[1,", "it": values, "after": 1}, option=orjson.OPT_INDENT_2 if spread else None)
    array = located(body)[0]["it"]
    found = elements(body, array)
    assert found is not None
    assert [orjson.loads(body[each.start : each.end]) for each in found] == orjson.loads(body)["it"]
    assert outermost(body, array) == ((found[0], found[-1], len(found)) if found else None)


def test_an_array_nested_too_deep_for_the_decoder_has_no_elements() -> None:
    body = b'{"it":[' + b"[" * 1020 + b"]" * 1020 + b"]}"
    array = located(body)[0]["it"]
    assert (elements(body, array), outermost(body, array)) == (None, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'{"a":1', b'{"a":1}x', b"\xff", b'{"a":1}{"b":2}'])
def test_what_is_no_object_has_no_members(body: bytes) -> None:
    with pytest.raises(ValueError, match="is not a JSON object"):
        raw_members(body)


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":1}', b'{"a":1,"b":2,"a":3}', b'{"a":1,"\\u0061":2}', b'{"b":{},"a":[1],"a":[1] }']
)
def test_members_that_are_there_twice_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="names a key twice"):
        raw_members(body)


def test_members_nested_too_deep_for_the_decoder_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nested too deep|is not a JSON object"):
        raw_members(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")

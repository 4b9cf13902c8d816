"""AdmissionReview: what comes in is read or refused with its field, what goes out is what the API server expects."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.errors import MessageError
from keelage_operator.core.inject import PatchOp
from keelage_operator.core.review import allow, deny, read_review


def test_request_is_read_and_unknown_fields_are_ignored() -> None:
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "alice", "groups": ["dev"], "extra": {"a": ["b"]}},
            "object": {"kind": "Pod", "spec": {"futureField": 1}},
            "oldObject": None,
            "dryRun": False,
        },
    }
    request = read_review(json.dumps(body).encode())
    assert (request.uid, request.namespace, request.operation) == ("u-1", "shop", "CREATE")
    assert request.user_info.username == "alice"
    assert request.object == {"kind": "Pod", "spec": {"futureField": 1}}
    assert request.old_object is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "AdmissionReview"),
        (b'{"apiVersion": "admission.k8s.io/v1"}', "request"),
        (b'{"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}', "v1beta1"),
        (b'{"apiVersion": "admission.k8s.io/v1", "request": {"uid": ""}}', "uid"),
        (b'{"apiVersion": "admission.k8s.io/v1", "request": {"uid": 5}}', "uid"),
    ],
)
def test_wrong_review_is_refused_by_name(body: bytes, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        read_review(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_raise_the_one_error(body: bytes) -> None:
    with contextlib.suppress(MessageError):
        read_review(body)


def test_patch_goes_out_as_base64_of_operations() -> None:
    response = json.loads(allow("u-1", (PatchOp("/metadata/labels", {"a": "b"}),), ("careful",)))["response"]
    assert response["uid"] == "u-1"
    assert response["allowed"] is True
    assert response["warnings"] == ["careful"]
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == [
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
    ]


def test_empty_patch_is_left_out() -> None:
    assert json.loads(allow("u-1")) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


def test_denial_carries_reason_and_message() -> None:
    response = json.loads(deny("u-1", "HostNetwork", "remove hostNetwork"))["response"]
    assert response["allowed"] is False
    assert response["status"] == {
        "status": "Failure",
        "code": 403,
        "reason": "HostNetwork",
        "message": "remove hostNetwork",
    }

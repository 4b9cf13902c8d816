"""AdmissionReview (admission.k8s.io/v1): bytes in, bytes out."""

from __future__ import annotations

import base64

import msgspec

from keelage_api.errors import MessageError
from keelage_operator.core.inject import PatchOp

API_VERSION = "admission.k8s.io/v1"

Json = dict[str, object]


class UserInfo(msgspec.Struct, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()


class GroupKind(msgspec.Struct, frozen=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """The parts of an AdmissionRequest that are used here; others are ignored."""

    uid: str
    kind: GroupKind = GroupKind()
    namespace: str = ""
    name: str = ""
    operation: str = ""
    user_info: UserInfo = UserInfo()
    dry_run: bool | None = None
    object: Json | None = None
    """Absent on DELETE."""
    old_object: Json | None = None


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    request: Request


def read_review(body: bytes) -> Request:
    """The request in it; MessageError names what is wrong."""
    try:
        review = msgspec.json.decode(body, type=_Review)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"AdmissionReview: {error}") from error
    if review.api_version != API_VERSION:
        raise MessageError(f"AdmissionReview: version {review.api_version} is not {API_VERSION}")
    if not review.request.uid:
        raise MessageError("AdmissionReview: request.uid is empty")
    return review.request


def allow(uid: str, patch: tuple[PatchOp, ...] = (), warnings: tuple[str, ...] = ()) -> bytes:
    """Let it pass, changed by `patch`."""
    response: Json = {"uid": uid, "allowed": True}
    if patch:
        ops = [{"op": "add", "path": op.path, "value": op.value} for op in patch]
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(ops)).decode("ascii")
    return _answer(response, warnings)


def deny(uid: str, reason: str, message: str, code: int = 403, warnings: tuple[str, ...] = ()) -> bytes:
    """Refuse it; the API server shows `message` to whoever asked, behind the webhook's name."""
    return _answer(
        {
            "uid": uid,
            "allowed": False,
            "status": {"status": "Failure", "code": code, "reason": reason, "message": message},
        },
        warnings,
    )


def _answer(response: Json, warnings: tuple[str, ...]) -> bytes:
    if warnings:
        response["warnings"] = list(warnings)
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})

"""`/fake/…`: how tests and demos steer a fake provider in another process. No key is needed."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from keelage_dev.provider.body import parsed
from keelage_dev.provider.exchange import Reply, Request
from keelage_dev.provider.fault import BadFault
from keelage_dev.provider.service import Service
from keelage_dev.provider.settings import BadSetting

__all__ = ["PREFIX", "answer"]

PREFIX = "/fake/"


def answer(service: Service, request: Request) -> Reply:
    """`GET bill`, `GET requests`, `GET config`, `POST config`, `POST reset`, `GET healthz`."""
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "bill":
            return _ok(service.bill.report().as_json())
        case "GET", "requests":
            return _ok([asdict(each) for each in service.record])
        case "GET", "config":
            return _ok(asdict(service.settings))
        case "POST", "config":
            changes = parsed(request.body)
            if changes is None:
                return _no(400, "a JSON object of settings expected")
            try:
                service.configure(changes)
            except (BadSetting, BadFault) as wrong:
                return _no(400, str(wrong))
            return _ok(asdict(service.settings))
        case "POST", "reset":
            service.reset()
            return _ok({})
        case "GET", "healthz":
            return _ok({"status": "ok"})
        case _:
            return _no(404, "there are GET bill, requests, config, healthz and POST config, reset")


def _ok(value: object) -> Reply:
    return Reply(200, orjson.dumps(value))


def _no(status: int, message: str) -> Reply:
    return Reply(status, orjson.dumps({"error": message}))

"""A stand-in for Anthropic and OpenAI: faithful replies, errors on order, and a bill of its own.

Imports nothing of the product, so that it can judge it; needs httptools and orjson only.
"""

from keelage_dev.provider.bill import BillReport
from keelage_dev.provider.fake import FakeProvider, ThreadedProvider
from keelage_dev.provider.record import Record

__all__ = ["BillReport", "FakeProvider", "Record", "ThreadedProvider"]

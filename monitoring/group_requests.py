"""Requests about many groups at once, which neither librdkafka nor aiokafka offers: declared here.

ListGroups with the groups' states (version 4, KIP-518), and OffsetFetch for many groups (version 8, KIP-709). Brokers
know both since Kafka 3.0.
"""

from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.admin import DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

TEXT = CompactString("utf-8")


class _GroupsListed(Response):  # type: ignore[misc] # untyped library
    API_KEY = 16
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "groups",
            CompactArray(("group", TEXT), ("protocol_type", TEXT), ("state", TEXT), ("tags", TaggedFields)),
        ),
        ("tags", TaggedFields),
    )


class _ListGroups(RequestStruct):  # type: ignore[misc] # untyped library
    API_KEY = 16
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _GroupsListed
    SCHEMA = Schema(("states", CompactArray(TEXT)), ("tags", TaggedFields))


class ListGroups(Request[_ListGroups]):  # type: ignore[misc] # untyped library
    """The groups that a broker coordinates, with protocol and state."""

    API_KEY = 16

    def build(self, request_struct_class: type[_ListGroups]) -> _ListGroups:
        return request_struct_class([], {})


class _OffsetsFetched(Response):  # type: ignore[misc] # untyped library
    API_KEY = 9
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            CompactArray(
                ("group", TEXT),
                (
                    "topics",
                    CompactArray(
                        ("topic", TEXT),
                        (
                            "partitions",
                            CompactArray(
                                ("partition", Int32),
                                ("offset", Int64),
                                ("leader_epoch", Int32),
                                ("metadata", TEXT),
                                ("error_code", Int16),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("error_code", Int16),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _FetchOffsets(RequestStruct):  # type: ignore[misc] # untyped library
    API_KEY = 9
    API_VERSION = 8
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetsFetched
    SCHEMA = Schema(
        (
            "groups",
            CompactArray(
                ("group", TEXT),
                (
                    "topics",
                    CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class FetchOffsets(Request[_FetchOffsets]):  # type: ignore[misc] # untyped library
    """All that these groups have committed, of every topic. The broker has to coordinate all of them."""

    API_KEY = 9

    def __init__(self, groups: Sequence[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[_FetchOffsets]) -> _FetchOffsets:
        every_topic: Any = None
        return request_struct_class([(group, every_topic, {}) for group in self._groups], False, {})


class DescribeGroups(Request[DescribeGroupsRequest_v2]):  # type: ignore[misc] # untyped library
    """The members of these groups and what each is assigned. The broker has to coordinate all of them.

    aiokafka's own request asks in version 3 and reads the answer as version 2, which fails for several groups.
    """

    API_KEY = 15

    def __init__(self, groups: Sequence[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[DescribeGroupsRequest_v2]) -> DescribeGroupsRequest_v2:
        return request_struct_class(list(self._groups))

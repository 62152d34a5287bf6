"""The queue contract, as an AsyncAPI document."""

from typing import Any, Final

from contract import traceparent
from contract.event import BROKERS_REASONS, EventFields, Reason, Source
from contract.fields import json_schema
from contract.origin import MOST_CHARACTERS, REQUESTS, RULE
from contract.topology import (
    DEAD_EXCHANGE,
    DEAD_QUEUE,
    DEAD_QUEUE_ARGUMENTS,
    DIRECT_EXCHANGE,
    EXCHANGE,
    QUEUE,
    QUEUE_ARGUMENTS,
    ROUTING_KEY,
)

Object = dict[str, Any]

_BINDING_VERSION: Final = "0.3.0"
_EXAMPLE: Final = {
    "projectId": "proj_nCBo0AB7UWpj",
    "email": "amari_koss69@northwind.dev",
    "metric": "program quantify",
    "quantity": "195.84",
    "idempotencyKey": "order-42",
}


def document() -> Object:
    """Describe what a producer may send, what a consumer finds, and where."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "usage-ingest",
            "version": "1",
            "license": {"name": "Apache-2.0"},
            "description": "Metered usage for billing, on RabbitMQ. Who publishes with mandatory and waits for the "
            "confirm knows that an event is on disk; what is sent again with the same identity counts once.",
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": {
            "acceptFromProducers": _operation("receive", "producers", "What your producers publish."),
            "publishFromHttp": _operation("send", "ingest", "What ingest has accepted over HTTP."),
            "store": _operation("receive", "events", "What the worker writes to MongoDB."),
            "park": _operation("send", "dead", "What cannot be stored, with its reason."),
        },
        "components": {
            "messages": {"events": _events(), "deadLetter": _dead_letter()},
            "schemas": {"Event": _event()},
        },
    }


def _channels() -> Object:
    return {
        "producers": _channel(ROUTING_KEY, "events", "For your producers.", _exchange(DIRECT_EXCHANGE, "direct")),
        "ingest": _channel(ROUTING_KEY, "events", "For ingest alone.", _exchange(EXCHANGE, "direct")),
        "events": _channel(QUEUE, "events", "What waits to be stored.", _queue(QUEUE), QUEUE_ARGUMENTS),
        "dead": _channel("", "deadLetter", "What cannot be stored.", _exchange(DEAD_EXCHANGE, "fanout")),
        "deadLetters": _channel(
            DEAD_QUEUE, "deadLetter", "What lies there until somebody looks.", _queue(DEAD_QUEUE), DEAD_QUEUE_ARGUMENTS
        ),
    }


def _channel(address: str, message: str, description: str, binding: Object, arguments: Any = None) -> Object:
    channel: Object = {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"amqp": {**binding, "bindingVersion": _BINDING_VERSION}},
    }
    # The AMQP binding has no place for a queue's arguments.
    return channel if arguments is None else {**channel, "x-arguments": dict(arguments)}


def _exchange(name: str, kind: str) -> Object:
    exchange = {"name": name, "type": kind, "durable": True, "autoDelete": False}
    return {"is": "routingKey", "exchange": exchange}


def _queue(name: str) -> Object:
    return {"is": "queue", "queue": {"name": name, "durable": True, "exclusive": False, "autoDelete": False}}


def _operation(action: str, channel: str, summary: str) -> Object:
    operation: Object = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}
    if action == "send":
        return {**operation, "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": _BINDING_VERSION}}}
    return operation


def _events() -> Object:
    event = {"$ref": "#/components/schemas/Event"}
    return {
        "summary": "One event, or an array of them: persistent JSON in UTF-8.",
        "contentType": "application/json",
        "payload": {"oneOf": [event, {"type": "array", "items": event}]},
        "headers": {"type": "object", "properties": {REQUESTS: _requests(), traceparent.TRACEPARENT: _traceparent()}},
        "examples": [{"name": "one", "payload": _EXAMPLE}],
    }


def _requests() -> Object:
    return {
        "type": "string",
        "maxLength": MOST_CHARACTERS,
        "pattern": f"^{RULE.pattern}$",
        "description": "Ids of the requests by which the events came, in their order; id:3 for one with three events. "
        "For logs and dead letters: the first of many, or none, may be named.",
    }


def _traceparent() -> Object:
    return {
        "type": "string",
        "pattern": f"^{traceparent.RULE.pattern}$",
        "description": "By W3C Trace Context: the span in which the message was published. What is not one is ignored.",
    }


def _event() -> Object:
    """An event's fields; without an id or a key it has no identity."""
    return {**json_schema(EventFields), "anyOf": [{"required": ["id"]}, {"required": ["idempotencyKey"]}]}


def _dead_letter() -> Object:
    """What was sent, byte for byte, which need not be JSON."""
    return {
        "summary": "What was sent, as it was; what the broker itself dead-letters has its own headers, x-death.",
        "payload": {},
        "headers": {
            "type": "object",
            "properties": {
                "usage-key": {"type": "string", "format": "uuid", "description": "The dead letter's identity."},
                "usage-reason": {"type": "string", "enum": [one.value for one in Reason if one not in BROKERS_REASONS]},
                "usage-detail": {"type": "string", "description": "A sentence that says what is wrong."},
                "usage-source": {"type": "string", "enum": [source.value for source in Source]},
                "usage-parked-at": {"type": "string", "format": "date-time"},
                "usage-message": {"type": "string", "description": "The message that it was in, publisher:seq."},
                REQUESTS: _requests(),
            },
        },
    }

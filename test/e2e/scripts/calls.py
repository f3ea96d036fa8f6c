"""A client that is told what to do: a line of JSON in, a line of JSON out, until there are no more."""

import datetime
import json
import sys

import botocore.exceptions
from botocore import xform_name
from common import client

nimble = client()


def told(value):
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def do(kind, name, given, member=None):
    if kind == "knows":
        return hasattr(nimble, xform_name(name))
    if kind == "call":
        answer = getattr(nimble, xform_name(name))(**given)
        answer.pop("ResponseMetadata")
        return answer
    if kind == "wait":
        return nimble.get_waiter(xform_name(name)).wait(**given)
    pages = nimble.get_paginator(xform_name(name)).paginate(**given)
    return [entry for page in pages for entry in page[member]]


for line in sys.stdin:
    try:
        said = {"answer": do(**json.loads(line))}
    except botocore.exceptions.ClientError as error:
        response = error.response
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        # By the class that a script would catch.
        caught = isinstance(error, getattr(nimble.exceptions, response["Error"]["Code"]))
        said = {"refusal": {"name": response["Error"]["Code"] if caught else "ClientError", "status": status}}
    print(json.dumps(said, default=told), flush=True)

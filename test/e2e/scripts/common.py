"""What the scripts share: a client, and a studio to work in."""

import os
import time

import boto3

ROLES = {
    "adminRoleArn": "arn:aws:iam::000000000000:role/admin",
    "userRoleArn": "arn:aws:iam::000000000000:role/user",
}

# There is no such machine image: images of it fail at once, which is enough for all but their bytes.
ABSENT = "ami-0123456789abcdef0"


def client(**options):
    return boto3.client("nimble", endpoint_url=os.environ["ENDPOINT_URL"], **options)


def new_studio(nimble, name):
    studio = nimble.create_studio(studioName=name, displayName=name, **ROLES)["studio"]
    nimble.get_waiter("studio_ready").wait(studioId=studio["studioId"])
    return studio["studioId"]


def failed_image(nimble, studio_id, **more):
    """An image whose creation has failed."""
    request = {"studioId": studio_id, "name": "Nothing", "ec2ImageId": ABSENT, **more}
    image = nimble.create_streaming_image(**request)["streamingImage"]
    while image["state"] == "CREATE_IN_PROGRESS":
        time.sleep(0.05)
        where = {"studioId": studio_id, "streamingImageId": image["streamingImageId"]}
        image = nimble.get_streaming_image(**where)["streamingImage"]
    assert image["state"] == "CREATE_FAILED", image
    return image


def refused(exception, call, **arguments):
    """The error of a call that must be refused with this exception class."""
    try:
        call(**arguments)
    except exception as error:
        return error
    raise AssertionError(f"{exception.__name__} was not raised")

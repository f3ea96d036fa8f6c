"""The exception classes of a client, each with the code and the context that the service gave."""

import os

import botocore.exceptions
from common import ABSENT, ROLES, client, new_studio, refused

nimble = client()
errors = nimble.exceptions
studio_id = new_studio(nimble, "exceptions")
absent = {"studioId": studio_id, "streamingImageId": "AAAAAAAAAAAAAAAAAAAAAA"}
provided = {"studioId": studio_id, "streamingImageId": os.environ["PROVIDED_IMAGE_ID"]}


def expect(error, status, code, **context):
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error.response
    assert error.response["code"] == code, error.response
    assert context.items() <= error.response.get("context", {}).items(), error.response
    assert error.response["Error"]["Message"], error.response


error = refused(errors.ResourceNotFoundException, nimble.get_streaming_image, **absent)
expect(error, 404, "RESOURCE_NOT_FOUND", resourceId=absent["streamingImageId"])
refused(errors.ResourceNotFoundException, nimble.update_streaming_image, **absent, name="New")
refused(errors.ResourceNotFoundException, nimble.delete_streaming_image, **absent)

error = refused(
    errors.ValidationException, nimble.create_streaming_image, studioId=studio_id, name="x" * 65, ec2ImageId="disk"
)
expect(error, 400, "INVALID_INPUT")
refused(errors.ValidationException, nimble.list_studios, nextToken="made up")
refused(errors.ValidationException, nimble.accept_eulas, studioId=studio_id, eulaIds=[])

error = refused(errors.ConflictException, nimble.create_studio, studioName="exceptions", displayName="R", **ROLES)
expect(error, 409, "STUDIO_NAME_TAKEN", resourceId=studio_id)

for call in (nimble.update_streaming_image, nimble.delete_streaming_image):
    expect(refused(errors.AccessDeniedException, call, **provided), 403, "PROVIDED_IMAGE")
assert nimble.get_streaming_image(**provided)["streamingImage"]["owner"] == "amazon"

images = [
    nimble.create_streaming_image(studioId=studio_id, name="Nothing", ec2ImageId=ABSENT)["streamingImage"]
    for _ in range(int(os.environ["QUOTA"]))
]
error = refused(
    errors.ServiceQuotaExceededException,
    nimble.create_streaming_image,
    studioId=studio_id,
    name="One more",
    ec2ImageId=ABSENT,
)
expect(error, 402, "STREAMING_IMAGES_PER_STUDIO", quota=os.environ["QUOTA"])

where = {"studioId": studio_id, "streamingImageId": images[0]["streamingImageId"]}
waiting = refused(botocore.exceptions.WaiterError, nimble.get_waiter("streaming_image_ready").wait, **where)
assert waiting.last_response["streamingImage"]["statusCode"] == "ACCESS_DENIED", waiting.last_response
expect(
    refused(errors.ConflictException, nimble.update_streaming_image, **where, name="New"), 409, "STATE_DOES_NOT_ALLOW"
)
nimble.delete_studio(studioId=studio_id)
waiting = refused(botocore.exceptions.WaiterError, nimble.get_waiter("studio_deleted").wait, studioId=studio_id)
status = waiting.last_response["studio"]["statusCode"]
assert status == "STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED", waiting.last_response

for keys, code in (
    ({"aws_access_key_id": "AKIAAAAAAAAAAAAAAAAA", "aws_secret_access_key": "x"}, "UnrecognizedClientException"),
    ({"aws_secret_access_key": "wrong", "aws_access_key_id": os.environ["KEY_ID"]}, "InvalidSignatureException"),
):
    error = refused(botocore.exceptions.ClientError, client(**keys).list_studios)
    assert error.response["Error"]["Code"] == code, error.response

"""A pipeline's script from the days of the vendor's service: only the endpoint was changed."""

import os

import boto3

nimble = boto3.client("nimble", endpoint_url=os.environ["ENDPOINT_URL"])

studio = nimble.create_studio(
    studioName="pipeline",
    displayName="Pipeline",
    adminRoleArn="arn:aws:iam::000000000000:role/admin",
    userRoleArn="arn:aws:iam::000000000000:role/user",
    studioEncryptionConfiguration={"keyType": "AWS_OWNED_KEY"},
)["studio"]
studio_id = studio["studioId"]
nimble.get_waiter("studio_ready").wait(studioId=studio_id)
assert [s["studioId"] for s in nimble.list_studios()["studios"]] == [studio_id]

image = nimble.create_streaming_image(
    studioId=studio_id,
    name="Houdini 20",
    description="Nightly",
    ec2ImageId=os.environ["EC2_IMAGE_ID"],
    tags={"show": "alpha"},
)["streamingImage"]
assert image["state"] == "CREATE_IN_PROGRESS", image
where = {"studioId": studio_id, "streamingImageId": image["streamingImageId"]}
nimble.get_waiter("streaming_image_ready").wait(**where)

answer = nimble.update_streaming_image(**where, name="Houdini 20.5")
assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
assert answer["streamingImage"]["state"] == "READY"
image = nimble.get_streaming_image(**where)["streamingImage"]
assert image["name"] == "Houdini 20.5" and image["description"] == "Nightly", image
assert image["statusCode"] == "STREAMING_IMAGE_READY", image
assert image["owner"] == studio_id and image["platform"] == "LINUX", image
assert image["tags"] == {"show": "alpha"}, image
assert "encryptionConfiguration" not in image, image

for old in nimble.list_streaming_images(studioId=studio_id, owner=studio_id)["streamingImages"]:
    deleted = nimble.delete_streaming_image(studioId=studio_id, streamingImageId=old["streamingImageId"])
    assert deleted["streamingImage"]["state"] == "DELETE_IN_PROGRESS", deleted
    nimble.get_waiter("streaming_image_deleted").wait(
        studioId=studio_id, streamingImageId=old["streamingImageId"]
    )

nimble.update_studio(studioId=studio_id, displayName="Pipelines")
nimble.get_waiter("studio_ready").wait(studioId=studio_id)
assert nimble.get_studio(studioId=studio_id)["studio"]["displayName"] == "Pipelines"
nimble.delete_studio(studioId=studio_id)
nimble.get_waiter("studio_deleted").wait(studioId=studio_id)
studio = nimble.get_studio(studioId=studio_id)["studio"]
assert studio["state"] == "DELETED" and studio["createdAt"].tzinfo is not None, studio

"""boto3 with nothing but ~/.aws/config, whose credential_process logs in."""

import os

import boto3
from botocore.exceptions import ClientError

nimble = boto3.client("nimble", endpoint_url=os.environ["ENDPOINT_URL"])
credentials = boto3.Session().get_credentials()
assert credentials.method == "custom-process", credentials.method
assert credentials.get_frozen_credentials().access_key.startswith("ASIA")

images = nimble.list_streaming_images(studioId=os.environ["MINE"])
print(len(images["streamingImages"]))
for refused in (
    lambda: nimble.list_streaming_images(studioId=os.environ["THEIRS"]),
    lambda: nimble.delete_studio(studioId=os.environ["MINE"]),
):
    try:
        refused()
    except ClientError as error:
        print(error.response["Error"]["Code"])

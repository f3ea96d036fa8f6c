"""More changes than the server takes at once: each of them is made, some after the client has waited by itself."""

import os

from common import client

nimble = client()
arn = os.environ["RESOURCE_ARN"]
retries = 0
for call in range(8):
    answer = nimble.tag_resource(resourceArn=arn, tags={"call": str(call)})
    retries += answer["ResponseMetadata"]["RetryAttempts"]
assert retries >= 1, retries
assert nimble.list_tags_for_resource(resourceArn=arn)["tags"] == {"call": "7"}

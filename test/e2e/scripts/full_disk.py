"""One change of an image by an old script that knows nothing of full disks; prints what came of it, as JSON."""

import json
import os

from common import client

nimble = client()
where = {"studioId": os.environ["STUDIO_ID"], "streamingImageId": os.environ["IMAGE_ID"]}
try:
    answer = nimble.update_streaming_image(**where, description=os.environ["DESCRIPTION"])
    outcome = {"description": answer["streamingImage"]["description"]}
except nimble.exceptions.InternalServerErrorException as error:
    answer = error.response
    outcome = {"text": str(error), "code": answer["code"], "error": answer["Error"]}
metadata = answer["ResponseMetadata"]
outcome["status"] = metadata["HTTPStatusCode"]
outcome["retries"] = metadata["RetryAttempts"]
outcome["requestId"] = metadata["RequestId"]
print(json.dumps(outcome))

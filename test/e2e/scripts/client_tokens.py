"""Client tokens: the same request again does nothing again, another request under the same token is refused."""

import threading

from common import ABSENT, client, failed_image, new_studio, refused

nimble = client()
studio_id = new_studio(nimble, "tokens")
first = failed_image(nimble, studio_id, name="Once", clientToken="980f2eb5")
request = {"studioId": studio_id, "name": "Once", "ec2ImageId": ABSENT, "clientToken": "980f2eb5"}
again = nimble.create_streaming_image(**request)["streamingImage"]
assert again["streamingImageId"] == first["streamingImageId"]
assert again["state"] == "CREATE_FAILED", "what is answered is the image as it is now"
refused(nimble.exceptions.ValidationException, nimble.create_streaming_image, **{**request, "name": "Twice"})
# boto3 makes up a token for a request without one: two such requests are two images.
del request["clientToken"]
assert len({nimble.create_streaming_image(**request)["streamingImage"]["streamingImageId"] for _ in range(2)}) == 2
assert len(nimble.list_streaming_images(studioId=studio_id, owner=studio_id)["streamingImages"]) == 3

made = []
request["clientToken"] = "at-once"
threads = [
    threading.Thread(target=lambda: made.append(nimble.create_streaming_image(**request)["streamingImage"]))
    for _ in range(8)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(made) == 8 and len({image["streamingImageId"] for image in made}) == 1, made

where = {"studioId": studio_id, "streamingImageId": first["streamingImageId"]}
deleted = nimble.delete_streaming_image(**where, clientToken="delete")["streamingImage"]
assert deleted["state"] == "DELETE_IN_PROGRESS", deleted
nimble.get_waiter("streaming_image_deleted").wait(**where)
again = nimble.delete_streaming_image(**where, clientToken="delete")["streamingImage"]
assert again["state"] == "DELETED", again

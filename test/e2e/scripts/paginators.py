"""Lists longer than a page, through the paginators of a client."""

from common import ABSENT, ROLES, client, new_studio

nimble = client()
names = [f"many{index}" for index in range(101)]
for name in names:
    nimble.create_studio(studioName=name, displayName=name, **ROLES)
pages = list(nimble.get_paginator("list_studios").paginate())
found = [studio["studioName"] for page in pages for studio in page["studios"]]
assert len(pages[0]["studios"]) == 100, len(pages[0]["studios"])
assert [name for name in found if name.startswith("many")] == names, found
assert len(set(found)) == len(found), found

studio_id = new_studio(nimble, "paginators")
ids = [
    nimble.create_streaming_image(studioId=studio_id, name=f"Image {index}", ec2ImageId=ABSENT)["streamingImage"][
        "streamingImageId"
    ]
    for index in range(101)
]
paginator = nimble.get_paginator("list_streaming_images")
pages = list(paginator.paginate(studioId=studio_id, owner=studio_id))
assert [len(page["streamingImages"]) for page in pages] == [100, 1]
assert {image["streamingImageId"] for page in pages for image in page["streamingImages"]} == set(ids)

first = paginator.paginate(studioId=studio_id, owner=studio_id, PaginationConfig={"MaxItems": 7}).build_full_result()
rest = paginator.paginate(
    studioId=studio_id, owner=studio_id, PaginationConfig={"StartingToken": first["NextToken"]}
).build_full_result()
assert len(first["streamingImages"]) == 7 and len(rest["streamingImages"]) == 94

"""Launch profiles: made, waited for, changed, given to people, paged through, and deleted."""

import os

import botocore.exceptions
from common import client, new_studio, refused

nimble = client()
studio_id = new_studio(nimble, "profiles")
studio = {"studioId": studio_id}
ready = nimble.get_waiter("launch_profile_ready").wait
deleted = nimble.get_waiter("launch_profile_deleted").wait

component = nimble.create_studio_component(**studio, name="Scripts", type="CUSTOM")["studioComponent"]
nimble.get_waiter("studio_component_ready").wait(**studio, studioComponentId=component["studioComponentId"])

CONFIGURATION = {
    "clipboardMode": "ENABLED",
    "ec2InstanceTypes": ["g5.xlarge", "g4dn.xlarge"],
    "maxStoppedSessionLengthInMinutes": 60,
    "sessionStorage": {"mode": ["UPLOAD"]},
    "streamingImageIds": [os.environ["PROVIDED_IMAGE_ID"]],
}


def create(**more):
    request = {
        "ec2SubnetIds": ["subnet-0a1b2c3d"],
        "launchProfileProtocolVersions": ["2021-03-31"],
        "name": "Lighting",
        "streamConfiguration": CONFIGURATION,
        "studioComponentIds": [component["studioComponentId"]],
        **more,
    }
    profile = nimble.create_launch_profile(**studio, **request)["launchProfile"]
    assert profile["state"] == "CREATE_IN_PROGRESS", profile
    return {**studio, "launchProfileId": profile["launchProfileId"]}


# What stops sessions alone, as clients from before there was persistence send it, is taken and shown.
place = create(tags={"show": "alpha"})
ready(**place)
profile = nimble.get_launch_profile(**place)["launchProfile"]
shown = profile["streamConfiguration"]
assert shown["maxSessionLengthInMinutes"] == 690 and shown["maxStoppedSessionLengthInMinutes"] == 60, shown
assert shown["sessionStorage"]["root"]["linux"] == "$HOME/Downloads", shown
assert [result["type"] for result in profile["validationResults"]][0].endswith("STUDIO_COMPONENT"), profile
assert profile["tags"] == {"show": "alpha"}, profile

nimble.update_launch_profile(**place, description="For shots")
ready(**place)
assert nimble.get_launch_profile_details(**place)["launchProfile"]["description"] == "For shots"

# An image that is not there fails a profile, and an update of one leaves it as it was.
absent = {**CONFIGURATION, "streamingImageIds": ["A" * 22]}
nimble.update_launch_profile(**place, name="Other", streamConfiguration=absent)
try:
    ready(**place)
    raise AssertionError("the waiter did not fail")
except botocore.exceptions.WaiterError as error:
    last = error.last_response["launchProfile"]
    assert (last["state"], last["statusCode"]) == ("UPDATE_FAILED", "STREAMING_IMAGE_NOT_FOUND"), last
    assert (last["name"], last["streamConfiguration"]) == ("Lighting", shown), last

invalid = nimble.exceptions.ValidationException
unknown = refused(invalid, create, studioComponentIds=["A" * 22])
assert unknown.response["code"] == "STUDIO_COMPONENT_NOT_FOUND", unknown.response

people = {"identityStoreId": os.environ["IDENTITY_STORE_ID"]}
ann = os.environ["PRINCIPAL_ID"]
nimble.put_launch_profile_members(**place, **people, members=[{"principalId": ann, "persona": "USER"}])
assert nimble.get_launch_profile_member(**place, principalId=ann)["member"] == {
    **people,
    "persona": "USER",
    "principalId": ann,
}
refused(invalid, nimble.put_launch_profile_members, **place, **people, members=[{"principalId": "x", "persona": "USER"}])

others = [create(name=f"Profile {index}") for index in range(3)]
pages = nimble.get_paginator("list_launch_profiles").paginate(**studio, PaginationConfig={"PageSize": 2})
listed = [one["launchProfileId"] for page in pages for one in page["launchProfiles"]]
assert len(listed) == len(set(listed)) == 4, listed
usable = nimble.list_launch_profiles(**studio, principalId=ann)["launchProfiles"]
assert [one["launchProfileId"] for one in usable] == [place["launchProfileId"]], usable

for one in [place, *others]:
    if one is not place:
        ready(**one)
    nimble.delete_launch_profile(**one)
    deleted(**one)

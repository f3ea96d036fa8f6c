"""Studio components: made, changed, found by state and type, paged through, and deleted."""

import botocore.exceptions
from common import client, new_studio, refused

nimble = client()
studio_id = new_studio(nimble, "components")
ready = nimble.get_waiter("studio_component_ready").wait
deleted = nimble.get_waiter("studio_component_deleted").wait


def create(**members):
    component = nimble.create_studio_component(studioId=studio_id, **members)["studioComponent"]
    assert component["state"] == "CREATE_IN_PROGRESS", component
    return {"studioId": studio_id, "studioComponentId": component["studioComponentId"]}


def get(where):
    return nimble.get_studio_component(**where)["studioComponent"]


configuration = {
    "activeDirectoryConfiguration": {
        "directoryId": "d-1",
        "organizationalUnitDistinguishedName": "OU=Workstations,DC=example,DC=org",
        "computerAttributes": [{"name": "department", "value": "Lighting"}],
    }
}
directory = create(
    name="Directory",
    type="ACTIVE_DIRECTORY",
    subtype="AWS_MANAGED_MICROSOFT_AD",
    configuration=configuration,
    scriptParameters=[{"key": "DOMAIN", "value": "example.org"}],
    tags={"show": "alpha"},
)
ready(**directory)
component = get(directory)
assert component["statusCode"] == "STUDIO_COMPONENT_CREATED", component
assert component["configuration"] == configuration, component
assert component["tags"] == {"show": "alpha"} and component["createdAt"].tzinfo is not None, component
assert "initializationScripts" not in component and "description" not in component, component

# Only one of the members of a union may be given, by the client's own rule; none is what was not given.
farm = create(name="Farm", type="COMPUTE_FARM", configuration={"computeFarmConfiguration": {"endpoint": "farm:8080"}})
ready(**farm)
assert nimble.update_studio_component(**farm, description="Nightly")["studioComponent"]["state"] == "UPDATE_IN_PROGRESS"
ready(**farm)
component = get(farm)
assert component["statusCode"] == "STUDIO_COMPONENT_UPDATED" and component["description"] == "Nightly", component
assert component["configuration"] == {"computeFarmConfiguration": {"endpoint": "farm:8080"}}, component
nimble.tag_resource(resourceArn=component["arn"], tags={"show": "beta"})
assert nimble.list_tags_for_resource(resourceArn=component["arn"])["tags"] == {"show": "beta"}

second = create(name="Second", type="ACTIVE_DIRECTORY")
waiting = refused(botocore.exceptions.WaiterError, ready, **second)
assert waiting.last_response["studioComponent"]["statusCode"] == "ACTIVE_DIRECTORY_ALREADY_EXISTS"
error = refused(
    nimble.exceptions.ValidationException,
    nimble.update_studio_component,
    **farm,
    configuration={"licenseServiceConfiguration": {"endpoint": "licences"}},
)
assert error.response["code"] == "CONFIGURATION_DOES_NOT_FIT_TYPE", error.response

for index in range(51):
    create(name=f"Component {index}", type="CUSTOM")
paginator = nimble.get_paginator("list_studio_components")


def lengths(**arguments):
    return [len(page["studioComponents"]) for page in paginator.paginate(studioId=studio_id, **arguments)]


assert lengths() == [50, 4], lengths()
assert lengths(types=["CUSTOM"]) == [50, 1], lengths(types=["CUSTOM"])
assert lengths(types=["CUSTOM"], PaginationConfig={"PageSize": 30}) == [30, 21]
found = nimble.list_studio_components(studioId=studio_id, states=["READY", "DELETED"], types=["ACTIVE_DIRECTORY"])
assert [component["name"] for component in found["studioComponents"]] == ["Directory"], found

nimble.delete_studio(studioId=studio_id)
waiting = refused(botocore.exceptions.WaiterError, nimble.get_waiter("studio_deleted").wait, studioId=studio_id)
status = waiting.last_response["studio"]["statusCode"]
assert status == "STUDIO_WITH_STUDIO_COMPONENTS_NOT_DELETED", waiting.last_response

assert nimble.delete_studio_component(**farm)["studioComponent"]["state"] == "DELETE_IN_PROGRESS"
deleted(**farm)
assert get(farm)["statusCode"] == "STUDIO_COMPONENT_DELETED"
refused(nimble.exceptions.ResourceNotFoundException, nimble.update_studio_component, **farm, name="New")

"""Tags by ARN, and EULAs read and accepted."""

import os

from common import client, failed_image, new_studio

nimble = client()
studio_id = new_studio(nimble, "tagged")
image = failed_image(nimble, studio_id)
for arn in (nimble.get_studio(studioId=studio_id)["studio"]["arn"], image["arn"]):
    answer = nimble.tag_resource(resourceArn=arn, tags={"show": "alpha", "a b": "c&d/ß"})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    nimble.tag_resource(resourceArn=arn, tags={"show": "beta"})
    nimble.tag_resource(resourceArn=arn)
    assert nimble.list_tags_for_resource(resourceArn=arn)["tags"] == {"show": "beta", "a b": "c&d/ß"}
    nimble.untag_resource(resourceArn=arn, tagKeys=["a b", "absent"])
    assert nimble.list_tags_for_resource(resourceArn=arn)["tags"] == {"show": "beta"}

eula_id = os.environ["EULA_ID"]
eula = nimble.get_eula(eulaId=eula_id)["eula"]
assert eula["content"] == "https://example.org/licence", eula
assert nimble.list_eulas(eulaIds=[eula_id])["eulas"] == [eula]
accepted = nimble.accept_eulas(studioId=studio_id, eulaIds=[eula_id])["eulaAcceptances"]
assert accepted[0]["accepteeId"] == studio_id and accepted[0]["eulaId"] == eula_id, accepted
assert nimble.list_eula_acceptances(studioId=studio_id)["eulaAcceptances"] == accepted

"""boto3 over TLS, with a certificate that only CA_BUNDLE vouches for."""

import os

import botocore.exceptions
from common import client, new_studio, refused

trusting = client(verify=os.environ["CA_BUNDLE"])
studio_id = new_studio(trusting, "secure")
assert trusting.get_studio(studioId=studio_id)["studio"]["state"] == "READY"
arn = trusting.get_studio(studioId=studio_id)["studio"]["arn"]
trusting.tag_resource(resourceArn=arn, tags={"show": "alpha"})
assert trusting.list_tags_for_resource(resourceArn=arn)["tags"] == {"show": "alpha"}

refused(botocore.exceptions.SSLError, client().list_studios)

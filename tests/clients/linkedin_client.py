"""LinkedIn's own client for Python against its stand-in. Argument: the address of the stand-in."""

import sys
from urllib.parse import parse_qs, urlsplit

import requests
from linkedin_api.clients.auth.client import AuthClient
from linkedin_api.clients.restli.client import RestliClient

base, page = sys.argv[1], "urn:li:organization:2414183"
VERSION = "202608"


class ToStandIn(requests.adapters.HTTPAdapter):
    """The client knows two hosts; this leads to the stand-in instead."""

    def send(self, request, **options):
        parts = urlsplit(request.url)
        request.url = base + parts.path + (f"?{parts.query}" if parts.query else "")
        return super().send(request, **options)


def ok(what):
    print("ok", what)


# The consent, which the stand-in gives at once; then a code, a token, and another one for the refresh token.
auth = AuthClient("tests", "secret", "http://127.0.0.1:8723/back")
auth.session.mount("https://", ToStandIn())
consent = urlsplit(auth.generate_member_auth_url(["openid", "profile", "w_member_social"], "s1"))
answer = requests.get(f"{base}{consent.path}?{consent.query}", allow_redirects=False, timeout=10)
back = parse_qs(urlsplit(answer.headers["location"]).query)
assert answer.status_code == 302 and back["state"] == ["s1"], answer.headers
first = auth.exchange_auth_code_for_access_token(back["code"][0])
assert first.expires_in == 5184000 and 31535990 <= first.refresh_token_expires_in <= 31536000, vars(first)
second = auth.exchange_refresh_token_for_access_token(first.refresh_token)
# It is the same one, and lives no longer than before.
assert second.refresh_token == first.refresh_token, vars(second)
assert second.refresh_token_expires_in <= first.refresh_token_expires_in, vars(second)
ok("tokens")

client = RestliClient()
client.session.mount("https://", ToStandIn())
known = {"access_token": second.access_token, "version_string": VERSION}

me = client.get(resource_path="/userinfo", access_token=second.access_token).entity
author = f"urn:li:person:{me['sub']}"
pages = client.finder(
    resource_path="/organizationAcls",
    finder_name="roleAssignee",
    query_params={"role": "ADMINISTRATOR", "state": "APPROVED"},
    **known,
)
assert [row["organization"] for row in pages.elements] == [page], pages.elements
ok("who")


def post(text, by=author, content=None, **more):
    entity = {
        "author": by,
        "commentary": text,
        "visibility": "PUBLIC",
        "distribution": {"feedDistribution": "MAIN_FEED", "targetEntities": [], "thirdPartyDistributionChannels": []},
        "lifecycleState": "PUBLISHED",
        "isReshareDisabledByAuthor": False,
    }
    if content:
        entity["content"] = content
    return client.create(resource_path="/posts", entity=entity, **{**known, **more})


made = post("Release 2.4 \\(beta\\) #data", page)
assert made.status_code == 201 and made.decoded_entity_id.startswith("urn:li:share:"), vars(made)
read = client.get(resource_path="/posts/{id}", path_keys={"id": made.decoded_entity_id}, query_params={"viewContext": "AUTHOR"}, **known)
assert read.entity["commentary"] == "Release 2.4 \\(beta\\) #data", read.entity
ok("create and read")

again = post("Release 2.4 \\(beta\\) #data", page)
assert again.status_code == 422 and made.decoded_entity_id in again.response.json()["message"], again.response.text
ok("a duplicate names what it repeats")

cut = post("all of this (and none of that)", page)
kept = client.get(resource_path="/posts/{id}", path_keys={"id": cut.decoded_entity_id}, **known).entity["commentary"]
assert kept == "all of this ", kept
ok("a letter that is not escaped drops the rest in silence")

assert post("x" * 3001, page).response.json()["errorDetails"]["inputErrors"][0]["code"] == "FIELD_LENGTH_TOO_LONG"
assert post("x", "urn:li:organization:1").response.json()["code"] == "ACCESS_DENIED"
assert post("x", version_string="202501").status_code == 426
assert post("x", access_token="nobody").response.json()["code"] == "INVALID_ACCESS_TOKEN"
bare = requests.post(f"{base}/rest/posts", json={}, headers={"Authorization": f"Bearer {second.access_token}"}, timeout=10)
assert bare.status_code == 400 and bare.json()["code"] == "VERSION_MISSING", bare.text
ok("refusals")

for number in range(12):
    post(f"note {number}", page)
listed, start = [], 0
while True:
    found = client.finder(resource_path="/posts", finder_name="author", query_params={"author": page, "count": 5, "start": start}, **known)
    listed += [row["commentary"] for row in found.elements]
    start += 5
    if start >= found.paging.total:
        break
assert listed[0] == "note 11" and len(listed) == len(set(listed)) == 15, listed
mine = client.finder(resource_path="/posts", finder_name="author", query_params={"author": author}, **known)
assert mine.status_code == 403, mine.response.text
ok("a page is listed, a member is not")


def put(url, data):
    # The address is the sandbox's own, since the client was led there.
    return requests.put(url, data=data, headers={"Authorization": f"Bearer {second.access_token}"}, timeout=10)


def start_upload(kind, **request):
    return client.action(
        resource_path=f"/{kind}", action_name="initializeUpload", action_params={"initializeUploadRequest": request}, **known
    ).value


picture = start_upload("images", owner=page)
waiting = client.get(resource_path="/images/{id}", path_keys={"id": picture["image"]}, **known).entity
assert waiting["status"] == "WAITING_UPLOAD", waiting
assert put(picture["uploadUrl"], b"pixels").status_code == 201
early = post("early", page, {"media": {"id": picture["image"], "altText": "A chart"}})
assert early.status_code == 400 and "PROCESSING" in early.response.text, early.response.text
hidden = start_upload("images", owner=author)
assert client.get(resource_path="/images/{id}", path_keys={"id": hidden["image"]}, **known).status_code == 403
ok("pictures are processed, and those of members are not shown")

film = start_upload("videos", owner=author, fileSizeBytes=9_000_000, uploadCaptions=False, uploadThumbnail=False)
parts = film["uploadInstructions"]
assert [(part["firstByte"], part["lastByte"]) for part in parts] == [(0, 4194303), (4194304, 8388607), (8388608, 8999999)], parts
assert put(parts[0]["uploadUrl"], b"0" * 100).status_code == 400
tags = [put(part["uploadUrl"], b"0" * (part["lastByte"] - part["firstByte"] + 1)).headers["etag"] for part in parts]


def finish(order):
    # The answer is empty, of which the client makes an error.
    params = {"finalizeUploadRequest": {"video": film["video"], "uploadToken": "", "uploadedPartIds": order}}
    headers = {"Authorization": f"Bearer {second.access_token}", "LinkedIn-Version": VERSION, "X-Restli-Protocol-Version": "2.0.0"}
    return requests.post(f"{base}/rest/videos?action=finalizeUpload", json=params, headers=headers, timeout=10)


assert finish(tags[::-1]).status_code == 400
assert finish(tags).status_code == 200
ok("a video in parts")

comments = client.create(
    resource_path="/socialActions/{id}/comments",
    path_keys={"id": made.decoded_entity_id},
    entity={"actor": page, "object": made.decoded_entity_id, "message": {"text": "Details (in the notes)."}},
    **known,
)
assert comments.status_code == 201, comments.response.text
there = client.get_all(resource_path="/socialActions/{id}/comments", path_keys={"id": made.decoded_entity_id}, **known)
assert [row["message"]["text"] for row in there.elements] == ["Details (in the notes)."], there.elements
summary = client.get(resource_path="/socialActions/{id}", path_keys={"id": made.decoded_entity_id}, **known).entity
assert summary["commentsSummary"]["aggregatedTotalComments"] == 1, summary
assert client.get(resource_path="/socialActions/{id}", path_keys={"id": cut.decoded_entity_id}, **known).status_code == 404
ok("comments")

numbers = client.finder(
    resource_path="/organizationalEntityShareStatistics",
    finder_name="organizationalEntity",
    query_params={"organizationalEntity": page, "shares": ["urn:li:share:7390000000000000001"]},
    **known,
)
assert numbers.elements[0]["totalShareStatistics"]["impressionCount"] > 100, numbers.elements
fresh = client.finder(
    resource_path="/organizationalEntityShareStatistics",
    finder_name="organizationalEntity",
    query_params={"organizationalEntity": page, "shares": [made.decoded_entity_id]},
    **known,
)
assert fresh.elements == [], fresh.elements
one = {"entity": {"share": "urn:li:share:7390000000000000002"}, "queryType": "IMPRESSION", "aggregation": "TOTAL"}
member = client.finder(resource_path="/memberCreatorPostAnalytics", finder_name="entity", query_params=one, **known)
assert member.elements[0]["metricType"] == "IMPRESSION" and member.elements[0]["count"] > 100, member.elements
older = client.finder(
    resource_path="/memberCreatorPostAnalytics", finder_name="entity", query_params=one, **{**known, "version_string": "202601"}
)
assert list(older.elements[0]["metricType"].values()) == ["IMPRESSION"], older.elements
spoiled = requests.get(
    f"{base}/rest/organizationalEntityShareStatistics",
    params={"q": "organizationalEntity", "organizationalEntity": page, "shares": "List(urn:li:share:7390000000000000001)"},
    headers={"Authorization": f"Bearer {second.access_token}", "LinkedIn-Version": VERSION, "X-Restli-Protocol-Version": "2.0.0"},
    timeout=10,
)
assert spoiled.status_code == 400 and spoiled.json()["code"] == "PARAM_INVALID", spoiled.text
ok("numbers, and a list that is not Rest.li's")

changed = client.partial_update(
    resource_path="/posts/{id}", path_keys={"id": made.decoded_entity_id}, patch_set_object={"commentary": "Release 2.4"}, **known
)
assert changed.status_code == 204, changed.response.text
for _ in range(2):
    assert client.delete(resource_path="/posts/{id}", path_keys={"id": made.decoded_entity_id}, **known).status_code == 204
ok("change and delete, twice")

used = 0
while True:
    answer = post(f"many {used}", page)
    if answer.status_code == 429:
        break
    used += 1
assert 100 < used < 150 and "retry-after" not in answer.headers, used
ok("the day's posts")

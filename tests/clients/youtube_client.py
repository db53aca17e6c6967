"""google-api-python-client against the stand-in of YouTube. Arguments: the stand-in's address."""

import base64
import hashlib
import io
import json
import os
import sys
from urllib.parse import parse_qs, urlencode, urlsplit

import googleapiclient
import httplib2
import requests
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload

base = sys.argv[1]


def ok(what):
    print("ok", what)


def reason(error):
    return json.loads(error.content)["error"]["errors"][0]["reason"]


def refused(status, call):
    try:
        call.execute()
    except HttpError as error:
        assert error.resp.status == status, error
        return reason(error)
    raise AssertionError(f"expected {status}")


def tokens(**more):
    """The code flow with PKCE, as an installed app does it."""
    verifier = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": "tests",
        "redirect_uri": "http://127.0.0.1:1/callback",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **more,
    }
    back = requests.get(f"{base}/o/oauth2/v2/auth?{urlencode(query)}", allow_redirects=False, timeout=10)
    code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "client_id": "tests",
        "client_secret": "s",
        "redirect_uri": "http://127.0.0.1:1/callback",
    }
    answer = requests.post(f"{base}/token", data=form, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


assert "refresh_token" not in tokens(access_type="offline")
given = tokens(access_type="offline", prompt="consent")
assert given["refresh_token"] and given["expires_in"] == 3600, given
form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"], "client_id": "tests", "client_secret": "s"}
renewed = requests.post(f"{base}/token", data=form, timeout=10).json()
assert "refresh_token" not in renewed, renewed
ok("consent gives a refresh token, which stays")


class Bearer:
    """Sends the token with each request, as the client's own credentials would."""

    def __init__(self, token):
        self.inner, self.token, self.seen = httplib2.Http(timeout=20), token, []
        self.inner.redirect_codes = frozenset()

    def request(self, uri, method="GET", body=None, headers=None, **more):
        headers = {**(headers or {}), "authorization": f"Bearer {self.token}"}
        response, content = self.inner.request(uri, method=method, body=body, headers=headers, **more)
        self.seen.append((method, response.status, response.get("range")))
        return response, content

    def close(self):
        self.inner.close()


documents = os.path.join(os.path.dirname(googleapiclient.__file__), "discovery_cache", "documents")
document = json.load(open(os.path.join(documents, "youtube.v3.json"), encoding="utf-8"))
document["rootUrl"] = document["baseUrl"] = base + "/"
document.pop("mtlsRootUrl", None)


def client(token):
    http = Bearer(token)
    return build_from_document(document, http=http), http


youtube, http = client(renewed["access_token"])
channel = youtube.channels().list(part="snippet,contentDetails,statistics", mine=True).execute()["items"][0]
uploads = channel["contentDetails"]["relatedPlaylists"]["uploads"]
assert channel["snippet"]["title"] == "Acme Data" and channel["statistics"]["subscriberCount"] == "5120", channel
ok("own channel")

nobody, _ = client("nobody")
assert refused(401, nobody.channels().list(part="id", mine=True)) == "authError"
ok("unknown token refused")

film = bytes((at * 7 + at // 250) % 256 for at in range(262144 * 3 + 1000))


def insert(**more):
    status = {"privacyStatus": "public", "selfDeclaredMadeForKids": False, "containsSyntheticMedia": True, **more}
    body = {"snippet": {"title": "Release 2.4 tour", "description": "What is new.", "tags": ["data"]}, "status": status}
    media = MediaIoBaseUpload(io.BytesIO(film), mimetype="video/mp4", chunksize=262144, resumable=True)
    return youtube.videos().insert(part="snippet,status", body=body, media_body=media)


# Every second chunk is taken in part, the very first not at all.
switches = {"audited": True, "accepts": 0, "processing": 3600, "duplicates": True}
requests.put(f"{base}/_sandbox/state/switches", json=[switches], timeout=10).raise_for_status()
request, video, steps = insert(), None, 0
while video is None:
    _, video = request.next_chunk(num_retries=0)
    steps += 1
    assert steps < 20
puts = [seen for seen in http.seen if seen[0] == "PUT"]
assert puts[0] == ("PUT", 308, None) and puts[1] == ("PUT", 308, "bytes=0-262143"), puts
assert puts[-1][1] == 200 and len(puts) > 4, puts
assert video["snippet"]["title"] == "Release 2.4 tour" and video["status"]["privacyStatus"] == "public", video
assert video["status"]["uploadStatus"] == "uploaded" and video["status"]["containsSyntheticMedia"] is True
ok("resumable upload, taken in parts")

assert refused(400, youtube.videos().insert(part="snippet,status", body={"snippet": {"title": "a < b"}}, media_body=MediaIoBaseUpload(io.BytesIO(film), mimetype="video/mp4", resumable=True))) == "invalidTitle"
assert refused(400, insert(publishAt="2030-01-01T00:00:00Z")) == "invalidPublishAt"
session = requests.post(
    f"{base}/upload/youtube/v3/videos?uploadType=resumable&part=snippet",
    json={"snippet": {"title": "by hand"}},
    headers={"authorization": f"Bearer {renewed['access_token']}", "x-upload-content-type": "video/mp4", "x-upload-content-length": "600000"},
    timeout=10,
).headers["location"]


def put(span, body=b""):
    headers = {"authorization": f"Bearer {renewed['access_token']}", "content-range": span}
    return requests.put(session, data=body, headers=headers, allow_redirects=False, timeout=10)


assert put("bytes 0-999/600000", b"x" * 1000).status_code == 400
assert put("bytes */600000").status_code == 308 and "range" not in put("bytes */600000").headers
assert put("bytes 262144-524287/600000", b"x" * 262144).headers.get("range") is None
assert requests.put(session + "x", headers={"authorization": f"Bearer {renewed['access_token']}"}, timeout=10).status_code == 404
ok("chunks of a wrong length, gaps and unknown sessions")


def read(ids, part="snippet,status,statistics,processingDetails"):
    return youtube.videos().list(part=part, id=ids).execute()["items"]


found = read(video["id"])[0]
assert found["processingDetails"]["processingStatus"] == "processing", found
assert isinstance(found["statistics"]["viewCount"], str), found
requests.put(f"{base}/_sandbox/state/switches", json=[{**switches, "accepts": None, "processing": 0}], timeout=10).raise_for_status()
assert read(video["id"])[0]["status"]["uploadStatus"] == "processed"
assert read("unknown") == [] and len(read(f"{video['id']},zT9w3Lp-8vU", "id")) == 2
ok("processing, counters as texts, unknown ids")

page = youtube.playlistItems().list(part="snippet,contentDetails,status", playlistId=uploads, maxResults=2)
listed = []
while page is not None:
    answer = page.execute()
    listed += [item["snippet"]["resourceId"]["videoId"] for item in answer["items"]]
    page = youtube.playlistItems().list_next(page, answer)
assert listed[0] == video["id"] and len(listed) == 3, listed
ok("own videos in pages, the newest first")

thread = youtube.commentThreads().insert(part="snippet", body={"snippet": {"videoId": video["id"], "topLevelComment": {"snippet": {"textOriginal": "Notes"}}}}).execute()
youtube.comments().insert(part="snippet", body={"snippet": {"parentId": thread["id"], "textOriginal": "More"}}).execute()
threads = youtube.commentThreads().list(part="snippet", videoId=video["id"], order="time").execute()["items"]
assert threads[0]["snippet"]["totalReplyCount"] == 1, threads
assert youtube.comments().list(part="snippet", parentId=thread["id"]).execute()["items"][0]["snippet"]["textOriginal"] == "More"
ok("comments and replies")

picture = MediaIoBaseUpload(io.BytesIO(b"\x89PNG"), mimetype="image/png")
assert youtube.thumbnails().set(videoId=video["id"], media_body=picture).execute()["items"]
# The stand-in knows bytes again where they come in the same chunks.
insert().execute()
again = insert().execute()
rejected = read(again["id"])[0]["status"]
assert rejected["uploadStatus"] == "rejected" and rejected["rejectionReason"] == "duplicate", rejected
ok("thumbnail, and the same bytes twice")

youtube.videos().delete(id=video["id"]).execute()
assert read(video["id"]) == [] and refused(404, youtube.videos().delete(id=video["id"])) == "videoNotFound"
ok("delete")

spent = 0
while True:
    try:
        youtube.videos().delete(id="unknown").execute()
    except HttpError as error:
        spent += 1
        if reason(error) == "quotaExceeded":
            break
        assert spent < 200, "the units of a day do not end"
assert spent < 200 and refused(403, youtube.videos().delete(id="unknown")) == "quotaExceeded"
ok("the units of a day")

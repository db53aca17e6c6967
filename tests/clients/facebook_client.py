"""Meta's own SDK against the stand-ins of Facebook and Instagram. Arguments: the address of each, and their tokens."""

import sys
import tempfile
import warnings
from urllib.parse import urlsplit

import requests
from facebook_business.adobjects.iguser import IGUser
from facebook_business.adobjects.igmedia import IGMedia
from facebook_business.adobjects.page import Page
from facebook_business.adobjects.pagepost import PagePost
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.video_uploader import (
    VideoUploadFinishRequestManager,
    VideoUploadRequestContext,
    VideoUploadStartRequestManager,
    VideoUploadTransferRequestManager,
)

# The SDK warns of fields that its lists do not have, though the API does.
warnings.simplefilter("ignore")
facebook, instagram, page_token, user_token = sys.argv[1:]
PAGE, USER = "104200000000001", "17841400000000001"


class To(requests.adapters.HTTPAdapter):
    """The SDK knows its hosts; this leads to a stand-in instead."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def send(self, request, **options):
        parts = urlsplit(request.url)
        request.url = self.base + parts.path + (f"?{parts.query}" if parts.query else "")
        return super().send(request, **options)


def client(base, token):
    made = FacebookAdsApi.init(access_token=token, crash_log=False)
    made._session.requests.mount("https://", To(base))
    return made


def ok(what):
    print("ok", what)


def refused(call):
    try:
        call()
    except FacebookRequestError as error:
        return error
    raise AssertionError("expected a refusal")


graph = client(facebook, page_token)
page = Page(PAGE, api=graph)

me = page.api_get(fields=["name", "username", "fan_count"])
assert me["name"] == "Acme Data" and me["fan_count"] == 5120, me
ok("the page")

made = page.create_feed(fields=["id", "permalink_url"], params={"message": "Release 2.4 is out.\r\n", "link": "https://example.com/r/24"})
assert made["id"].startswith(f"{PAGE}_") and made["permalink_url"], made
error = refused(lambda: page.create_feed(params={"message": "Release 2.4 is out."}))
assert error.api_error_code() == 506 and error.http_status() == 400, error
ok("a post, and the same again")

error = refused(lambda: page.create_feed(params={"message": "soon", "published": False, "scheduled_publish_time": 1}))
assert error.api_error_code() == 100, error
error = refused(lambda: page.create_feed(params={}))
assert error.api_error_code() == 100, error
ok("what a post must have")

photos = [page.create_photo(params={"url": f"https://cdn.example.com/{n}.jpg", "published": False})["id"] for n in (1, 2)]
album = page.create_feed(params={"message": "Two.", "attached_media": [{"media_fbid": photo} for photo in photos]})
error = refused(lambda: page.create_feed(params={"message": "Again.", "attached_media": [{"media_fbid": photos[0]}]}))
assert error.api_error_subcode() == 1366051, error
single = page.create_photo(params={"url": "https://cdn.example.com/3.jpg", "caption": "One."})
assert single["post_id"].startswith(f"{PAGE}_"), single
ok("photos")

first = page.get_published_posts(fields=["id", "message", "created_time", "shares", "reactions.limit(0).summary(true)"], params={"limit": 2})
posts = list(first)
assert len(posts) == 6 and len({post["id"] for post in posts}) == 6, posts
assert posts[0]["message"] == "One." and posts[0]["created_time"].endswith("+0000"), posts[0]
assert [post["message"] for post in posts if "shares" in post] == ["Release 2.3 is out."], posts
assert posts[-1]["reactions"]["summary"]["total_count"] == 61, posts[-1]
ok("pages, whose links the SDK follows")

old = PagePost(f"{PAGE}_881", api=graph)
insights = {row["name"]: row["values"][0]["value"] for row in old.get_insights(params={"metric": "post_media_view,post_clicks"})}
assert insights == {"post_media_view": 2410, "post_clicks": 88}, insights
error = refused(lambda: list(old.get_insights(params={"metric": "post_media_view,post_impressions"})))
assert error.api_error_code() == 100 and "insights metric" in error.api_error_message(), error
ok("insights, and one bad name that fails them all")

comment = PagePost(album["id"], api=graph).create_comment(params={"message": "More in the notes."})
comments = list(PagePost(album["id"], api=graph).get_comments(fields=["message"]))
assert [row["id"] for row in comments] == [comment["id"]], comments
PagePost(album["id"], api=graph).api_delete()
error = refused(lambda: PagePost(album["id"], api=graph).api_get())
assert error.api_error_code() == 100 and error.api_error_subcode() == 33, error
ok("comments, and deletion")

# The SDK's uploader knows ad accounts; its parts talk to a page as well.
context = VideoUploadRequestContext()
context.account_id, context.file_size, context.file_name = PAGE, 600_000, "clip.mp4"


class ForPage:
    """Has the uploader's requests go to the videos of a page."""

    def __init__(self, api):
        self.api = api

    def call(self, method, path, **options):
        return self.api.call(method, (path[0], "videos"), **options)


with tempfile.NamedTemporaryFile(suffix=".mp4") as clip:
    clip.write(b"abcdef" * 100_000)
    clip.flush()
    context.file_path = clip.name
    start = VideoUploadStartRequestManager(ForPage(graph)).send_request(context).json()
    assert isinstance(start["start_offset"], str) and int(start["end_offset"]) < 600_000, start
    context.session_id = start["upload_session_id"]
    # It begins at the wrong place, and is told the right one: subcode 1363037.
    context.start_offset, context.end_offset = 10, 20
    last = VideoUploadTransferRequestManager(ForPage(graph)).send_request(context)
    assert last["start_offset"] == last["end_offset"] == "600000", last
    done = VideoUploadFinishRequestManager(ForPage(graph)).send_request(context).json()
    assert done["success"] is True, done
status = graph.call("GET", (start["video_id"],), params={"fields": "status,permalink_url"}).json()
assert status["status"]["video_status"] in ("processing", "ready"), status
error = refused(lambda: graph.call("GET", (start["video_id"], "insights"), params={"metric": "post_video_views"}))
assert "nonexisting field (insights)" in error.api_error_message(), error
ok("a video in chunks")

started = page.create_video_reel(params={"upload_phase": "start"})
reel = started["video_id"]
body = b"abcdef"
for offset, part, expected in ((0, body[:4], 200), (0, body, 400), (4, body[4:], 200)):
    answer = requests.post(
        f"{facebook}/video-upload/v26.0/{reel}",
        headers={"Authorization": f"OAuth {page_token}", "offset": str(offset), "file_size": "6"},
        data=part,
        timeout=10,
    )
    assert answer.status_code == expected, (offset, answer.text)
    phase = graph.call("GET", (reel,), params={"fields": "status"}).json()["status"]["uploading_phase"]
    assert phase["bytes_transfered"] == (6 if offset else 4), phase
page.create_video_reel(params={"upload_phase": "finish", "video_id": reel, "video_state": "PUBLISHED", "description": "Look."})
assert graph.call("GET", (reel,), params={"fields": "status"}).json()["status"]["publishing_phase"]["status"] == "in_progress"
ok("a reel by rupload, resumed")

error = refused(lambda: Page(PAGE, api=client(facebook, "nobody")).api_get())
assert error.api_error_code() == 190, error
ok("an unknown token")

graph = client(instagram, user_token)
user = IGUser(USER, api=graph)
assert user.api_get(fields=["username", "followers_count"])["username"] == "acme"
limit = user.get_content_publishing_limit(fields=["quota_usage", "config"])[0]
assert limit["quota_usage"] == 0 and limit["config"]["quota_total"] == 50, limit
ok("the account and its quota")

box = user.create_media(params={"image_url": "https://cdn.example.com/a.jpg", "caption": "Release 2.4"})
state = graph.call("GET", (box["id"],), params={"fields": "status_code"}).json()
assert state["status_code"] == "FINISHED", state
media = user.create_media_publish(params={"creation_id": box["id"]})
assert media["id"] != box["id"], media
assert graph.call("GET", (box["id"],), params={"fields": "status_code"}).json()["status_code"] == "PUBLISHED"
assert user.get_content_publishing_limit(fields=["quota_usage"])[0]["quota_usage"] == 1
ok("a container, and the media that it becomes")

clip = user.create_media(params={"media_type": "REELS", "video_url": "https://cdn.example.com/v.mp4"})
error = refused(lambda: user.create_media_publish(params={"creation_id": clip["id"]}))
assert (error.api_error_code(), error.api_error_subcode()) == (9007, 2207027), error
for params, subcode in (
    ({"image_url": "https://cdn.example.com/a.png"}, 2207005),
    ({"image_url": "http://127.0.0.1/a.jpg"}, 2207052),
    ({"image_url": "https://cdn.example.com/a.jpg", "caption": "x" * 2201}, 2207010),
    ({"media_type": "CAROUSEL", "children": [box["id"]]}, 2207028),
):
    error = refused(lambda: user.create_media(params=params))
    assert error.api_error_subcode() == subcode, (params, error)
error = refused(lambda: user.create_media_publish(params={"creation_id": "1"}))
assert error.api_error_subcode() == 2207006, error
ok("what is refused")

items = [user.create_media(params={"image_url": f"https://cdn.example.com/{n}.jpg", "is_carousel_item": True})["id"] for n in (1, 2, 3)]
parent = user.create_media(params={"media_type": "CAROUSEL", "children": items, "caption": "Three"})
carousel = user.create_media_publish(params={"creation_id": parent["id"]})
listed = list(user.get_media(fields=["caption", "media_type", "timestamp"], params={"limit": 2}))
assert [row["media_type"] for row in listed] == ["CAROUSEL_ALBUM", "IMAGE", "VIDEO", "IMAGE"], listed
ok("a carousel, and the list in pages")

reel = IGMedia("17920000000000008", api=graph)
assert [row["values"][0]["value"] for row in reel.get_insights(params={"metric": ["reach", "views"]})] == [9120, 15040]
error = refused(lambda: list(reel.get_insights(params={"metric": ["reach", "profile_visits"]})))
assert error.api_error_code() == 100, error
assert list(IGMedia(media["id"], api=graph).get_insights(params={"metric": ["reach"]})) == []
ok("insights by the kind of media")

said = IGMedia(media["id"], api=graph).create_comment(params={"message": "Thanks"})
assert said["id"], said
error = refused(lambda: graph.call("DELETE", (media["id"],)))
assert error.http_status() == 400, error
ok("a comment; deletion is refused with Instagram's own login")

"""tweepy against the stand-in of X. Arguments: the stand-in's address."""

import sys
import time
from urllib.parse import urlsplit

import requests
import tweepy

base = sys.argv[1]


class ToStandIn(requests.adapters.HTTPAdapter):
    """tweepy knows one host; this leads to the stand-in instead."""

    def send(self, request, **options):
        parts = urlsplit(request.url)
        request.url = base + parts.path + (f"?{parts.query}" if parts.query else "")
        return super().send(request, **options)


def client(token):
    made = tweepy.Client(access_token=None, bearer_token=token)
    made.session.mount("https://", ToStandIn())
    return made


def ok(what):
    print("ok", what)


def refused(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"expected {kind.__name__}")


# A token as the authorization server of the stand-in issues it.
answer = requests.post(
    base + "/2/oauth2/token",
    data={"grant_type": "refresh_token", "refresh_token": "sandbox-refresh_token", "client_id": "tests"},
    timeout=10,
)
assert answer.status_code == 200, answer.text
x = client(answer.json()["access_token"])

me = x.get_me(user_auth=False)
assert me.data.id == 1001 and me.data.username == "acmedata", me
ok("me")

first = x.create_tweet(text="Release 2.4 is out: https://example.com/r/24", user_auth=False)
assert "https://t.co/" in first.data["text"], first
ok("create")

assert "duplicate" in refused(tweepy.Forbidden, lambda: x.create_tweet(text="Release 2.4 is out: https://example.com/r/24", user_auth=False))
ok("duplicate refused")

reply = x.create_tweet(text="2/2 What changed", in_reply_to_tweet_id=first.data["id"], user_auth=False)
assert "not permitted" in refused(tweepy.Forbidden, lambda: x.create_tweet(text="x" * 281, user_auth=False))
refused(tweepy.BadRequest, lambda: x.create_tweet(text="lost", in_reply_to_tweet_id=5, user_auth=False))
ok("reply, too long, reply to nothing")

for number in range(7):
    x.create_tweet(text=f"note {number}", user_auth=False)
pages = list(
    tweepy.Paginator(x.get_users_tweets, 1001, max_results=5, tweet_fields=["created_at", "public_metrics"], user_auth=False)
)
texts = [tweet.text for page in pages for tweet in page.data or []]
assert len(pages) >= 3 and texts[0] == "note 6" and len(texts) == len(set(texts)) == 12, texts
assert pages[0].data[0].public_metrics["retweet_count"] == 0
ok("pages")

found = x.get_tweets([first.data["id"], 42], user_auth=False)
assert len(found.data) == 1 and len(found.errors) == 1, found
ok("by ids")

# Media are uploaded as the API says: tweepy still uploads by the one before.
token = x.bearer_token
api = requests.Session()
api.headers["Authorization"] = f"Bearer {token}"


def upload(kind, category, parts, size=None):
    total = size or sum(len(part) for part in parts)
    start = {"media_type": kind, "total_bytes": total, "media_category": category}
    made = api.post(base + "/2/media/upload/initialize", json=start, timeout=10).json()["data"]
    # In any order: the index decides.
    for index in reversed(range(len(parts))):
        form = {"segment_index": (None, str(index)), "media": ("part", parts[index])}
        assert api.post(f"{base}/2/media/upload/{made['id']}/append", files=form, timeout=10).status_code == 200
    return made["id"], api.post(f"{base}/2/media/upload/{made['id']}/finalize", timeout=10)


def status(media):
    answer = api.get(base + "/2/media/upload", params={"command": "STATUS", "media_id": media}, timeout=10)
    return answer.json()["data"].get("processing_info")


picture, finished = upload("image/png", "tweet_image", [b"pix", b"els"])
assert finished.status_code == 200 and "processing_info" not in finished.json()["data"], finished.text
words = {"id": picture, "metadata": {"alt_text": {"text": "A chart"}}}
assert api.post(base + "/2/media/metadata", json=words, timeout=10).status_code == 200
_, torn = upload("image/png", "tweet_image", [b"pix"], size=6)
assert torn.status_code == 400, torn.text
film, finished = upload("video/mp4", "tweet_video", [b"a" * 1_000_000, b"b" * 1_000_000])
assert finished.json()["data"]["processing_info"]["state"] == "pending", finished.text
refused(tweepy.BadRequest, lambda: x.create_tweet(text="too early", media_ids=[film], user_auth=False))
while (state := status(film)) and state["state"] != "succeeded":
    assert state["state"] == "in_progress", state
    time.sleep(state["check_after_secs"])
assert status(picture) is None
refused(tweepy.BadRequest, lambda: x.create_tweet(text="both", media_ids=[picture, film], user_auth=False))
ok("media")

one = x.create_tweet(text="1/3 a & b", media_ids=[picture], user_auth=False).data
two = x.create_tweet(text="2/3", in_reply_to_tweet_id=one["id"], user_auth=False).data
three = x.create_tweet(text="3/3", in_reply_to_tweet_id=two["id"], media_ids=[film], user_auth=False).data
fields = ["entities", "attachments", "referenced_tweets", "public_metrics", "non_public_metrics"]
first_part = x.get_tweet(one["id"], tweet_fields=fields, user_auth=False).data
assert first_part.text.startswith("1/3 a &amp; b https://t.co/"), first_part.text
assert first_part.entities["urls"][0]["expanded_url"].endswith(f"/status/{one['id']}/photo/1"), first_part.entities
assert first_part.attachments["media_keys"] == [f"3_{picture}"], first_part.attachments
assert first_part.non_public_metrics["url_link_clicks"] == 0, first_part.data
thread = {int(tweet.id): tweet for tweet in x.get_tweets([two["id"], three["id"]], tweet_fields=fields, user_auth=False).data}
for part, before in [(two, one), (three, two)]:
    (reference,) = thread[int(part["id"])].referenced_tweets
    assert reference.type == "replied_to" and reference.id == int(before["id"]), reference
film_read = x.get_tweet(three["id"], expansions=["attachments.media_keys"], media_fields=["public_metrics"], user_auth=False)
assert film_read.includes["media"][0].public_metrics["view_count"] == 0, film_read
ok("a thread with a picture and a video")

# The numbers that only the author sees are not told of old posts, and all of the post with them.
old = "1889999999999999101"
assert x.get_tweet(old, tweet_fields=["public_metrics"], user_auth=False).data.public_metrics["impression_count"] == 6403
missing = x.get_tweet(5, user_auth=False)
assert missing.data is None and missing.errors[0]["title"] == "Not Found Error", missing
ok("numbers")

assert x.delete_tweet(reply.data["id"], user_auth=False).data["deleted"]
refused(tweepy.NotFound, lambda: x.delete_tweet(reply.data["id"], user_auth=False))
ok("delete")

refused(tweepy.Unauthorized, lambda: client("nobody").get_me(user_auth=False))
ok("unknown token refused")

used = 0
while True:
    try:
        x.create_tweet(text=f"many {used}", user_auth=False)
        used += 1
    except tweepy.TooManyRequests as error:
        assert error.response.headers["x-rate-limit-remaining"] == "0", error.response.headers
        assert int(error.response.headers["x-rate-limit-reset"]) > 0
        # The day's posts are counted apart.
        assert int(error.response.headers["x-app-limit-24hour-remaining"]) > 9000, error.response.headers
        break
assert used < 100, used
ok("rate limit")

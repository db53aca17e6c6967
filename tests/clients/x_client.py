"""tweepy against the stand-in of X. Arguments: the stand-in's address."""

import sys
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
        break
assert used < 100, used
ok("rate limit")

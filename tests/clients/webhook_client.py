"""Signs requests as GitHub, Stripe, Slack, Meta and Standard Webhooks document it, with Python's own hmac, and sends them.

Arguments: the daemon's address. Prints one line a request: its name, the status, the answer.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.request

base = sys.argv[1]


def signed(secret, text):
    return hmac.new(secret, text, hashlib.sha256)


def send(name, path, body, headers, method="POST"):
    request = urllib.request.Request(base + path, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    print(name, status, text.strip(), flush=True)


def now():
    return str(int(time.time()))


# GitHub: the raw body; the id of a delivery stands in a header.
body = json.dumps({"action": "opened", "number": 7, "title": "Grüße"}).encode()
github = {
    "Content-Type": "application/json",
    "X-GitHub-Event": "pull_request",
    "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "X-Hub-Signature-256": "sha256=" + signed(b"github-secret", body).hexdigest(),
}
send("github", "/hooks/github", body, github)
send("github-again", "/hooks/github", body, github)
send("github-forged", "/hooks/github", body.replace(b"7", b"8"), github)
send("github-unsigned", "/hooks/github", body, {"Content-Type": "application/json"})
send("github-ping", "/hooks/github", body, github | {"X-GitHub-Event": "ping"})

# Stripe: the time and the body, by the new and the old secret; the id stands in the body.
body = json.dumps({"id": "evt_1", "object": "event", "type": "charge.succeeded"}).encode()


def stripe(stamp, *secrets):
    signatures = ",".join("v1=" + signed(secret, stamp.encode() + b"." + body).hexdigest() for secret in secrets)
    return {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": f"t={stamp},{signatures}"}


send("stripe", "/hooks/stripe", body, stripe(now(), b"whsec_other", b"whsec_stripe"))
send("stripe-again", "/hooks/stripe", body, stripe(now(), b"whsec_stripe"))
send("stripe-old-secret", "/hooks/stripe", body, stripe(now(), b"whsec_stripe_old"))
send("stripe-stale", "/hooks/stripe", body, stripe(str(int(time.time()) - 900), b"whsec_stripe"))

# Slack: the version, the time and the body.


def slack(body, kind):
    stamp = now()
    signature = "v0=" + signed(b"slack-secret", b"v0:" + stamp.encode() + b":" + body).hexdigest()
    return {"Content-Type": kind, "X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature}


body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}).encode()
send("slack-challenge", "/hooks/slack", body, slack(body, "application/json"))
body = json.dumps({"type": "event_callback", "event_id": "Ev08MFMKH6", "event": {"type": "message"}}).encode()
send("slack", "/hooks/slack", body, slack(body, "application/json"))
send("slack-again", "/hooks/slack", body, slack(body, "application/json") | {"X-Slack-Retry-Num": "1"})
body = b"command=%2Fdeploy&text=now+please&trigger_id=13345224609.738474920"
send("slack-command", "/hooks/slack", body, slack(body, "application/x-www-form-urlencoded"))

# Meta asks first, and then signs the raw body by the app's secret.
asked = "?hub.mode=subscribe&hub.verify_token={}&hub.challenge=1158201444"
send("meta-verify", "/hooks/meta" + asked.format("meta-token"), None, {}, "GET")
send("meta-verify-wrong", "/hooks/meta" + asked.format("meta-tokem"), None, {}, "GET")
body = json.dumps({"object": "page", "entry": [{"id": "0", "changes": []}]}).encode()
meta = {
    "Content-Type": "application/json",
    "X-Hub-Signature-256": "sha256=" + signed(b"meta-secret", body).hexdigest(),
}
send("meta", "/hooks/meta", body, meta)
send("meta-again", "/hooks/meta", body, meta)

# Standard Webhooks: the id, the time and the body, in base64; a secret may be text or `whsec_` and base64.
key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
body = json.dumps({"topic": "news", "count": 3}).encode()


def standard(id, stamp, key):
    signature = base64.b64encode(signed(key, id.encode() + b"." + stamp.encode() + b"." + body).digest()).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + signature,
    }


send("standard", "/hooks/shop/orders", body, standard("msg_1", now(), key))
send("standard-again", "/hooks/shop/orders", body, standard("msg_1", now(), key))
body = json.dumps({"topic": "news", "count": "three"}).encode()
send("standard-unfit", "/hooks/shop/orders", body, standard("msg_2", now(), key))
body = b"x" * (1 << 20) + b"x"
send("standard-large", "/hooks/shop/orders", body, standard("msg_3", now(), key))
send("nowhere", "/hooks/nowhere", b"{}", {"Content-Type": "application/json"})
send("get", "/hooks/github", None, {}, "GET")

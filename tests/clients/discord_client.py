"""discord-webhook against the stand-in of Discord. Arguments: the webhook's address at the stand-in."""

import sys

from discord_webhook import DiscordEmbed, DiscordWebhook

url = sys.argv[1]


def ok(what):
    print("ok", what)


embed = DiscordEmbed(title="portfolio-rebalance", description="5 orders", color=3066993)
embed.add_embed_field(name="Cost", value="0.04 USD")
webhook = DiscordWebhook(url=url, content="Run finished", username="Pipewright", wait=True)
webhook.add_embed(embed)
webhook.add_file(file=b"a,b\n1,2\n", filename="report.csv")
answer = webhook.execute()
assert answer.status_code == 200, answer.text
message = answer.json()
assert message["content"] == "Run finished" and message["embeds"][0]["title"] == "portfolio-rebalance", message
ok("send with embed and file")

webhook.content = "Run finished twice"
assert webhook.edit().status_code == 200
assert webhook.delete().status_code == 204
ok("edit and delete")

empty = DiscordWebhook(url=url, content="", wait=True).execute()
assert empty.status_code == 400 and empty.json()["code"] == 50006, empty.text
long = DiscordWebhook(url=url, content="x" * 2001, wait=True).execute()
assert long.status_code == 400 and long.json()["code"] == 50035, long.text
ok("refusals")

# The client waits for as long as a 429 says and tries again.
sent = [DiscordWebhook(url=url, content=f"note {number}", rate_limit_retry=True, wait=True).execute() for number in range(7)]
assert [answer.status_code for answer in sent] == [200] * 7, [answer.text for answer in sent]
ok("rate limit obeyed")

wrong = DiscordWebhook(url=url + "x", content="hello", wait=True).execute()
assert wrong.status_code == 401, wrong.text
ok("wrong token refused")

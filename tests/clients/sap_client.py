"""Talks to the stand-in of `connectors/sap.yaml` by a client that this project did not write.

    python sap_client.py http://127.0.0.1:PORT USER PASSWORD

Prints a line for each thing that holds, and ends with an error at the first that does not.
"""

import datetime
import sys

import pyodata
import requests
from pyodata.exceptions import HttpError


def holds(what, condition, *seen):
    if not condition:
        sys.exit(f"failed: {what}: {seen}")
    print(f"ok {what}", flush=True)


def refused(status, call):
    """Runs what must be refused; returns the answer."""
    try:
        call()
    except HttpError as error:
        if error.response.status_code == status:
            return error.response
        sys.exit(f"failed: {status} was expected: {error.response.status_code} {error.response.content}")
    sys.exit(f"failed: {status} was expected, and it went well")


def entered(root, user, password):
    """Opens a session with its token, as the client's manual says."""
    session = requests.Session()
    session.auth = (user, password)
    session.headers["sap-client"] = "100"
    answer = session.head(root, headers={"x-csrf-token": "Fetch"})
    session.headers["x-csrf-token"] = answer.headers["x-csrf-token"]
    return session


def reads(orders, service):
    found = orders.get_entities().filter("SoldToParty eq '17100001'").order_by("TotalNetAmount desc")
    found = found.expand("to_Item").select("SalesOrder,SoldToParty,TotalNetAmount,LastChangeDateTime,to_Item")
    found = found.count(inline=True).execute()
    amounts = [float(order.TotalNetAmount) for order in found]
    holds("a filter", found and all(order.SoldToParty == "17100001" for order in found))
    holds("an order", amounts == sorted(amounts, reverse=True), amounts)
    holds("a count", found.total_count >= len(found), found.total_count)
    holds("expanded parts", all(order.to_Item for order in found))
    totals = [sum(float(item.NetAmount) for item in order.to_Item) for order in found]
    holds("sums", all(abs(one - other) < 0.001 for one, other in zip(amounts, totals)), amounts, totals)
    holds("moments", all(order.LastChangeDateTime.tzinfo for order in found))

    count = orders.get_entities().count().execute()
    everything, page, pages = [], orders.get_entities().order_by("SalesOrder").execute(), 1
    while True:
        everything += [order.SalesOrder for order in page]
        if page.next_url is None:
            break
        page, pages = orders.get_entities().next_url(page.next_url).execute(), pages + 1
    holds("pages", pages > 1 and len(set(everything)) == len(everything) == count, pages, len(everything), count)

    one = orders.get_entity(SalesOrder="5100000").execute()
    holds("one by its key", one.SalesOrder == "5100000" and one.etag.startswith('W/"datetimeoffset'), one.etag)
    items = one.nav("to_Item").get_entities().execute()
    holds("parts by navigation", [item.SalesOrder for item in items] == ["5100000"] * len(items), items)
    item = service.entity_sets.A_SalesOrderItem.get_entity(SalesOrder="5100000", SalesOrderItem="10").execute()
    holds("one by two keys", item.Material and item.nav("to_SalesOrder").execute().SalesOrder == "5100000")
    since = datetime.datetime(2026, 10, 20, tzinfo=datetime.timezone.utc)
    late = orders.get_entities().filter(LastChangeDateTime__gte=since).execute()
    holds("a filter by time", late and all(order.LastChangeDateTime >= since for order in late))
    refused(404, lambda: orders.get_entity(SalesOrder="1").execute())
    answer = refused(400, lambda: orders.get_entities().filter("Nothing eq 1").execute())
    holds("refusals", "Nothing" in answer.json()["error"]["message"]["value"], answer.content)


def writes(orders, session, root):
    # An order comes with its items, and the service gives the numbers and works out the amounts.
    made = orders.create_entity().set(
        SalesOrderType="OR",
        SoldToParty="17100003",
        PurchaseOrderByCustomer="PY-1",
        RequestedDeliveryDate=datetime.datetime(2026, 12, 24, tzinfo=datetime.timezone.utc),
        to_Item=[
            {"Material": "TG11", "RequestedQuantity": "2"},
            {"Material": "TG12", "RequestedQuantity": "4"},
        ],
    ).execute()
    number = made.SalesOrder
    holds("an order with items", float(made.TotalNetAmount) == 2048.0, made.TotalNetAmount)
    read = orders.get_entity(SalesOrder=number).expand("to_Item").execute()
    holds("what was made", [item.SalesOrderItem for item in read.to_Item] == ["10", "20"], read.to_Item)
    holds("a date", read.RequestedDeliveryDate.date() == datetime.date(2026, 12, 24), read.RequestedDeliveryDate)

    def changed(reference, etag=None, method=None):
        request = orders.update_entity(SalesOrder=number, method=method).set(PurchaseOrderByCustomer=reference)
        if etag is not None:
            request.add_headers({"If-Match": etag})
        return request.execute

    refused(428, changed("PY-2"))
    changed("PY-2", read.etag)()
    refused(412, changed("PY-3", read.etag))
    changed("PY-4", "*", "MERGE")()
    read = orders.get_entity(SalesOrder=number).execute()
    holds("versions", read.PurchaseOrderByCustomer == "PY-4", read.PurchaseOrderByCustomer)

    answer = refused(400, orders.create_entity().set(SoldToParty="999").execute)
    holds("an unknown party", answer.json()["error"]["code"] == "V1/302", answer.content)

    deleted = orders.delete_entity(SalesOrder=number)
    refused(428, deleted.execute)
    deleted.add_headers({"If-Match": "*"})
    deleted.execute()
    refused(404, lambda: orders.get_entity(SalesOrder=number).execute())
    holds("a deletion", True)

    token = session.headers.pop("x-csrf-token")
    answer = refused(403, orders.create_entity().set(SoldToParty="17100003").execute)
    holds("no write without a token", answer.headers["x-csrf-token"] == "Required", answer.headers)
    session.headers["x-csrf-token"] = token
    kept, session.cookies = session.cookies, requests.cookies.RequestsCookieJar()
    refused(403, orders.create_entity().set(SoldToParty="17100003").execute)
    session.cookies = kept
    again = session.get(root, headers={"x-csrf-token": "fetch"})
    holds("token and cookies are one", again.headers["x-csrf-token"] == token, again.headers)


def batches(service, orders):
    before = orders.get_entities().count().execute()

    def order(reference, **more):
        fields = {"SoldToParty": "17100001", "PurchaseOrderByCustomer": reference, **more}
        return orders.create_entity().set(**fields)

    batch = service.create_batch()
    batch.add_request(orders.get_entities().filter("SalesOrder eq '5100000'"))
    together = service.create_changeset()
    together.add_request(order("PY-B1"))
    together.add_request(order("PY-B2", to_Item=[{"Material": "FG126", "RequestedQuantity": "1"}]))
    batch.add_request(together)
    batch.add_request(orders.get_entity(SalesOrder="5100001"))
    [found], made, one = batch.execute()
    holds("reads in a batch", (found.SalesOrder, one.SalesOrder) == ("5100000", "5100001"))
    holds("a set of changes", [it.PurchaseOrderByCustomer for it in made] == ["PY-B1", "PY-B2"], made)

    batch = service.create_batch()
    broken = service.create_changeset()
    broken.add_request(order("PY-B3"))
    broken.add_request(orders.create_entity().set(SoldToParty="999"))
    batch.add_request(broken)
    refused(400, batch.execute)
    after = orders.get_entities().count().execute()
    holds("all or nothing", after == before + 2, before, after)


def functions(service):
    released = service.functions.releaseApprovalRequest.parameter("SalesOrder", "5100031").execute()
    holds("a function", [order.OverallSDProcessStatus for order in released] == ["B"], released)


def main(base, user, password):
    root = f"{base.rstrip('/')}/sap/opu/odata/sap/API_SALES_ORDER_SRV/"
    answer = requests.get(root, auth=(user, password + "x"), timeout=10)
    holds("a wrong password", answer.status_code == 401, answer.status_code)
    session = entered(root, user, password)
    service = pyodata.Client(root, session)
    names = sorted(it.name for it in service.schema.entity_sets)
    holds("the description", names == ["A_SalesOrder", "A_SalesOrderItem"] and service.schema.is_valid, names)
    for other in ("API_BUSINESS_PARTNER", "API_PRODUCT_SRV", "API_BILLING_DOCUMENT_SRV", "API_OUTBOUND_DELIVERY_SRV;v=0002"):
        described = pyodata.Client(f"{base.rstrip('/')}/sap/opu/odata/sap/{other}/", session)
        first = next(iter(described.schema.entity_sets)).name
        rows = getattr(described.entity_sets, first).get_entities().execute()
        holds(f"{other}/{first}", described.schema.is_valid and rows, rows)
    orders = service.entity_sets.A_SalesOrder
    reads(orders, service)
    writes(orders, session, root)
    batches(service, orders)
    functions(service)
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])

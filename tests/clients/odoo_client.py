"""Talks to a server by odoo-client-lib, over every protocol that it has; prints `ok` lines, or fails loudly.

Usage: odoo_client.py HOST PORT DATABASE LOGIN KEY
"""

import sys
import xmlrpc.client

import httpx
import odoolib
from odoolib.tools import AuthenticationError
from odoolib.tools import JsonRPCException


def check(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")


def refused(what, call, kinds, text):
    """Sees that a call is refused with an exception of a kind, which says a text."""
    try:
        answer = call()
    except kinds as error:
        if text not in str(error):
            raise AssertionError(f"{what}: {error!r} does not say {text!r}") from error
        return
    raise AssertionError(f"{what}: not refused, answered {answer!r}")


def ids(answer):
    return answer if isinstance(answer, list) else [answer]


def version(connection, protocol, host, port):
    if protocol == "json2":
        found = httpx.get(f"http://{host}:{port}/web/version").json()
        return found["version"], found["version_info"]
    found = connection.get_service("common").version()
    return found["server_version"], found["server_version_info"]


def read(partners, orders):
    """Reads what is there: a domain, pages, values that are empty, pairs of id and name."""
    domain = [["is_company", "=", True], "|", ["country_id.code", "=", "FR"], ["name", "ilike", "azure"]]
    rows = partners.search_read(domain=domain, fields=["name", "email", "country_id", "child_ids"], order="id")
    check("names", [row["name"] for row in rows], ["Azure Interior", "Librairie du Marais"])
    check("a reference", rows[1]["country_id"], [75, "France"])
    check("lines", rows[0]["child_ids"], [46, 47])
    empty = partners.search_read(domain=[["ref", "=", "C-0042"]], fields=["email", "parent_id", "credit_limit"])
    check("what is empty", empty, [{"id": 42, "email": False, "parent_id": False, "credit_limit": 0.0}])
    total = partners.search_count(domain=[])
    pages, last = [], 0
    while True:
        page = partners.search_read(domain=[["id", ">", last]], fields=["name"], order="id asc", limit=25)
        pages += [row["id"] for row in page]
        if len(page) < 25:
            break
        last = page[-1]["id"]
    check("rows of all pages", len(pages), total)
    check("rows that come twice", len(set(pages)), total)
    skipped = partners.search_read(domain=[], fields=["name"], order="id asc", offset=25, limit=25)
    check("the second page", [row["id"] for row in skipped], pages[25:50])
    order = orders.search_read(domain=[["id", "=", 5017]], fields=["name", "amount_total", "date_order"])
    check("an order", order, [{"id": 5017, "name": "S05017", "amount_total": 2377.62, "date_order": "2026-11-02 09:15:30"}])


def write(partners, orders, protocol):
    """Creates rows with lines, changes and deletes them."""
    mark = f"CLIENT-{protocol}"
    [made] = ids(partners.create([{"name": "Fabrikam", "ref": mark, "country_id": 57}]))
    check("a row by its number", partners.search(domain=[["ref", "=", mark]]), [made])
    check("writing", partners.write([made], {"phone": "+49 40 1", "country_id": False}), True)
    row = partners.read(made, ["name", "phone", "country_id"])
    check("what was written", row, {"id": made, "name": "Fabrikam", "phone": "+49 40 1", "country_id": False})
    line = [0, 0, {"product_id": 33, "product_uom_qty": 2, "price_unit": 999.0}]
    [order] = ids(orders.create([{"partner_id": made, "client_order_ref": mark, "order_line": [line]}]))
    row = orders.read(order, ["state", "amount_total", "order_line", "partner_id"])
    check("the total", (row["state"], row["amount_total"], row["partner_id"]), ("draft", 2377.62, [made, "Fabrikam"]))
    orders.write([order], {"order_line": [[1, row["order_line"][0], {"product_uom_qty": 1}]]})
    check("a line", orders.read(order, ["amount_total"])["amount_total"], 1188.81)
    check("confirming", orders.action_confirm([order]), True)
    check("the state", orders.read(order, ["state"])["state"], "sale")
    check("canceling", orders.action_cancel([order]), True)
    check("deleting an order", orders.unlink([order]), True)
    check("deleting", partners.unlink([made]), True)
    check("what is left", partners.search_count(domain=[["ref", "=", mark]]), 0)


def load(partners, protocol):
    """Loads the same rows twice, by external ids."""
    fields, rows = ["id", "name", "country_id/id"], [[f"client.{protocol}", "Loaded", "base.de"]]
    first = partners.load(fields=fields, data=rows)
    check("messages", first["messages"], [])
    check("a second time", partners.load(fields=fields, data=rows)["ids"], first["ids"])
    wrong = partners.load(fields=["name", "country_id"], data=[["x", "Atlantis"]])
    check("what cannot be loaded", (wrong["ids"], wrong["messages"][0]["type"]), (False, "error"))
    check("deleting", partners.unlink(first["ids"]), True)


FAULTS = {"xmlrpc": xmlrpc.client.Fault, "jsonrpc": JsonRPCException, "json2": ValueError}


def faults(connection, partners, orders, protocol):
    fault = FAULTS[protocol]
    unknown = "Invalid field 'nope' on model 'res.partner'"
    refused("reading an unknown field", lambda: partners.read([41], ["nope"]), fault, unknown)
    refused("writing an unknown field", lambda: partners.write([41], {"nope": 1}), fault, unknown)
    refused("an unknown field of a domain", lambda: partners.search(domain=[["nope", "=", 1]]), fault, "res.partner.nope")
    refused("an unknown model", lambda: connection.get_model("no.model").search_count(domain=[]), fault, "no.model")
    refused("an unknown method", lambda: partners.nope(ids=[41]), fault, "res.partner.nope")
    refused("a row that is gone", lambda: partners.unlink([99999]), fault, "does not exist or has been deleted")
    refused("a rule", lambda: orders.action_confirm([5017]), fault, "not in a state requiring confirmation")
    refused("what must be given", lambda: orders.create([{"client_order_ref": "x"}]), fault, "a mandatory field is not set")


def logins(protocol, host, port, database, login):
    def connect(key):
        return odoolib.get_connection(
            hostname=host, protocol=protocol, port=port, database=database, login=login, password=key
        )

    refused("a wrong key", lambda: connect("wrong").get_model("res.partner").search(domain=[]), AuthenticationError, "")
    if protocol == "json2":
        check("a wrong key", connect("wrong").check_login(), False)


def main(host, port, database, login, key):
    for protocol in ["xmlrpc", "jsonrpc", "json2"]:
        connection = odoolib.get_connection(
            hostname=host, protocol=protocol, port=int(port), database=database, login=login, password=key
        )
        check("the version", version(connection, protocol, host, port)[1][0], 19)
        context = connection.get_user_context()
        check("who we are", sorted(context), ["lang", "tz", "uid"])
        print(f"ok {protocol} version and login")
        partners, orders = connection.get_model("res.partner"), connection.get_model("sale.order")
        read(partners, orders)
        print(f"ok {protocol} read")
        write(partners, orders, protocol)
        print(f"ok {protocol} write")
        load(partners, protocol)
        print(f"ok {protocol} load")
        faults(connection, partners, orders, protocol)
        print(f"ok {protocol} faults")
        logins(protocol, host, int(port), database, login)
        print(f"ok {protocol} refused login")


if __name__ == "__main__":
    main(*sys.argv[1:])

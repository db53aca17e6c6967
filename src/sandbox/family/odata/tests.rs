//! A small shop, driven by requests as they come from the wire.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::connector::codec::odata_batch;
use crate::connector::library::BUILT_IN;
use crate::sandbox::family;
use crate::yaml;

const SHOP: &str = r#"
family: odata
config: { ignored: true }
v2: { root: /v2, page: 3, codes: { service: NO_SERVICE, entity: NO_ENTITY } }
v4: { root: /v4, page: 3 }
csrf: { header: x-csrf-token, cookies: { sid: null, context: "client=100" }, lifetime: 30m, writes: 50 }
message_header: x-message
error_namespace: /SHOP/
services:
  SHOP:
    version: 2
    component: SD
    sets:
      Orders:
        table: orders
        key: [ Order ]
        number: { first: 100 }
        etag: ChangedAt
        properties: { Order: String(10), Buyer: String(10), Reference: String(8), Total: "Decimal(16,3)", On: Date, ChangedAt: DateTimeOffset, Paid: Boolean }
        navigations: { to_Item: { set: Items, on: { Order: Order }, many: true } }
        required: [ Buyer ]
        created: [ On ]
        changed: [ ChangedAt ]
        sums: { Total: to_Item/Amount }
        refers: { Buyer: { to: SHOP/Buyers, code: V1/302, message: "Buyer {value} does not exist" } }
      Items:
        table: items
        key: [ Order, Item ]
        number: { first: 10, step: 10 }
        properties: { Order: String(10), Item: String(6), Product: String(40), Quantity: "Decimal(15,3)", Amount: "Decimal(16,3)", Count: Int32, Big: Int64, At: Time, Id: Guid, Moment: DateTime }
        navigations: { to_Order: { set: Orders, on: { Order: Order } } }
        defaults: { Quantity: 1 }
        price: { amount: Amount, quantity: Quantity, by: Product, list: { TG11: 9.99 } }
      Buyers: { key: [ Buyer ], properties: { Buyer: String(10), Name: String(40) }, read_only: true }
    functions:
      release: { method: POST, set: Orders, parameters: { Order: String(10) }, change: { Paid: true }, returns: many }
      total: { method: GET, set: Orders, parameters: { Order: String(10) }, returns: Total }
      first: { method: GET, set: Orders, parameters: { Order: String(10) }, returns: one }
      forget: { method: POST, set: Orders, parameters: { Order: String(10) }, change: { Reference: "" }, returns: nothing }
  "SHOP;v=0002": { version: 2, sets: { Old: { key: [ Id ], properties: { Id: Int32, At: Time } } } }
  shop/api/0001:
    version: 4
    namespace: com.shop.v0001
    sets:
      Order:
        table: orders
        key: [ Order ]
        number: { first: 100 }
        etag: ChangedAt
        properties: { Order: String(10), Buyer: String(10), Reference: String(8), Total: "Decimal(16,3)", On: Date, ChangedAt: DateTimeOffset, Paid: Boolean }
        navigations: { _Item: { set: Item, on: { Order: Order }, many: true } }
        created: [ On ]
        changed: [ ChangedAt ]
        sums: { Total: _Item/Amount }
      Item:
        table: items
        key: [ Order, Item ]
        number: { first: 10, step: 10 }
        properties: { Order: String(10), Item: String(6), Name: String(40) of Product, Quantity: "Decimal(15,3)", Amount: "Decimal(16,3)", Count: Int32, Big: Int64, At: Time, Id: Guid }
        navigations: { _Order: { set: Order, on: { Order: Order } } }
        price: { amount: Amount, quantity: Quantity, by: Name, list: { TG11: 9.99 } }
    functions:
      Total: { method: GET, set: Order, bound: true, returns: Total }
      Release: { method: POST, set: Order, bound: true, change: { Paid: true }, returns: one }
      Find: { method: GET, set: Order, parameters: { Buyer: String(10), On: Date }, returns: many }
      Pay: { method: POST, set: Order, parameters: { Order: String(10) }, change: { Paid: true }, returns: nothing }
scenes:
  - { set: SHOP/Orders, methods: [ PATCH ], when: "Reference eq 'LOCK'", times: 1, status: 423, code: V1/042, message: "locked by user ANNA" }
  - { set: SHOP/Orders, methods: [ POST ], when: "Reference eq 'WARN'", status: 200, code: V1/1, message: "take care", severity: warning }
  - { set: SHOP/Orders, methods: [ GET ], when: "Reference eq 'DOWN'", status: 503, message: "maintenance", html: true }
rows:
  Buyers: [ { Buyer: A, Name: Anna }, { Buyer: "O'B", Name: O'Brien } ]
  orders:
    - { Order: "1", Buyer: A, Reference: W-1, Total: 10.50, On: 2026-11-01, ChangedAt: "2026-11-02T09:15:30.123456Z" }
    - { Order: "2", Buyer: "O'B", Reference: W-2, Total: 2.00, On: 2026-11-02, ChangedAt: "2026-11-02T09:15:30Z", Paid: true }
    - { Order: "3", Buyer: A, Reference: x3, Total: 100.00, On: 2026-11-03, ChangedAt: "2026-11-02T09:15:30Z" }
    - { Order: "4", Buyer: A, Reference: DOWN, Total: 0.00, ChangedAt: "2026-11-05T00:00:00Z" }
    - { Order: "5", Buyer: "O'B", Reference: LOCK, Total: 7.00, On: 2026-11-05, ChangedAt: "2026-11-05T00:00:00Z" }
  items:
    - { Order: "1", Item: "10", Product: TG11, Quantity: 1, Amount: 10.00, Count: 5, Big: 5000000000, At: "09:15:30", Id: 42010AEF-4c91-1eda-b5f8-000000000001, Moment: "2026-11-01T00:00:00" }
    - { Order: "1", Item: "20", Product: "A/B C", Quantity: 0.5, Amount: 0.50 }
    - { Order: "3", Item: "10", Product: TG12, Amount: 100.00 }
"#;

/// A client that keeps its token and cookies.
struct Client {
    family: Box<dyn Family>,
    moment: Moment,
    session: Vec<(String, String)>,
}

fn settings(text: &str) -> Value {
    let (tree, diagnostics) = yaml::parse(&Arc::from("shop.yaml"), text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    tree.unwrap().to_value()
}

fn shop() -> Client {
    let now = "2026-11-10T12:00:00Z".parse().unwrap();
    let moment = Moment { now, random: fastrand::Rng::with_seed(7) };
    let mut client = Client { family: family::make("odata", &settings(SHOP)).unwrap(), moment, session: Vec::new() };
    client.log_in();
    client
}

impl Client {
    fn log_in(&mut self) {
        let reply = self.send(&Received::new("HEAD", "/v2/SHOP/").with_header("x-csrf-token", "Fetch"));
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        let cookies: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
        let cookies: Vec<_> = cookies.iter().map(|(_, value)| value.split(';').next().unwrap()).collect();
        let token = reply.header("x-csrf-token").unwrap().to_owned();
        self.session = vec![("x-csrf-token".to_owned(), token), ("cookie".to_owned(), cookies.join("; "))];
    }

    fn send(&mut self, request: &Received) -> Reply {
        self.family.answer(request, &mut self.moment).unwrap()
    }

    fn get(&mut self, target: &str) -> Reply {
        self.send(&Received::new("GET", target))
    }

    /// Sends a write with token, cookies and `If-Match: *`.
    fn write(&mut self, method: &str, target: &str, json: &str) -> Reply {
        self.write_with(method, target, json, &[("if-match", "*")])
    }

    fn write_with(&mut self, method: &str, target: &str, json: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Received::new(method, target);
        request.headers.extend(self.session.clone());
        for (name, value) in headers {
            request = request.with_header(name, value);
        }
        if !json.is_empty() {
            request = request.with_json(&parse_json(json).unwrap());
        }
        self.send(&request)
    }

    /// Returns one property of all that a query finds, joined.
    fn all(&mut self, target: &str, property: &str) -> String {
        let reply = self.get(target);
        let body = json(&reply);
        let rows = body.get("d").map_or(body.get("value"), |d| d.get("results"));
        let Some(rows) = rows.and_then(Value::as_list) else { panic!("{target}: {}", text(&reply)) };
        rows.iter().map(|row| row.get(property).unwrap().to_text()).collect::<Vec<_>>().join(" ")
    }
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

fn json(reply: &Reply) -> Value {
    parse_json(&text(reply)).unwrap_or_else(|error| panic!("{error}: {}", text(reply)))
}

/// Returns what stands at a path of keys.
fn at(value: &Value, path: &str) -> Value {
    let step = |value: Value, key: &str| match key.parse::<usize>() {
        Ok(index) => value.as_list().unwrap_or_else(|| panic!("{value}"))[index].clone(),
        Err(_) => value.get(key).cloned().unwrap_or_else(|| panic!("no `{key}` in {value}")),
    };
    path.split('.').fold(value.clone(), step)
}

#[test]
fn filters_and_orders_find_what_they_say() {
    let mut shop = shop();
    for (query, expected) in [
        ("$top=9&$filter=Buyer eq 'A'", "1 3 4"),
        ("$filter=Buyer eq 'O''B'", "2 5"),
        ("$filter=Buyer ne 'A' and Paid eq true", "2"),
        ("$filter=not (Buyer eq 'A') and not Paid", "5"),
        ("$filter=Total gt 7.00M or Total eq 0", "1 3 4"),
        ("$filter=Total ge 7 and Total lt 10.5d", "5"),
        ("$filter=(Buyer eq 'A' or Buyer eq 'O''B') and (Total le 2)", "2 4"),
        ("$filter=Buyer eq 'A' or Buyer eq 'x' and Total gt 1000", "1 3 4"),
        ("$filter=substringof('-',Reference)", "1 2"),
        ("$filter=substringof('w',tolower(Reference)) eq true", "1 2 4"),
        ("$filter=startswith(Reference,'W') and endswith(Reference,'2')", "2"),
        ("$filter=length(Reference) eq 2", "3"),
        ("$filter=indexof(Reference,'-') eq 1", "1 2"),
        ("$filter=substring(Reference,2) eq '1' or substring(Reference,0,1) eq 'x'", "1 3"),
        ("$filter=concat(trim(Buyer),toupper('-x')) eq 'A-X' and year(On) eq 2026", "1 3"),
        ("$filter=On ge datetime'2026-11-02T00:00:00' and day(On) lt 5", "2 3"),
        ("$filter=On eq null", "4"),
        ("$filter=On ne null and ChangedAt gt datetimeoffset'2026-11-02T09:15:30Z'", "1 5"),
        ("$filter=ChangedAt eq datetimeoffset'2026-11-02T10:15:30.1234567%2B01:00'", "1"),
        ("$filter=Total mul 2 sub 1 eq 20 add 0", "1"),
        ("$filter=Total mod 10 eq 0.5 and Total div 2 gt 5", "1"),
        ("$orderby=Total desc", "3 1 5"),
        ("$orderby=Buyer,Total desc&$skip=1", "1 4 5"),
        ("$orderby=On&$top=2", "4 1"),
        ("$orderby=Buyer desc,Order asc&$top=2&$skip=1", "5 1"),
    ] {
        assert_eq!(shop.all(&format!("/v2/SHOP/Orders?{}", query.replace(' ', "%20")), "Order"), expected, "{query}");
    }
    for (query, expected) in [
        ("$filter=contains(Reference,'-') and ChangedAt ge 2026-11-02T09:15:30Z", "1 2"),
        ("$filter=On gt 2026-11-01 and On le 2026-11-03", "2 3"),
        ("$filter=Order in ('1','3','9')", "1 3"),
        ("$filter=Total gt 10.25", "1 3"),
        ("$orderby=length(Reference) desc,Order desc&$top=2", "5 4"),
    ] {
        let target = format!("/v4/shop/api/0001/Order?{}", query.replace(' ', "%20"));
        assert_eq!(shop.all(&target, "Order"), expected, "{query}");
    }
    for (query, expected) in [
        ("$filter=Id eq guid'42010AEF-4C91-1eda-b5f8-000000000001'", "10"),
        ("$filter=At ge time'PT09H15M30S' and Big gt 4999999999L and Count lt 6", "10"),
        ("$filter=Moment eq datetime'2026-11-01T00:00'", "10"),
    ] {
        assert_eq!(shop.all(&format!("/v2/SHOP/Items?{}", query.replace(' ', "%20")), "Item"), expected, "{query}");
    }
    let target =
        "/v4/shop/api/0001/Item?$filter=Id%20eq%2042010aef-4c91-1eda-b5f8-000000000001%20and%20At%20eq%2009:15:30";
    assert_eq!(shop.all(target, "Item"), "10");
}

#[test]
fn a_wrong_query_is_refused_and_says_why() {
    let mut shop = shop();
    for (target, status, said) in [
        ("/v2/SHOP/Orders?$filter=Nothing%20eq%201", 400, "property `Nothing` is not found"),
        ("/v2/SHOP/Orders?$filter=Buyer%20eq%201", 400, "do not fit"),
        ("/v2/SHOP/Orders?$filter=ChangedAt%20gt%20datetime'2026-11-01T00:00:00'", 400, "do not fit"),
        ("/v2/SHOP/Orders?$filter=ChangedAt%20gt%202026-11-01T00:00:00Z", 400, "is not found"),
        ("/v2/SHOP/Orders?$filter=contains(Buyer,'A')", 400, "function `contains` is not known"),
        ("/v2/SHOP/Orders?$filter=Buyer%20eq%20'A", 400, "no closing quote"),
        ("/v2/SHOP/Orders?$filter=(Buyer%20eq%20'A'", 400, "not closed"),
        ("/v2/SHOP/Orders?$filter=Buyer", 400, "no condition"),
        ("/v2/SHOP/Orders?$filter=Buyer%20eq%20'A'%20Total", 400, "is not expected"),
        ("/v2/SHOP/Orders?$filter=", 400, "too early"),
        ("/v2/SHOP/Orders?$filter=datetime'x'%20eq%20On", 400, "malformed"),
        ("/v2/SHOP/Orders?$select=Nothing", 400, "Property 'Nothing' is not found"),
        ("/v2/SHOP/Orders?$expand=Buyer", 400, "Navigation property 'Buyer' is not found"),
        ("/v2/SHOP/Orders?$top=-1", 400, "'$top' has the wrong value"),
        ("/v2/SHOP/Orders?$count=true", 400, "'$count' is not allowed"),
        ("/v2/SHOP/Orders('1')?$filter=Paid", 400, "'$filter' is not allowed"),
        ("/v2/SHOP/Orders?$format=atom", 501, "Format 'atom'"),
        ("/v2/SHOP/Orders(1)", 400, "Malformed value of key 'Order'"),
        ("/v2/SHOP/Orders(Buyer='1')", 400, "not in the key"),
        ("/v2/SHOP/Items('1')", 400, "needs the names"),
        ("/v2/SHOP/Items(Order='1')", 400, "not complete"),
        ("/v2/SHOP/Orders('9')", 404, "segment 'OrdersType'"),
        ("/v2/SHOP/Orders('1')/Nothing", 404, "segment 'Nothing'"),
        ("/v2/SHOP/Nothing", 404, "segment 'Nothing'"),
        ("/v2/NONE/Orders", 404, "No service found for 'NONE/Orders'"),
        ("/v4/shop/api/0001/Order?$search=x", 501, "'$search' is not supported"),
        ("/v4/shop/api/0001/Order?$filter=substringof('A',Buyer)", 400, "function `substringof`"),
        ("/v4/shop/api/0001/Order?$filter=On%20gt%20datetime'2026-11-01T00:00:00'", 400, "no literal datetime"),
        ("/v4/shop/api/0001/Order?$expand=_Item($filter=Nothing%20eq%201)", 400, "`Nothing` is not found"),
    ] {
        let reply = shop.get(target);
        assert_eq!(reply.status, status, "{target}: {}", text(&reply));
        let message = at(&json(&reply), "error.message");
        let message = message.get("value").unwrap_or(&message).to_text();
        assert!(message.contains(said), "{target}: {message}");
    }
    let deep = format!("/v2/SHOP/Orders?$filter={}Paid{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(shop.get(&deep).status, 400);
    assert_eq!(shop.family.answer(&Received::new("GET", "/other"), &mut shop.moment), None);
    assert_eq!(shop.family.answer(&Received::new("GET", "/v2x"), &mut shop.moment), None);
}

#[test]
fn an_entity_of_v2_looks_as_services_write_it() {
    let mut shop = shop();
    let reply = shop.get("/v2/SHOP/Orders('1')?client=100");
    assert_eq!(reply.header("dataserviceversion"), Some("2.0"));
    let etag = r#"W/"datetimeoffset'2026-11-02T09%3A15%3A30.1234560Z'""#;
    assert_eq!(reply.header("etag"), Some(etag));
    let expected = r#"{"d":{"__metadata":{"id":"http://sandbox/v2/SHOP/Orders('1')","uri":"http://sandbox/v2/SHOP/Orders('1')","type":"SHOP.OrdersType","etag":"W/\"datetimeoffset'2026-11-02T09%3A15%3A30.1234560Z'\""},"Order":"1","Buyer":"A","Reference":"W-1","Total":"10.50","On":"\/Date(1793491200000)\/","ChangedAt":"\/Date(1793610930123+0000)\/","Paid":false,"to_Item":{"__deferred":{"uri":"http://sandbox/v2/SHOP/Orders('1')/to_Item"}}}}"#;
    assert_eq!(text(&reply), expected);
    let item = json(&shop.get("/v2/SHOP/Items(Order='1',Item='10')?$select=Count,Big,At,Id,Moment,Quantity"));
    let expected = r#"{"Count":5,"Big":"5000000000","At":"PT09H15M30S","Id":"42010aef-4c91-1eda-b5f8-000000000001","Moment":"/Date(1793491200000)/","Quantity":"1"}"#;
    let mut plain = at(&item, "d").as_map().unwrap().clone();
    assert_eq!(plain.shift_remove("__metadata").unwrap().get("etag"), None);
    plain.sort_by(|one, _, other, _| expected.find(&**one).cmp(&expected.find(&**other)));
    assert_eq!(Value::from(plain).to_string(), expected);
    assert_eq!(text(&shop.get("/v2/SHOP/Orders('1')/Total")), r#"{"d":{"Total":"10.50"}}"#);
    assert_eq!(text(&shop.get("/v2/SHOP/Orders('1')/Total/$value")), "10.50");
    assert_eq!(text(&shop.get("/v2/SHOP/")), r#"{"d":{"EntitySets":["Orders","Items","Buyers"]}}"#);
    assert_eq!(text(&shop.get("/v2/SHOP;v=0002/")), r#"{"d":{"EntitySets":["Old"]}}"#);
    let unchanged = Received::new("GET", "/v2/SHOP/Orders('1')").with_header("if-none-match", etag);
    assert_eq!(shop.send(&unchanged).status, 304);
}

#[test]
fn an_entity_of_v4_looks_as_services_write_it() {
    let mut shop = shop();
    let reply = shop.get("/v4/shop/api/0001/Order('1')");
    let expected = r#"{"@odata.context":"$metadata#Order/$entity","@odata.etag":"W/\"20261102T091530.1234560Z\"","Order":"1","Buyer":"A","Reference":"W-1","Total":10.50,"On":"2026-11-01","ChangedAt":"2026-11-02T09:15:30.1234560Z","Paid":false}"#;
    assert_eq!(text(&reply), expected);
    assert_eq!(reply.header("odata-version"), Some("4.0"));
    let exact = Received::new("GET", "/v4/shop/api/0001/Item(Order='1',Item='10')");
    let exact = exact.with_header("accept", "application/json;IEEE754Compatible=true");
    let expected = r#"{"@odata.context":"$metadata#Item/$entity","Order":"1","Item":"10","Name":"TG11","Quantity":"1","Amount":"10.00","Count":5,"Big":"5000000000","At":"09:15:30","Id":"42010aef-4c91-1eda-b5f8-000000000001"}"#;
    assert_eq!(text(&shop.send(&exact)), expected);
    let nested = "/v4/shop/api/0001/Order?$count=true&$top=1&$select=Order&$expand=_Item($select=Item;$filter=contains(Name,';');$count=true),_Item";
    let expected = r#"{"@odata.context":"$metadata#Order","@odata.count":5,"value":[{"@odata.etag":"W/\"20261102T091530.1234560Z\"","Order":"1","_Item@odata.count":0,"_Item":[]}]}"#;
    assert_eq!(text(&shop.get(nested)), expected);
    let part = "/v4/shop/api/0001/Order('1')/_Item?$expand=_Order($select=Buyer)&$select=Item&$orderby=Item desc";
    assert_eq!(shop.all(&part.replace(' ', "%20"), "Item"), "20 10");
    assert_eq!(
        text(&shop.get("/v4/shop/api/0001/Order('1')/Total")),
        r#"{"@odata.context":"$metadata#Edm.Decimal","value":10.50}"#
    );
    assert_eq!(shop.get("/v4/shop/api/0001/Order('4')/On").status, 204);
    assert_eq!(at(&json(&shop.get("/v4/shop/api/0001/")), "value.1.url"), Value::from("Item"));
}

#[test]
fn parts_are_expanded_selected_and_reached() {
    let mut shop = shop();
    let target = "/v2/SHOP/Orders?$top=1&$select=Order,to_Item/Item,to_Item/to_Order&$expand=to_Item/to_Order";
    let row = at(&json(&shop.get(target)), "d.results.0");
    assert_eq!(at(&row, "to_Item.results.0.to_Order.Buyer"), Value::from("A"));
    assert_eq!(at(&row, "to_Item.results.1.Item"), Value::from("20"));
    assert_eq!(at(&row, "to_Item.results.1").get("Product"), None);
    assert_eq!(row.get("Buyer"), None);
    // What is not selected is not shown, though expanded.
    let row = at(&json(&shop.get("/v2/SHOP/Orders?$top=1&$select=Order&$expand=to_Item")), "d.results.0");
    assert_eq!(row.get("to_Item"), None);
    assert_eq!(shop.all("/v2/SHOP/Orders('1')/to_Item?$filter=Product%20eq%20'A/B%20C'", "Item"), "20");
    let item = json(&shop.get("/v2/SHOP/Orders('1')/to_Item(Order='1',Item='20')/to_Order"));
    assert_eq!(at(&item, "d.Order"), Value::from("1"));
    assert_eq!(shop.get("/v2/SHOP/Orders('1')/to_Item(Order='3',Item='10')").status, 404);
    assert_eq!(text(&shop.get("/v2/SHOP/Orders('1')/to_Item/$count")), "2");
    assert_eq!(text(&shop.get("/v2/SHOP/Orders/$count?$filter=Buyer%20eq%20'A'")), "3");
    assert_eq!(at(&json(&shop.get("/v2/SHOP/Buyers('O%27%27B')")), "d.Name"), Value::from("O'Brien"));
}

#[test]
fn pages_are_cut_by_the_service_and_followed_to_the_end() {
    let mut shop = shop();
    let first = json(&shop.get("/v2/SHOP/Orders?$inlinecount=allpages&$orderby=Order%20desc&$top=5&client=100"));
    assert_eq!(at(&first, "d.__count"), Value::from("5"));
    let next = at(&first, "d.__next").to_text();
    assert_eq!(
        next,
        "http://sandbox/v2/SHOP/Orders?$inlinecount=allpages&$orderby=Order%20desc&$top=5&client=100&$skiptoken=3"
    );
    let second = shop.get(next.strip_prefix("http://sandbox").unwrap());
    assert_eq!(at(&json(&second), "d.results.1.Order"), Value::from("1"));
    assert_eq!(at(&json(&second), "d").get("__next"), None);
    // Pages by offset shift when a row comes before them.
    shop.write("DELETE", "/v2/SHOP/Orders('5')", "");
    assert_eq!(shop.all(next.strip_prefix("http://sandbox").unwrap(), "Order"), "1");

    let wish = Received::new("GET", "/v4/shop/api/0001/Order?$skip=1").with_header("prefer", "odata.maxpagesize=2");
    let reply = shop.send(&wish);
    assert_eq!(reply.header("preference-applied"), Some("odata.maxpagesize=2"));
    assert_eq!(json(&reply).get("@odata.nextLink"), Some(&Value::from("Order?$skip=1&$skiptoken=2")));
    assert_eq!(shop.all("/v4/shop/api/0001/Order?$skip=1&$skiptoken=2", "Order"), "4");
}

#[test]
fn a_write_needs_a_token_and_its_cookies() {
    let mut shop = shop();
    let order = r#"{"Buyer":"A"}"#;
    let session = shop.session.clone();
    let refused = |shop: &mut Client, session: &[(String, String)], what: &str| {
        shop.session = session.to_vec();
        let reply = shop.write("POST", "/v2/SHOP/Orders", order);
        assert_eq!((reply.status, reply.header("x-csrf-token")), (403, Some("Required")), "{what}");
    };
    refused(&mut shop, &[], "nothing");
    refused(&mut shop, &session[..1], "no cookies");
    refused(&mut shop, &session[1..], "no token");
    let half = session[1].1.split("; ").next().unwrap().to_owned();
    refused(&mut shop, &[session[0].clone(), ("cookie".to_owned(), half)], "one cookie of two");
    shop.log_in();
    let other = shop.session.clone();
    refused(&mut shop, &[session[0].clone(), other[1].clone()], "the token of another session");
    shop.session = session.clone();
    assert_eq!(shop.write("POST", "/v2/SHOP/Orders", order).status, 201);
    // Who shows a session has its token again.
    let again =
        Received::new("GET", "/v2/NONE").with_header("x-csrf-token", "fetch").with_header("cookie", &session[1].1);
    let reply = shop.send(&again);
    assert_eq!((reply.status, reply.header("x-csrf-token")), (404, Some(session[0].1.as_str())));
    assert_eq!(reply.header("set-cookie"), None);

    shop.moment.now = shop.moment.now.plus("29m".parse().unwrap());
    assert_eq!(shop.write("POST", "/v2/SHOP/Orders", order).status, 201);
    shop.moment.now = shop.moment.now.plus("30m".parse().unwrap());
    refused(&mut shop, &session, "too late");
    shop.log_in();
    for _ in 0..50 {
        assert_eq!(shop.write("POST", "/v2/SHOP/Orders", order).status, 201);
    }
    let session = shop.session.clone();
    refused(&mut shop, &session, "written too often");
}

#[test]
fn an_entity_is_created_with_its_parts() {
    let mut shop = shop();
    let order = r#"{"Buyer":"A","On":"/Date(1793491200000)/","to_Item":[{"Product":"TG11","Quantity":"2.5"},{"Product":"x","Amount":"1"}]}"#;
    let reply = shop.write("POST", "/v2/SHOP/Orders", order);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), Some("http://sandbox/v2/SHOP/Orders('100')"));
    assert_eq!(reply.header("etag"), Some(r#"W/"datetimeoffset'2026-11-10T12%3A00%3A00Z'""#));
    let made = json(&reply);
    assert_eq!(at(&made, "d.Order"), Value::from("100"));
    assert_eq!(at(&made, "d.Total"), Value::from("25.98"));
    assert_eq!(at(&made, "d.On"), Value::from("/Date(1794268800000)/"));
    assert_eq!(at(&made, "d.to_Item.results.1.Item"), Value::from("20"));
    let item = r#"{"Product":"TG11"}"#;
    let reply = shop.write("POST", "/v2/SHOP/Orders('100')/to_Item", item);
    assert_eq!(reply.header("location"), Some("http://sandbox/v2/SHOP/Items(Order='100',Item='30')"));
    assert_eq!(text(&shop.get("/v2/SHOP/Orders('100')/Total/$value")), "35.97");
    // A number is not given twice.
    assert_eq!(shop.write("DELETE", "/v2/SHOP/Orders('100')", "").status, 204);
    assert_eq!(text(&shop.get("/v2/SHOP/Items/$count")), "3");
    assert_eq!(at(&json(&shop.write("POST", "/v2/SHOP/Orders", r#"{"Buyer":"A"}"#)), "d.Order"), Value::from("101"));

    let order = r#"{"Buyer":"A","Total":0,"_Item":[{"Name":"TG11","Quantity":2}]}"#;
    let made = json(&shop.write("POST", "/v4/shop/api/0001/Order", order));
    assert_eq!((at(&made, "Order"), at(&made, "Total").to_text()), (Value::from("102"), "19.98".to_owned()));
    assert_eq!(at(&made, "_Item.0.Name"), Value::from("TG11"));
    assert_eq!(at(&json(&shop.get("/v2/SHOP/Items(Order='102',Item='10')")), "d.Product"), Value::from("TG11"));
}

#[test]
fn what_does_not_fit_is_not_created() {
    let mut shop = shop();
    let before = shop.family.state();
    for (target, body, status, said) in [
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Nothing":1}"#, 400, "'Nothing' is invalid"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Total":1.5}"#, 400, "a decimal is a text"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Total":"1.2345"}"#, 400, "more than 3 decimals"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Total":"12345678901234"}"#, 400, "more than 16 digits"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Reference":"123456789"}"#, 400, "longer than 8"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","On":"2026-11-01"}"#, 400, "it is no Edm.DateTime"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Paid":"true"}"#, 400, "it is no Edm.Boolean"),
        ("/v2/SHOP/Orders", r#"{"Buyer":5}"#, 400, "it is no Edm.String"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","to_Item":5}"#, 400, "is no list"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","to_Item":[{"Product":"a"},{"Count":2147483648}]}"#, 400, "no Edm.Int32"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"A","Order":"1"}"#, 400, "already exists"),
        ("/v2/SHOP/Orders", r#"{"Reference":"x"}"#, 400, "Enter a value for 'Buyer'"),
        ("/v2/SHOP/Orders", r#"{"Buyer":"999"}"#, 400, "Buyer 999 does not exist"),
        ("/v2/SHOP/Orders", "[]", 400, "no entity"),
        ("/v2/SHOP/Buyers", r#"{"Buyer":"C"}"#, 405, "not allowed"),
        ("/v2/SHOP/Orders('1')", r#"{"Buyer":"A"}"#, 405, "not allowed"),
        ("/v2/SHOP/Nothing", "{}", 404, "segment 'Nothing'"),
        ("/v4/shop/api/0001/Order", r#"{"Total":"1.5"}"#, 400, "a decimal is a number"),
        ("/v4/shop/api/0001/Order", r#"{"On":"/Date(0)/"}"#, 400, "it is no Edm.Date"),
    ] {
        let reply = shop.write("POST", target, body);
        assert_eq!(reply.status, status, "{body}: {}", text(&reply));
        assert!(text(&reply).contains(said), "{body}: {}", text(&reply));
    }
    assert_eq!(shop.family.state(), before);
    let error = json(&shop.write("POST", "/v2/SHOP/Orders", r#"{"Buyer":"999"}"#));
    assert_eq!(at(&error, "error.code"), Value::from("V1/302"));
    assert_eq!(at(&error, "error.message.lang"), Value::from("en"));
    assert_eq!(at(&error, "error.innererror.application.service_id"), Value::from("SHOP"));
    assert_eq!(at(&error, "error.innererror.timestamp"), Value::from("20261110120000.0000000"));
    assert_eq!(at(&error, "error.innererror.errordetails.0.target"), Value::from("Buyer"));
    let missing = json(&shop.get("/v4/shop/api/0001/Order('9')"));
    assert_eq!(
        missing.to_string(),
        r#"{"error":{"code":"entity","message":"Resource not found for segment 'Order_Type'","details":[]}}"#
    );
    let raw =
        Received { body: b"{".to_vec(), headers: shop.session.clone(), ..Received::new("POST", "/v2/SHOP/Orders") };
    assert_eq!(shop.send(&raw).status, 400);
    assert_eq!(shop.send(&raw.with_header("content-type", "application/atom+xml")).status, 415);
}

#[test]
fn a_change_needs_the_version_that_it_changes() {
    let mut shop = shop();
    let etag = shop.get("/v2/SHOP/Orders('1')").header("etag").unwrap().to_owned();
    let change = r#"{"Reference":"new","__metadata":{"uri":"x"},"to_Item":{"__deferred":{}}}"#;
    let patch = |shop: &mut Client, method: &str, headers: &[(&str, &str)]| {
        let reply = shop.write_with(method, "/v2/SHOP/Orders('1')", change, headers);
        (reply.status, text(&reply))
    };
    assert_eq!(patch(&mut shop, "PATCH", &[]).0, 428);
    assert_eq!(patch(&mut shop, "PATCH", &[("if-match", "W/\"old\"")]).0, 412);
    assert_eq!(patch(&mut shop, "PATCH", &[("if-match", &etag)]), (204, String::new()));
    assert_eq!(patch(&mut shop, "MERGE", &[("if-match", &etag)]).0, 412, "the version is another now");
    assert_eq!(patch(&mut shop, "POST", &[("if-match", "*"), ("x-http-method", "MERGE")]).0, 204);
    let one = shop.get("/v2/SHOP/Orders('1')").header("etag").unwrap().to_owned();
    assert_eq!(patch(&mut shop, "PATCH", &[("if-match", "*")]).0, 204);
    let two = shop.get("/v2/SHOP/Orders('1')").header("etag").unwrap().to_owned();
    assert_ne!(one, two, "two changes in one moment have two versions");
    let order = at(&json(&shop.get("/v2/SHOP/Orders('1')")), "d");
    assert_eq!((at(&order, "Reference"), at(&order, "Buyer")), (Value::from("new"), Value::from("A")));
    // What is replaced loses what is not given, but for its key and its birth.
    assert_eq!(shop.write("PUT", "/v2/SHOP/Orders('1')", r#"{"Buyer":"O'B"}"#).status, 204);
    let order = at(&json(&shop.get("/v2/SHOP/Orders('1')")), "d");
    assert_eq!((at(&order, "Reference"), at(&order, "Order")), (Value::from(""), Value::from("1")));
    assert_eq!(at(&order, "On"), Value::from("/Date(1793491200000)/"));
    assert_eq!(shop.write("PATCH", "/v2/SHOP/Orders('1')", r#"{"Order":"2"}"#).status, 400);
    assert_eq!(shop.write("PATCH", "/v2/SHOP/Orders('1')", r#"{"to_Item":[]}"#).status, 400);
    assert_eq!(shop.write("PATCH", "/v2/SHOP/Orders('9')", "{}").status, 404);
    // Sets without versions need none; the whole has another after a change of its part.
    let etag = shop.get("/v2/SHOP/Orders('1')").header("etag").unwrap().to_owned();
    assert_eq!(
        shop.write_with("PATCH", "/v2/SHOP/Items(Order='1',Item='20')", r#"{"Amount":"5.00"}"#, &[]).status,
        204
    );
    let order = shop.get("/v2/SHOP/Orders('1')");
    assert_eq!(at(&json(&order), "d.Total"), Value::from("15.00"));
    assert_ne!(order.header("etag"), Some(etag.as_str()));
    assert_eq!(shop.write_with("DELETE", "/v2/SHOP/Orders('1')", "", &[]).status, 428);
    assert_eq!(shop.write("DELETE", "/v2/SHOP/Orders('1')", "").status, 204);
    assert_eq!(shop.get("/v2/SHOP/Items(Order='1',Item='10')").status, 404, "parts are gone with the whole");
    let reply = shop.write_with(
        "PATCH",
        "/v4/shop/api/0001/Item(Order='3',Item='10')",
        r#"{"Amount":"3.50"}"#,
        &[
            ("if-match", "*"),
            ("prefer", "return=representation"),
            ("content-type", "application/json;IEEE754Compatible=true"),
        ],
    );
    assert_eq!((reply.status, at(&json(&reply), "Amount").to_text()), (200, "3.50".to_owned()));
}

#[test]
fn functions_find_change_and_return() {
    let mut shop = shop();
    let d = |reply: &Reply| at(&json(reply), "d");
    assert_eq!(d(&shop.get("/v2/SHOP/total?$format=json&Order='1'")).to_string(), r#"{"total":"10.50"}"#);
    assert_eq!(at(&d(&shop.get("/v2/SHOP/first?Order='2'")), "Buyer"), Value::from("O'B"));
    assert_eq!(shop.get("/v2/SHOP/first?Order='9'").status, 404);
    assert_eq!(shop.get("/v2/SHOP/first").status, 400);
    assert_eq!(shop.get("/v2/SHOP/release?Order='1'").status, 405);
    let released = shop.write_with("POST", "/v2/SHOP/release?$format=json&Order='1'", "", &[]);
    assert_eq!(at(&d(&released), "results.0.Paid"), Value::from(true));
    assert_eq!(shop.write_with("POST", "/v2/SHOP/forget?Order='1'", "", &[("if-match", "W/\"old\"")]).status, 412);
    assert_eq!(shop.write("POST", "/v2/SHOP/forget?Order='1'", "").status, 204);

    let v4 = "/v4/shop/api/0001";
    assert_eq!(at(&json(&shop.get(&format!("{v4}/Order('3')/com.shop.v0001.Total()"))), "value").to_text(), "100.00");
    assert_eq!(shop.all(&format!("{v4}/Find(Buyer='A',On=2026-11-03)"), "Order"), "3");
    assert_eq!(shop.get(&format!("{v4}/Find(Buyer='A')")).status, 400);
    assert_eq!(shop.get(&format!("{v4}/Find(Buyer='A',On=2026-11-03,X=1)")).status, 400);
    let released = shop.write("POST", &format!("{v4}/Order('3')/com.shop.v0001.Release"), "{}");
    assert_eq!(at(&json(&released), "Paid"), Value::from(true));
    assert_eq!(shop.write("POST", &format!("{v4}/Pay"), r#"{"Order":"4"}"#).status, 204);
    assert_eq!(shop.write("POST", &format!("{v4}/Pay"), r#"{"Order":"9"}"#).status, 404);
}

/// Sends a batch of V2 or V4 as its codec writes it.
fn batch(shop: &mut Client, service: &str, parts: &str) -> (u16, Value) {
    let payload = odata_batch::encode(&parse_json(parts).unwrap()).unwrap();
    let mut request = Received::new("POST", &format!("{service}/$batch"));
    request.body = payload.bytes;
    request.headers.extend(shop.session.clone());
    let reply = shop.send(&request.with_header("content-type", &payload.content_type.unwrap()));
    let read = odata_batch::decode(reply.header("content-type"), &reply.body).unwrap();
    (reply.status, read.get("responses").cloned().unwrap_or(read))
}

#[test]
fn a_set_of_changes_is_done_as_a_whole_or_not_at_all() {
    let mut shop = shop();
    let before = shop.family.state();
    let (status, read) = batch(
        &mut shop,
        "/v2/SHOP",
        r#"[{"url":"Orders/$count"},
            {"changes":[{"method":"POST","url":"Orders","body":{"Buyer":"A"}},{"method":"MERGE","url":"Orders('1')","body":{"Reference":"b"}}]},
            {"url":"/v2/SHOP/Orders('9')"},{"url":"http://sandbox/v2/SHOP/Orders?$top=1&$select=Order"}]"#,
    );
    assert_eq!(status, 202);
    // The second of the set names no version.
    assert_eq!(at(&read, "1.status"), Value::from(428));
    assert_eq!(at(&read, "1").get("changes"), None);
    assert_eq!(
        (at(&read, "0.body"), at(&read, "2.status")),
        (Value::from("5").to_text().parse::<i32>().unwrap().into(), 404.into())
    );
    assert_eq!(at(&read, "3.body.d.results.0.Order"), Value::from("1"));
    assert_eq!(shop.family.state(), before);
    let (_, read) = batch(
        &mut shop,
        "/v2/SHOP",
        r#"[{"changes":[{"method":"POST","url":"Orders","body":{"Buyer":"A"}},{"method":"POST","url":"$1/to_Item","body":{"Product":"TG11","Quantity":"2"}},
            {"method":"PATCH","url":"Orders('1')","headers":{"If-Match":"*"},"body":{"On":"2026-11-09T00:00:00"}},{"method":"DELETE","url":"Orders('2')","headers":{"If-Match":"*"}}]}]"#,
    );
    let statuses: Vec<_> =
        at(&read, "0.changes").as_list().unwrap().iter().map(|it| at(it, "status").to_text()).collect();
    assert_eq!(statuses, ["201", "201", "204", "204"]);
    assert_eq!(text(&shop.get("/v2/SHOP/Orders('100')/Total/$value")), "19.98");
    assert_eq!(at(&json(&shop.get("/v2/SHOP/Orders('1')")), "d.On"), Value::from("/Date(1794182400000)/"));
    assert_eq!(batch(&mut shop, "/v2/SHOP", r#"[{"changes":[{"method":"POST","url":"Nothing"}]}]"#).0, 202);
}

#[test]
fn v4_takes_batches_in_multipart_and_in_json() {
    let mut shop = shop();
    let (status, read) = batch(&mut shop, "/v4/shop/api/0001", r#"[{"url":"Order('1')?$select=Order"}]"#);
    assert_eq!((status, at(&read, "0.body.Order")), (200, Value::from("1")));
    let before = shop.family.state();
    let requests = r#"{"requests":[{"id":"1","method":"GET","url":"Order('1')/Buyer"},
        {"id":"2","atomicityGroup":"g","method":"POST","url":"Order","body":{"Buyer":"A"}},
        {"id":"3","atomicityGroup":"g","method":"PATCH","url":"Order('1')","headers":{"If-Match":"W/\"old\""},"body":{}},
        {"id":"4","method":"GET","url":"/v4/shop/api/0001/Order/$count"}]}"#;
    let read = json(&shop.write("POST", "/v4/shop/api/0001/$batch", requests));
    let statuses: Vec<_> =
        at(&read, "responses").as_list().unwrap().iter().map(|it| at(it, "status").to_text()).collect();
    assert_eq!(statuses, ["200", "412", "412", "200"]);
    assert_eq!(at(&read, "responses.3.body").to_text(), "5");
    assert_eq!(shop.family.state(), before);
    let requests = r#"{"requests":[{"id":"n","atomicityGroup":"g","method":"POST","url":"Order","body":{"Buyer":"A"}},
        {"id":"i","atomicityGroup":"g","method":"POST","url":"$n/_Item","body":{"Name":"TG11","Quantity":3}}]}"#;
    let read = json(&shop.write("POST", "/v4/shop/api/0001/$batch", requests));
    assert_eq!(at(&read, "responses.1.body.Amount").to_text(), "29.97");
    assert_eq!(at(&read, "responses.0.headers.location"), Value::from("http://sandbox/v4/shop/api/0001/Order('100')"));
    assert_eq!(shop.write("POST", "/v4/shop/api/0001/$batch", "{}").status, 400);
}

#[test]
fn scenes_bring_about_what_a_request_asks_for() {
    let mut shop = shop();
    let locked = shop.write("PATCH", "/v2/SHOP/Orders('5')", r#"{"Paid":true}"#);
    assert_eq!((locked.status, at(&json(&locked), "error.code")), (423, Value::from("V1/042")));
    assert_eq!(shop.write("MERGE", "/v2/SHOP/Orders('5')", r#"{"Paid":true}"#).status, 204, "the lock is gone");
    let warned = shop.write("POST", "/v2/SHOP/Orders", r#"{"Buyer":"A","Reference":"WARN"}"#);
    let message = r#"{"code":"V1/1","message":"take care","severity":"warning","target":"","details":[]}"#;
    assert_eq!((warned.status, warned.header("x-message")), (201, Some(message)));
    let down = shop.get("/v2/SHOP/Orders('4')");
    assert_eq!((down.status, down.header("content-type")), (503, Some("text/html; charset=utf-8")));
}

#[test]
fn a_service_describes_itself() {
    let mut shop = shop();
    let reply = shop.get("/v2/SHOP/$metadata");
    assert_eq!(reply.header("content-type"), Some("application/xml"));
    for part in [
        r#"<edmx:DataServices m:DataServiceVersion="2.0"><Schema Namespace="SHOP" xmlns="http://schemas.microsoft.com/ado/2008/09/edm">"#,
        r#"<EntityType Name="ItemsType"><Key><PropertyRef Name="Order"/><PropertyRef Name="Item"/></Key><Property Name="Order" Type="Edm.String" Nullable="false" MaxLength="10"/>"#,
        r#"<Property Name="Total" Type="Edm.Decimal" Precision="16" Scale="3"/><Property Name="On" Type="Edm.DateTime" Precision="0"/><Property Name="ChangedAt" Type="Edm.DateTimeOffset" Precision="7" ConcurrencyMode="Fixed"/>"#,
        r#"<NavigationProperty Name="to_Item" Relationship="SHOP.assoc_Orders_to_Item" FromRole="FromRole_SHOP_assoc_Orders_to_Item" ToRole="ToRole_SHOP_assoc_Orders_to_Item"/>"#,
        r#"<FunctionImport Name="release" m:HttpMethod="POST" ReturnType="Collection(SHOP.OrdersType)" EntitySet="Orders"><Parameter Name="Order" Type="Edm.String" Mode="In"/></FunctionImport>"#,
    ] {
        assert!(text(&reply).contains(part), "{part}\n{}", text(&reply));
    }
    let reply = shop.get("/v4/shop/api/0001/$metadata");
    for part in [
        r#"<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices><Schema Namespace="com.shop.v0001""#,
        r#"<NavigationProperty Name="_Item" Type="Collection(com.shop.v0001.Item_Type)"/>"#,
        r#"<Property Name="At" Type="Edm.TimeOfDay"/>"#,
        r#"<Action Name="Release" IsBound="true"><Parameter Name="_it" Type="com.shop.v0001.Order_Type"/><ReturnType Type="com.shop.v0001.Order_Type"/></Action>"#,
        r#"<FunctionImport Name="Find" Function="com.shop.v0001.Find"/>"#,
        r#"<EntitySet Name="Item" EntityType="com.shop.v0001.Item_Type"><NavigationPropertyBinding Path="_Order" Target="Order"/></EntitySet>"#,
    ] {
        assert!(text(&reply).contains(part), "{part}\n{}", text(&reply));
    }
}

#[test]
fn rows_are_shown_and_replaced_by_the_name_of_table_or_set() {
    let mut shop = shop();
    let state = shop.family.state();
    assert_eq!(
        state.as_map().unwrap().keys().map(|key| &**key).collect::<Vec<_>>(),
        ["orders", "items", "SHOP/Buyers", "SHOP;v=0002/Old"]
    );
    let rows = at(&state, "items");
    for collection in ["items", "Items", "SHOP/Items", "SHOP/Buyers"] {
        let rows = if collection.ends_with("Buyers") { at(&state, "SHOP/Buyers") } else { rows.clone() };
        shop.family.load(collection, rows.as_list().unwrap()).unwrap();
    }
    assert_eq!(shop.family.state(), state, "what is shown can be loaded");
    let row = parse_json(r#"{"Order":"1","Item":"10","Name":"x"}"#).unwrap();
    shop.family.load("shop/api/0001/Item", std::slice::from_ref(&row)).unwrap();
    assert_eq!(shop.all("/v2/SHOP/Items", "Product"), "x");
    for (collection, row, said) in [
        ("Nothing", "{}", "no collection `Nothing`"),
        ("items", "[]", "row 0 of `items`: it is no mapping"),
        ("items", r#"{"Order":"1"}"#, "it has no `Item`"),
        ("items", r#"{"X":"1"}"#, "no property `X`"),
        ("items", r#"{"Order":1}"#, "`Order`: it is no Edm.String"),
    ] {
        let error = shop.family.load(collection, &[parse_json(row).unwrap()]).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(shop.family.load("Item", &[row.clone(), row]).unwrap_err().contains("there is one with this key"));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (from, to, said) in [
        ("family: odata", "family: odata\nodd: 1", "unknown field `odd`"),
        ("codes: { service", "codes: { serve", "`codes` knows no `serve`"),
        ("v4: { root: /v4, page: 3 }", "", "service `shop/api/0001` needs `v4`"),
        ("Order: String(10), Buyer", "Order: Text(10), Buyer", "property `Order`: there is no type `Text(10)`"),
        ("to_Item: { set: Items", "to_Item: { set: Parts", "set `Orders`: there is no set `Parts`"),
        ("etag: ChangedAt", "etag: Changed", "there is no property `Changed`"),
        ("to_Item/Amount", "to_Item/Sum", "there is nothing at `to_Item/Sum`"),
        ("to: SHOP/Buyers", "to: SHOP/Sellers", "there is no set `SHOP/Sellers`"),
        (
            "Name: String(40) of Product",
            "Name: String(20) of Product",
            "column `Product` of table `items` has two types",
        ),
        ("Moment: DateTime }", "Moment: DateTime(3) }", "there is no type `DateTime(3)`"),
        ("Reference eq 'LOCK'", "Reference eq 5", "do not fit"),
        ("Buyers: [ {", "Sellers: [ {", "there is no collection `Sellers`"),
        ("returns: Total", "returns: Sum", "not `Sum`"),
        ("version: 4", "version: 3", "there is no version 3"),
    ] {
        assert!(SHOP.contains(from), "{from}");
        let error = family::make("odata", &settings(&SHOP.replacen(from, to, 1))).unwrap_err();
        assert!(error.contains(said), "{from} → {to}: {error}");
    }
}

#[test]
fn what_the_built_in_manifests_say_can_be_served() {
    let mut served = 0;
    for (name, manifest) in BUILT_IN {
        let sandbox = settings(manifest).get("sandbox").cloned().unwrap_or_default();
        if sandbox.get("family") != Some(&Value::from("odata")) {
            continue;
        }
        let family = family::make("odata", &sandbox).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (table, rows) in family.state().as_map().unwrap() {
            assert!(!rows.as_list().unwrap().is_empty(), "{name}: `{table}` has no rows");
        }
        served += 1;
    }
    assert!(served > 0);
}

#[test]
fn links_may_name_a_host_that_only_the_inside_knows() {
    let text = SHOP.replacen("error_namespace", "link_origin: https://internal.example\nerror_namespace", 1);
    let mut shop = Client { family: family::make("odata", &settings(&text)).unwrap(), ..shop() };
    let page = json(&shop.get("/v2/SHOP/Orders"));
    assert_eq!(at(&page, "d.__next"), Value::from("https://internal.example/v2/SHOP/Orders?$skiptoken=3"));
    assert_eq!(json(&shop.get("/v4/shop/api/0001/Order")).get("@odata.nextLink"), Some(&"Order?$skiptoken=3".into()));
}

proptest! {
    #[test]
    fn whatever_is_asked_is_answered(
        path in "[A-Za-z0-9'()=,/$%_. -]{0,30}",
        filter in "[A-Za-z0-9'(), .:-]{0,40}",
        body in "[{}\"a-zA-Z:,0-9\\[\\]]{0,40}",
    ) {
        let mut shop = shop();
        for service in ["/v2/SHOP", "/v4/shop/api/0001"] {
            for target in [format!("{service}/{path}"), format!("{service}{path}?$expand={filter}&$select={path}")] {
                prop_assert!(shop.family.answer(&Received::new("GET", &target), &mut shop.moment).is_some_and(|it| it.status >= 200));
            }
            for set in ["Orders", "Order"] {
                for option in ["$filter", "$orderby", "$expand", "$skiptoken"] {
                    shop.get(&format!("{service}/{set}?{option}={filter}"));
                }
            }
            let mut request = Received::new("POST", &format!("{service}/{path}"));
            request.body = body.clone().into_bytes();
            request.headers.extend(shop.session.clone());
            shop.send(&request);
            for kind in ["application/json", "multipart/mixed; boundary=A"] {
                let mut request = Received { path: format!("{service}/$batch"), ..request.clone() }.with_header("content-type", kind);
                request.body = format!("--A\r\nContent-Type: application/http\r\n\r\nGET {path} HTTP/1.1\r\n\r\n{body}\r\n--A--\r\n").into_bytes();
                shop.send(&request);
            }
        }
    }
}

//! The stand-in as clients see it, with the rows of the built-in manifest.

use std::sync::Arc;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::connector::body::samples;
use crate::connector::codec::xmlrpc;
use crate::connector::library;
use crate::connector::manifest::Manifest;
use crate::model::parse_json;
use crate::sandbox::plan::Plan;

const KEY: &str = "6578616d706c65206a736f6e206b6579";
const READER: &str = "72656164696e67206f6e6c79206b6579";

/// A server and its clock.
struct Server {
    family: Box<dyn Family>,
    moment: Moment,
}

fn manifest() -> Arc<Manifest> {
    let (name, text) = library::BUILT_IN.iter().find(|(name, _)| *name == "odoo").unwrap();
    match library::read(&Arc::from(format!("{name}.yaml")), &Arc::from(*text)) {
        library::Loaded::Manifest(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

/// The section of the built-in manifest, read once.
fn settings() -> Value {
    static SETTINGS: LazyLock<Value> = LazyLock::new(|| {
        let (plan, diagnostics) = Plan::make(&manifest(), &Value::map::<&str>([]));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        plan.family.unwrap().1
    });
    SETTINGS.clone()
}

fn value(json: &str) -> Value {
    parse_json(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

impl Server {
    fn new() -> Self {
        Self::of(&settings())
    }

    fn of(settings: &Value) -> Self {
        let moment = Moment { now: "2026-11-02T09:15:30.250Z".parse().unwrap(), random: fastrand::Rng::with_seed(7) };
        Self { family: super::super::make("object_rpc", settings).unwrap(), moment }
    }

    fn ask(&mut self, request: &Received) -> Reply {
        self.family.answer(request, &mut self.moment).expect("the path is the family's")
    }

    /// Calls a method by its path and returns status and body.
    fn json2(&mut self, path: &str, body: &str) -> (u16, Value) {
        self.json2_by(KEY, path, body)
    }

    fn json2_by(&mut self, key: &str, path: &str, body: &str) -> (u16, Value) {
        let request =
            Received::new("POST", &format!("/json/2/{path}")).with_header("authorization", &format!("bearer {key}"));
        let reply = self.ask(&request.with_json(&value(body)));
        (reply.status, value(&String::from_utf8(reply.body).unwrap()))
    }

    fn ok(&mut self, path: &str, body: &str) -> Value {
        let (status, value) = self.json2(path, body);
        assert_eq!(status, 200, "{path} {body}: {value}");
        value
    }

    /// Calls a service over XML-RPC: `{ value }` or `{ fault }`.
    fn xml(&mut self, path: &str, method: &str, params: &str) -> Value {
        let call = Value::map([("method", Value::from(method)), ("params", value(params))]);
        let mut request = Received::new("POST", path);
        request.body = xmlrpc::encode(&call).unwrap().bytes;
        let reply = self.ask(&request);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/xml")));
        xmlrpc::decode(&String::from_utf8(reply.body).unwrap()).unwrap()
    }

    fn execute(&mut self, rest: &str) -> Value {
        self.xml("/xmlrpc/2/object", "execute_kw", &format!("[\"sandbox\", 7, \"{KEY}\", {rest}]"))
    }

    /// Finds ids over the path.
    fn found(&mut self, model: &str, arguments: &str) -> String {
        self.ok(&format!("{model}/search"), arguments).to_string()
    }
}

/// Lays settings over those of the manifest.
fn laid(over: &[(&str, &str)]) -> Value {
    let mut map = settings().as_map().unwrap().clone();
    for (key, json) in over {
        map.insert((*key).into(), value(json));
    }
    Value::from(map)
}

#[test]
fn domains_find_what_they_say() {
    let mut server = Server::new();
    let cases = [
        ("res.partner", r#"[["id", "<", 43], ["is_company", "=", true]]"#, "[1,41,42]"),
        ("res.partner", r#"[["id", "in", [41, 42, 999]]]"#, "[41,42]"),
        ("res.partner", r#"[["ref", "=", "C-0042"]]"#, "[42]"),
        ("res.partner", r#"["|", ["ref", "=", "C-0042"], ["ref", "=", "C-0043"]]"#, "[42,43]"),
        ("res.partner", r#"["&", ["id", ">", 40], ["id", "<", 43]]"#, "[41,42]"),
        ("res.partner", r#"["!", ["id", ">", 3]]"#, "[1,3]"),
        ("res.partner", r#"["|", "&", ["id", ">", 40], ["id", "<", 42], "!", ["id", ">", 3]]"#, "[1,3,41]"),
        ("res.partner", r#"["!", "|", ["id", ">", 3], ["id", "<", 3]]"#, "[3]"),
        ("res.partner", r#"[["email", "=", false], ["is_company", "=", true], ["id", "<", 1000]]"#, "[42]"),
        ("res.partner", r#"[["email", "!=", "info@acme.test"], ["id", "in", [1, 41, 42]]]"#, "[41,42]"),
        ("res.partner", r#"[["email", "not in", ["info@acme.test", false]], ["id", "in", [1, 41, 42]]]"#, "[41]"),
        ("res.partner", r#"[["name", "like", "azure"]]"#, "[]"),
        ("res.partner", r#"[["name", "ilike", "azure"]]"#, "[41]"),
        ("res.partner", r#"[["name", "=like", "Azure%"]]"#, "[41]"),
        ("res.partner", r#"[["name", "=ilike", "azure_interior"]]"#, "[41]"),
        ("res.partner", r#"[["name", "not ilike", "e"], ["id", "<", 45]]"#, "[]"),
        ("res.partner", r#"[["email", "ilike", "100%"]]"#, "[]"),
        ("res.partner", r#"[["country_id", "=", 12]]"#, "[57]"),
        ("res.partner", r#"[["country_id", "=", "Austria"]]"#, "[57]"),
        ("res.partner", r#"[["country_id", "ilike", "austr"]]"#, "[57]"),
        ("res.partner", r#"[["country_id.code", "in", ["AT", "FR"]]]"#, "[53,57]"),
        ("res.partner", r#"[["country_id.currency_id.name", "=", "GBP"]]"#, "[55]"),
        ("res.partner", r#"[["country_id", "=", false], ["id", "<", 5]]"#, "[3,4]"),
        ("res.partner", r#"[["parent_id", "child_of", 41]]"#, "[46,47]"),
        ("res.partner", r#"[["id", "child_of", [41]]]"#, "[41,46,47]"),
        ("res.partner", r#"[["id", "parent_of", [46]]]"#, "[41,46]"),
        ("res.partner", r#"[["category_id", "=", 4]]"#, "[45]"),
        ("res.partner", r#"[["category_id", "in", [2]]]"#, "[41,51]"),
        ("res.partner", r#"[["category_id", "child_of", 2]]"#, "[41,51]"),
        ("res.partner", r#"[["category_id.name", "=", "Supplier"]]"#, "[45]"),
        ("res.partner", r#"[["child_ids", "any", [["function", "ilike", "direct"]]]]"#, "[41]"),
        ("res.partner", r#"[["child_ids", "not any", []], ["id", "in", [41, 43, 44]]]"#, "[43,44]"),
        ("res.partner", r#"[["ref", "=?", false], ["id", "=", 41]]"#, "[41]"),
        ("res.partner", r#"[["ref", "=?", "x"], ["id", "=", 41]]"#, "[]"),
        ("res.partner", r#"[[1, "=", 1], ["id", "=", 41]]"#, "[41]"),
        ("res.partner", r#"[[0, "=", 1]]"#, "[]"),
        ("res.partner", r#"[["credit_limit", ">", 1000]]"#, "[41]"),
        ("res.partner", r#"[["active", "=", false]]"#, "[6,50,56]"),
        ("res.partner", r#"[["active", "in", [true, false]], ["id", "in", [49, 50]]]"#, "[49,50]"),
        ("sale.order", r#"[["date_order", ">=", "2026-03-02"], ["date_order", "<", "2026-04-01"]]"#, "[5003,5004]"),
        ("sale.order", r#"[["date_order", "<=", "2026-02-11"]]"#, "[5001,5002]"),
        ("sale.order", r#"[["amount_total", "=", 2377.62]]"#, "[5017]"),
        ("sale.order", r#"[["order_line.product_id.default_code", "=", "TG11"]]"#, "[5001,5017]"),
        ("sale.order", r#"[["partner_id", "child_of", 41], ["state", "in", ["sale"]]]"#, "[5001]"),
        ("sale.order", r#"[["client_order_ref", "!=", "PO-7781"], ["state", "=", "sale"]]"#, "[5003,5016,5017]"),
        ("stock.quant", r#"[["location_id", "child_of", 8], ["product_id", "=", 33]]"#, "[4,5]"),
    ];
    for (model, domain, expected) in cases {
        let found = server.found(model, &format!(r#"{{"domain": {domain}, "order": "id"}}"#));
        assert_eq!(found, expected, "{model} {domain}");
    }
}

#[test]
fn what_is_no_domain_is_refused() {
    let mut server = Server::new();
    let cases = [
        (r#"[["nope", "=", 1]]"#, "Invalid field res.partner.nope in condition"),
        (r#"[["country_id.nope", "=", 1]]"#, "Invalid field res.country.nope in condition"),
        (r#"[["name.x", "=", 1]]"#, "Invalid field"),
        (r#"[["name", "~", 1]]"#, "Invalid operator"),
        (r#"[["name", "any", []]]"#, "Invalid operator"),
        (r#"["&", ["name", "=", "x"]]"#, "malformed"),
        (r#"["x"]"#, "malformed"),
        (r#"[["name", "="]]"#, "invalid item"),
        (r#"[7]"#, "invalid item"),
        (r#""x""#, "invalid item"),
    ];
    for (domain, expected) in cases {
        let (status, body) = server.json2("res.partner/search_count", &format!(r#"{{"domain": {domain}}}"#));
        assert_eq!((status, body.get("name")), (500, Some(&Value::from("builtins.ValueError"))), "{domain}");
        assert!(body.get("message").unwrap().to_text().contains(expected), "{domain}: {body}");
    }
}

#[test]
fn rows_come_in_order_and_in_pages() {
    let mut server = Server::new();
    let cases = [
        (r#""order": "code desc", "limit": 3"#, "[233,165,231]"),
        (r#""order": "code desc", "limit": 2, "offset": 3"#, "[75,57]"),
        (r#""limit": 2"#, "[12,20]"),
        (r#""order": "currency_id, name desc""#, "[165,57,75,20,12,231,233]"),
        (r#""limit": false, "offset": 6"#, "[233]"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(server.found("res.country", &format!("{{\"domain\": [], {arguments}}}")), expected, "{arguments}");
    }
    // Nothing comes last, and first where the order is turned.
    let ids = r#""domain": [["id", "in", [41, 42, 43]]]"#;
    assert_eq!(server.found("res.partner", &format!(r#"{{{ids}, "order": "email"}}"#)), "[41,43,42]");
    assert_eq!(server.found("res.partner", &format!(r#"{{{ids}, "order": "email desc"}}"#)), "[42,43,41]");
    let mut last = 0;
    let mut pages = Vec::new();
    loop {
        let page = server.ok(
            "res.partner/search_read",
            &format!(r#"{{"domain": [["id", ">", {last}]], "fields": ["name"], "order": "id asc", "limit": 25}}"#),
        );
        let page = page.as_list().unwrap().to_vec();
        pages.push(page.len());
        match page.last() {
            Some(row) if page.len() == 25 => last = values::id_of(row.get("id").unwrap()).unwrap(),
            _ => break,
        }
    }
    assert_eq!(pages, [25, 25, 25, 5]);
    let (status, body) = server.json2("res.country/search", r#"{"domain": [], "order": "name up"}"#);
    assert_eq!((status, body.get("name")), (422, Some(&Value::from("odoo.exceptions.UserError"))));
    assert_eq!(server.json2("res.country/search", r#"{"domain": [], "order": "nope"}"#).0, 500);
}

#[test]
fn values_look_as_the_sheet_says() {
    let mut server = Server::new();
    let cases = [
        (
            "res.partner/read",
            r#"{"ids": [42], "fields": ["name", "email", "country_id", "parent_id", "child_ids", "credit_limit", "customer_rank", "company_type", "write_date"]}"#,
            r#"[{"id":42,"name":"Deco Addict","email":false,"country_id":[233,"United States"],"parent_id":false,"child_ids":[48,49],"credit_limit":0.0,"customer_rank":2,"company_type":"company","write_date":"2026-01-05 12:19:00"}]"#,
        ),
        (
            "res.partner/read",
            r#"{"ids": [42, 99999], "fields": ["country_id"], "load": null}"#,
            r#"[{"id":42,"country_id":233}]"#,
        ),
        (
            "sale.order/search_read",
            r#"{"domain": [["id", "=", 5017]], "fields": ["name", "state", "partner_id", "currency_id", "amount_total", "order_line", "note"]}"#,
            r#"[{"id":5017,"name":"S05017","state":"sale","partner_id":[1001,"Northwind GmbH"],"currency_id":[1,"EUR"],"amount_total":2377.62,"order_line":[9001],"note":false}]"#,
        ),
        (
            "product.product/read",
            r#"{"ids": [33], "fields": ["display_name", "name", "list_price", "qty_available", "taxes_id", "barcode"]}"#,
            r#"[{"id":33,"display_name":"[TG11] Standing Desk","name":"Standing Desk","list_price":999.0,"qty_available":50.0,"taxes_id":[1],"barcode":"4006381333931"}]"#,
        ),
        (
            "res.users/read",
            r#"{"ids": [7], "fields": ["login", "name", "email"]}"#,
            r#"[{"id":7,"login":"bot@acme.test","name":"Integration Bot","email":"bot@acme.test"}]"#,
        ),
        ("res.partner/name_search", r#"{"name": "azure int", "limit": 1}"#, r#"[[41,"Azure Interior"]]"#),
        (
            "res.partner/read",
            r#"{"ids": [46], "fields": ["display_name"]}"#,
            r#"[{"id":46,"display_name":"Azure Interior, Brandon Freeman"}]"#,
        ),
        (
            "sale.order/default_get",
            r#"{"fields": ["state", "pricelist_id", "note"]}"#,
            r#"{"state":"draft","pricelist_id":1}"#,
        ),
        (
            "res.partner/fields_get",
            r#"{"allfields": ["country_id", "nope"], "attributes": ["type", "string", "required", "readonly", "relation", "store"]}"#,
            r#"{"country_id":{"type":"many2one","string":"Country","required":false,"readonly":false,"store":true,"relation":"res.country"}}"#,
        ),
        (
            "sale.order/fields_get",
            r#"{"allfields": ["state"], "attributes": ["selection"]}"#,
            r#"{"state":{"selection":[["draft","Quotation"],["sent","Quotation Sent"],["sale","Sales Order"],["cancel","Cancelled"]]}}"#,
        ),
        ("res.users/context_get", "{}", r#"{"lang":"en_US","tz":"Europe/Berlin","uid":7}"#),
        ("res.partner/exists", r#"{"ids": [41, 99999]}"#, "[41]"),
        (
            "res.partner/search_count",
            r#"{"domain": [["is_company", "=", true]], "context": {"active_test": false}}"#,
            "14",
        ),
        ("res.partner/search_count", r#"{"domain": [["is_company", "=", true]]}"#, "13"),
    ];
    for (path, arguments, expected) in cases {
        assert_eq!(server.ok(path, arguments).to_string(), expected, "{path} {arguments}");
    }
    let whole = server.ok("res.partner/read", r#"{"ids": [41]}"#).to_string();
    assert!(whole.contains("\"street\":\"4557 De Silva St\"") && whole.contains("\"create_uid\":false"), "{whole}");
    let hidden = server.json2("sale.order.line/read", r#"{"ids": [9001], "fields": ["tax_percent"]}"#);
    assert_eq!(hidden.0, 500, "what is for expressions only is not read");
}

#[test]
fn rows_are_created_written_and_deleted() {
    let mut server = Server::new();
    let values = r#"{"name": "Fabrikam", "ref": "C-2001", "country_id": 57, "active": true}"#;
    assert_eq!(
        server.ok("res.partner/create", &format!("{{\"vals_list\": [{values}, {{\"name\": \"Two\"}}]}}")).to_string(),
        "[1062,1063]"
    );
    let read = r#"{"ids": [1062], "fields": ["name", "type", "create_date", "write_date", "write_uid"]}"#;
    assert_eq!(
        server.ok("res.partner/read", read).to_string(),
        r#"[{"id":1062,"name":"Fabrikam","type":"contact","create_date":"2026-11-02 09:15:30","write_date":"2026-11-02 09:15:30","write_uid":[7,"Integration Bot"]}]"#
    );
    server.moment.now = server.moment.now.plus(Duration::from_secs(90));
    assert_eq!(
        server.ok(
            "res.partner/write",
            r#"{"ids": [1062, 1063], "vals": {"phone": "1", "active": false, "write_date": "2000-01-01 00:00:00"}}"#
        ),
        Value::Bool(true)
    );
    let read = r#"{"ids": [1062], "fields": ["phone", "active", "create_date", "write_date"]}"#;
    assert_eq!(
        server.ok("res.partner/read", read).to_string(),
        r#"[{"id":1062,"phone":"1","active":false,"create_date":"2026-11-02 09:15:30","write_date":"2026-11-02 09:17:00"}]"#
    );
    assert_eq!(server.found("res.partner", r#"{"domain": [["ref", "=", "C-2001"]]}"#), "[]");
    assert_eq!(
        server.found("res.partner", r#"{"domain": [["ref", "=", "C-2001"]], "context": {"active_test": false}}"#),
        "[1062]"
    );
    assert_eq!(server.ok("res.partner/action_unarchive", r#"{"ids": [1062]}"#), Value::Null);
    assert_eq!(server.found("res.partner", r#"{"domain": [["ref", "=", "C-2001"]]}"#), "[1062]");
    assert_eq!(server.ok("res.partner/unlink", r#"{"ids": [1062, 1063]}"#), Value::Bool(true));
    assert_eq!(server.json2("res.partner/unlink", r#"{"ids": [1062]}"#).0, 404);
    // A number is not given twice.
    assert_eq!(server.ok("res.partner/name_create", r#"{"name": "Three"}"#).to_string(), r#"[1064,"Three"]"#);
    assert_eq!(server.ok("res.partner/copy", r#"{"ids": [41], "default": {"city": "Here"}}"#).to_string(), "[1065]");
    let copied = server.ok("res.partner/read", r#"{"ids": [1065], "fields": ["name", "vat", "city", "child_ids"]}"#);
    assert_eq!(
        copied.to_string(),
        r#"[{"id":1065,"name":"Azure Interior (copy)","vat":false,"city":"Here","child_ids":[]}]"#
    );
}

#[test]
fn an_order_is_made_with_its_lines_and_goes_its_way() {
    let mut server = Server::new();
    let order = r#"{"vals_list": [{"partner_id": 1001, "client_order_ref": "WEB-88231", "order_line": [[0, 0, {"product_id": 33, "product_uom_qty": 2}], [0, 0, {"product_id": 37, "name": "Beans", "discount": 10}]]}]}"#;
    assert_eq!(server.ok("sale.order/create", order).to_string(), "[5018]");
    let read = r#"{"ids": [5018], "fields": ["name", "state", "date_order", "partner_invoice_id", "order_line", "amount_untaxed", "amount_tax", "amount_total"]}"#;
    assert_eq!(
        server.ok("sale.order/read", read).to_string(),
        r#"[{"id":5018,"name":"S05018","state":"draft","date_order":"2026-11-02 09:15:30","partner_invoice_id":[1001,"Northwind GmbH"],"order_line":[9002,9003],"amount_untaxed":2015.01,"amount_tax":380.81,"amount_total":2395.82}]"#
    );
    let lines = server.ok(
        "sale.order.line/read",
        r#"{"ids": [9002, 9003], "fields": ["name", "price_unit", "price_subtotal", "tax_ids", "product_uom_id"]}"#,
    );
    assert_eq!(
        lines.to_string(),
        r#"[{"id":9002,"name":"[TG11] Standing Desk","price_unit":999.0,"price_subtotal":1998.0,"tax_ids":[1],"product_uom_id":[1,"Units"]},{"id":9003,"name":"Beans","price_unit":18.9,"price_subtotal":17.01,"tax_ids":[2],"product_uom_id":[3,"kg"]}]"#
    );
    assert_eq!(server.ok("sale.order/action_confirm", r#"{"ids": [5018], "context": {}}"#), Value::Bool(true));
    assert_eq!(server.found("sale.order", r#"{"domain": [["id", "in", [5018]], ["state", "=", "sale"]]}"#), "[5018]");
    let refusals = [
        ("sale.order/action_confirm", r#"{"ids": [5018]}"#, "not in a state requiring confirmation"),
        ("sale.order/unlink", r#"{"ids": [5018]}"#, "You must first cancel it"),
        ("sale.order.line/unlink", r#"{"ids": [9002]}"#, "you can't remove one of its lines"),
        ("account.move/write", r#"{"ids": [1], "vals": {"partner_id": 42}}"#, "reset it to draft first"),
        ("account.move/unlink", r#"{"ids": [1]}"#, "posted once"),
        ("product.product/unlink", r#"{"ids": [33]}"#, "another model requires the record being deleted"),
        ("sale.order/create", r#"{"vals_list": [{"client_order_ref": "x"}]}"#, "a mandatory field is not set"),
        ("sale.order/create", r#"{"vals_list": [{"partner_id": 99999}]}"#, "does not exist"),
        ("res.partner/create", r#"{"vals_list": [{"ref": "x"}]}"#, "Contacts require a name"),
        (
            "res.partner/create",
            r#"{"vals_list": [{"name": "x", "vat": "DE123456789"}]}"#,
            "a partner with this VAT exists",
        ),
    ];
    for (path, arguments, expected) in refusals {
        let (status, body) = server.json2(path, arguments);
        assert_eq!(status, 422, "{path} {arguments}: {body}");
        assert!(body.get("message").unwrap().to_text().contains(expected), "{path} {arguments}: {body}");
    }
    assert_eq!(server.ok("account.move/write", r#"{"ids": [1], "vals": {"ref": "x"}}"#), Value::Bool(true));
    assert_eq!(server.ok("sale.order/action_cancel", r#"{"ids": [5018]}"#), Value::Bool(true));
    assert_eq!(server.ok("sale.order/unlink", r#"{"ids": [5018]}"#), Value::Bool(true));
    assert_eq!(server.found("sale.order.line", r#"{"domain": [["id", ">", 9001]]}"#), "[]");
}

#[test]
fn lines_and_sets_are_changed_by_commands() {
    let mut server = Server::new();
    let set = r#"{"ids": [41], "fields": ["category_id"]}"#;
    let lines = r#"{"ids": [5002], "fields": ["order_line"]}"#;
    let cases = [
        ("res.partner", 41, "category_id", "[[4, 3]]", set, r#"[{"id":41,"category_id":[1,2,3]}]"#),
        ("res.partner", 41, "category_id", "[[3, 2, 0]]", set, r#"[{"id":41,"category_id":[1,3]}]"#),
        ("res.partner", 41, "category_id", "[[6, 0, [4]]]", set, r#"[{"id":41,"category_id":[4]}]"#),
        ("res.partner", 41, "category_id", "[[5]]", set, r#"[{"id":41,"category_id":[]}]"#),
        ("res.partner", 41, "category_id", r#"[[0, 0, {"name": "New"}]]"#, set, r#"[{"id":41,"category_id":[5]}]"#),
        ("res.partner", 41, "category_id", "[1, 2]", set, r#"[{"id":41,"category_id":[1,2]}]"#),
        (
            "sale.order",
            5002,
            "order_line",
            r#"[[0, 0, {"product_id": 29}]]"#,
            lines,
            r#"[{"id":5002,"order_line":[8992,9002]}]"#,
        ),
        (
            "sale.order",
            5002,
            "order_line",
            r#"[[1, 9002, {"sequence": 1}]]"#,
            lines,
            r#"[{"id":5002,"order_line":[9002,8992]}]"#,
        ),
        ("sale.order", 5002, "order_line", "[[2, 8992, 0]]", lines, r#"[{"id":5002,"order_line":[9002]}]"#),
        ("sale.order", 5002, "order_line", "[[5, 0, 0]]", lines, r#"[{"id":5002,"order_line":[]}]"#),
    ];
    for (model, id, field, commands, read, expected) in cases {
        server.ok(&format!("{model}/write"), &format!(r#"{{"ids": [{id}], "vals": {{"{field}": {commands}}}}}"#));
        assert_eq!(server.ok(&format!("{model}/read"), read).to_string(), expected, "{model} {commands}");
    }
    let child = r#"{"ids": [41], "vals": {"child_ids": [[3, 46, 0], [4, 48, 0]]}}"#;
    server.ok("res.partner/write", child);
    let read = server.ok("res.partner/read", r#"{"ids": [41], "fields": ["child_ids"]}"#);
    assert_eq!(read.to_string(), r#"[{"id":41,"child_ids":[48,47]}]"#);
    for wrong in ["[[9, 1, 0]]", "[[1]]", "[[6, 0]]", r#""x""#, r#"[[0, 0, 7]]"#] {
        let body = format!(r#"{{"ids": [41], "vals": {{"category_id": {wrong}}}}}"#);
        assert_eq!(server.json2("res.partner/write", &body).0, 500, "{wrong}");
    }
    assert_eq!(server.json2("res.partner/write", r#"{"ids": [41], "vals": {"category_id": [[4, 999]]}}"#).0, 404);
}

#[test]
fn a_call_that_goes_wrong_leaves_nothing() {
    let mut server = Server::new();
    let before = server.family.state();
    let order =
        r#"{"vals_list": [{"partner_id": 1001, "order_line": [[0, 0, {"product_id": 33}], [0, 0, {"nope": 1}]]}]}"#;
    assert_eq!(server.json2("sale.order/create", order).0, 500);
    let rows = r#"{"fields": ["id", "name", "country_id"], "data": [["a.b", "Good", ""], ["a.c", "Bad", "Atlantis"]]}"#;
    assert_eq!(server.ok("res.partner/load", rows).get("ids"), Some(&Value::Bool(false)));
    assert_eq!(server.family.state(), before);
}

#[test]
fn a_variant_and_its_template_are_one_product() {
    let mut server = Server::new();
    let made = server
        .ok("product.template/create", r#"{"vals_list": [{"name": "Lamp", "default_code": "L-1", "list_price": 25}]}"#);
    assert_eq!(made.to_string(), "[31]");
    assert_eq!(
        server.found("product.product", r#"{"domain": [["product_tmpl_id", "=", 31], ["default_code", "=", "L-1"]]}"#),
        "[39]"
    );
    assert_eq!(
        server
            .ok(
                "product.product/create",
                r#"{"vals_list": [{"name": "Bulb", "default_code": "B-1", "list_price": 3}]}"#
            )
            .to_string(),
        "[40]"
    );
    assert_eq!(
        server.found("product.template", r#"{"domain": [["name", "=", "Bulb"], ["default_code", "=", "B-1"]]}"#),
        "[32]"
    );
    server.moment.now = server.moment.now.plus(Duration::from_secs(60));
    server.ok("product.product/write", r#"{"ids": [40], "vals": {"name": "Bulb E27"}}"#);
    for model in ["product.product", "product.template"] {
        let read = r#"{"domain": [["name", "=", "Bulb E27"]], "fields": ["write_date"], "limit": 1}"#;
        assert!(
            server.ok(&format!("{model}/search_read"), read).to_string().contains("2026-11-02 09:16:30"),
            "{model}"
        );
    }
}

#[test]
fn dates_hide_the_fraction_that_they_have() {
    let mut server = Server::new();
    server.ok("res.partner/write", r#"{"ids": [41], "vals": {"phone": "2"}}"#);
    let cases = [
        (r#"["write_date", "=", "2026-11-02 09:15:30"]"#, "[]"),
        (r#"["write_date", ">", "2026-11-02 09:15:30"]"#, "[41]"),
        (r#"["write_date", "<=", "2026-11-02 09:15:30"], ["write_date", ">", "2026-11-02 00:00:00"]"#, "[]"),
        (r#"["write_date", ">=", "2026-11-02 09:15:30"], ["write_date", "<", "2026-11-02 09:15:31"]"#, "[41]"),
    ];
    for (domain, expected) in cases {
        assert_eq!(server.found("res.partner", &format!(r#"{{"domain": [{domain}]}}"#)), expected, "{domain}");
    }
    assert_eq!(
        server.json2("sale.order/write", r#"{"ids": [5002], "vals": {"commitment_date": "2026-11-02T09:00:00"}}"#).0,
        500
    );
}

#[test]
fn a_transaction_that_lasts_is_dated_by_its_beginning() {
    let mut server = Server::of(&laid(&[("slow", r#"{"one_in": 1, "seconds": 480}"#)]));
    server.ok("res.partner/write", r#"{"ids": [41], "vals": {"phone": "2"}}"#);
    let late =
        r#"{"domain": [["write_date", ">=", "2026-11-02 09:07:00"], ["write_date", "<", "2026-11-02 09:15:30"]]}"#;
    assert_eq!(server.found("res.partner", late), "[41]");
}

#[test]
fn a_write_that_others_are_in_the_way_of_writes_nothing() {
    let mut server = Server::of(&laid(&[("contended", "1")]));
    let (status, body) = server.json2("res.partner/create", r#"{"vals_list": [{"name": "x"}]}"#);
    assert_eq!((status, body.get("name")), (500, Some(&Value::from("psycopg2.errors.SerializationFailure"))));
    let fault = server.execute(r#""res.partner", "write", [[41], {"name": "x"}]"#).to_string();
    assert!(fault.contains("could not serialize access"), "{fault}");
    assert_eq!(server.found("res.partner", r#"{"domain": [["name", "=", "x"]]}"#), "[]");
}

#[test]
fn nothing_nests_without_end() {
    let mut server = Server::new();
    let signs = vec![r#""!""#; 100_000].join(",");
    let (status, body) = server.json2("res.partner/search", &format!(r#"{{"domain": [{signs}, ["id", "=", 1]]}}"#));
    assert_eq!((status, body.get("name")), (500, Some(&Value::from("builtins.RecursionError"))));
    // Rows that hold one another go together.
    server.ok("res.partner.category/write", r#"{"ids": [1], "vals": {"parent_id": 3}}"#);
    server.ok("res.partner.category/unlink", r#"{"ids": [1]}"#);
    assert_eq!(server.found("res.partner.category", r#"{"domain": []}"#), "[4]");
    let read = server.ok("res.partner/read", r#"{"ids": [41], "fields": ["category_id"]}"#);
    assert_eq!(read.to_string(), r#"[{"id":41,"category_id":[]}]"#);
    server.ok("product.category/write", r#"{"ids": [1], "vals": {"parent_id": 3}}"#);
    server.ok("product.category/read", r#"{"ids": [1]}"#);
    let ring = server.found("product.category", r#"{"domain": [["id", "child_of", [1]]], "order": "id"}"#);
    assert_eq!(ring, "[1,2,3,4]");
}

#[test]
fn json2_says_what_is_wrong_by_its_status() {
    let mut server = Server::new();
    let (missing, broken) = ("odoo.exceptions.MissingError", "builtins.ValueError");
    let (none, wrong) = ("werkzeug.exceptions.NotFound", "werkzeug.exceptions.UnprocessableEntity");
    let cases = [
        (KEY, "res.partnerr/read", "{}", 404, none, "the model 'res.partnerr' does not exist"),
        (KEY, "res.partner/nope", "{}", 404, none, "The method 'res.partner.nope' does not exist"),
        (KEY, "res.partner/_write", "{}", 404, none, "Private methods"),
        (KEY, "res.partner", "{}", 404, none, "Did you mean POST /json/2/<model>/<method>?"),
        (KEY, "a/b/c", "{}", 404, none, "Did you mean POST /json/2/<model>/<method>?"),
        (
            KEY,
            "res.partner/search",
            r#"{"ids": [1], "domain": []}"#,
            422,
            wrong,
            "cannot call res.partner.search with ids",
        ),
        (
            KEY,
            "res.partner/search_count",
            r#"{"domain": [], "bogus": 1}"#,
            422,
            wrong,
            "got an unexpected keyword argument 'bogus'",
        ),
        (KEY, "res.partner/search", "{}", 422, wrong, "missing a required argument: 'domain'"),
        (KEY, "res.partner/search", "[]", 422, wrong, "the body is an object"),
        (KEY, "res.partner/create", r#"{"vals_list": [7]}"#, 422, wrong, "'vals_list'"),
        (KEY, "sale.order/action_confirm", r#"{"ids": [5001], "x": 1}"#, 422, wrong, "unexpected keyword argument 'x'"),
        (
            KEY,
            "res.partner/read",
            r#"{"ids": [1], "fields": ["nope"]}"#,
            500,
            broken,
            "Invalid field 'nope' on model 'res.partner'",
        ),
        (KEY, "sale.order.line/search", r#"{"domain": [["tax_percent", "=", 1]]}"#, 500, broken, "Invalid field"),
        (KEY, "res.partner/create", r#"{"vals_list": [{"nope": 1}]}"#, 500, broken, "Invalid field 'nope'"),
        (
            KEY,
            "sale.order/write",
            r#"{"ids": [5002], "vals": {"state": "odd"}}"#,
            500,
            broken,
            "Wrong value for sale.order.state: 'odd'",
        ),
        (KEY, "res.partner/write", r#"{"ids": [1], "vals": {"customer_rank": "x"}}"#, 500, broken, "invalid literal"),
        (
            KEY,
            "res.partner/write",
            r#"{"ids": [99999], "vals": {}}"#,
            404,
            missing,
            "Record does not exist or has been deleted.",
        ),
        (
            READER,
            "res.partner/create",
            r#"{"vals_list": [{"name": "x"}]}"#,
            403,
            "odoo.exceptions.AccessError",
            "You are not allowed to create 'Contact' (res.partner) records.",
        ),
        (READER, "sale.order/action_confirm", r#"{"ids": [5002]}"#, 403, "odoo.exceptions.AccessError", "modify"),
        ("no", "res.partner/read", "{}", 401, "werkzeug.exceptions.Unauthorized", "Invalid apikey"),
        (
            "72756e206f7574206b65792068657265",
            "res.partner/read",
            "{}",
            401,
            "werkzeug.exceptions.Unauthorized",
            "Invalid apikey",
        ),
    ];
    for (key, path, body, status, name, message) in cases {
        let (found, answer) = server.json2_by(key, path, body);
        assert_eq!((found, answer.get("name").unwrap().to_text().as_str()), (status, name), "{path} {body}: {answer}");
        assert!(answer.get("message").unwrap().to_text().contains(message), "{path} {body}: {answer}");
        let keys: Vec<&str> = answer.as_map().unwrap().keys().map(|key| &**key).collect();
        assert_eq!(keys, ["name", "message", "arguments", "context", "debug"]);
    }
    let get = Received::new("GET", "/json/2/res.partner/read").with_header("authorization", &format!("Bearer {KEY}"));
    assert_eq!(server.ask(&get).status, 404);
    let mut damaged =
        Received::new("POST", "/json/2/res.partner/read").with_header("authorization", &format!("Bearer {KEY}"));
    damaged.body = b"{".to_vec();
    assert_eq!(server.ask(&damaged).status, 400);
    let bare = server.ask(&Received::new("POST", "/json/2/res.partner/read"));
    assert_eq!((bare.status, bare.header("www-authenticate")), (401, Some("bearer")));
    assert!(server.family.answer(&Received::new("GET", "/other"), &mut server.moment).is_none());
    let version = server.ask(&Received::new("GET", "/web/version"));
    assert_eq!(String::from_utf8(version.body).unwrap(), r#"{"version_info":[19,0,0,"final",0,""],"version":"19.0"}"#);
}

#[test]
fn xml_rpc_lets_in_and_says_faults_by_their_codes() {
    let mut server = Server::new();
    let login = |server: &mut Server, params: &str| server.xml("/xmlrpc/2/common", "authenticate", params).to_string();
    assert_eq!(login(&mut server, &format!(r#"["sandbox", "bot@acme.test", "{KEY}", {{}}]"#)), r#"{"value":7}"#);
    assert_eq!(login(&mut server, r#"["sandbox", "admin", "admin", {}]"#), r#"{"value":2}"#);
    assert_eq!(login(&mut server, r#"["sandbox", "admin", "x", {}]"#), r#"{"value":false}"#);
    assert_eq!(login(&mut server, &format!(r#"["sandbox", "admin", "{KEY}", {{}}]"#)), r#"{"value":false}"#);
    assert!(login(&mut server, r#"["other", "admin", "admin", {}]"#).contains("database \\\"other\\\" does not exist"));
    let version = server.xml("/xmlrpc/2/common", "version", "[]").to_string();
    assert!(version.contains(r#""server_version":"19.0","server_version_info":[19,0,0,"final",0,""]"#), "{version}");
    let answers = [
        (
            r#""res.partner", "search_read", [[["id", "=", 42]]], {"fields": ["name", "email", "country_id"], "limit": 1}"#,
            r#"{"value":[{"id":42,"name":"Deco Addict","email":false,"country_id":[233,"United States"]}]}"#,
        ),
        (r#""res.partner", "search", [[["id", "<", 5]], 1, 1, "id"]"#, r#"{"value":[3]}"#),
        (r#""res.partner", "read", [[42], ["name"]]"#, r#"{"value":[{"id":42,"name":"Deco Addict"}]}"#),
        (r#""res.partner", "read", [42, ["name"]]"#, r#"{"value":[{"id":42,"name":"Deco Addict"}]}"#),
        (r#""res.partner", "create", [{"name": "One"}]"#, r#"{"value":1062}"#),
        (r#""res.partner", "create", [[{"name": "Two"}, {"name": "Three"}]]"#, r#"{"value":[1063,1064]}"#),
        (r#""res.partner", "create", [], {"vals_list": {"name": "Four"}}"#, r#"{"value":1065}"#),
        (r#""res.partner", "write", [[1062], {"name": "Uno"}]"#, r#"{"value":true}"#),
        (r#""res.partner", "unlink", [[1062]]"#, r#"{"value":true}"#),
        (
            r#""res.partner", "search_count", [[["active", "=", false]]], {"context": {"active_test": false}}"#,
            r#"{"value":3}"#,
        ),
    ];
    for (call, expected) in answers {
        assert_eq!(server.execute(call).to_string(), expected, "{call}");
    }
    let faults = [
        (r#""res.partnerr", "read", [[1]]"#, 2, "Object res.partnerr doesn't exist"),
        (r#""res.partner", "unlink", [[1062]]"#, 2, "Record does not exist or has been deleted."),
        (r#""sale.order", "action_confirm", [[5001]]"#, 2, "not in a state requiring confirmation"),
        (r#""res.partner", "_x", [[1]]"#, 4, "Private methods (such as 'res.partner._x') cannot be called remotely."),
        (r#""res.partner", "nope", [[1]]"#, 1, "AttributeError: The method 'res.partner.nope' does not exist\n"),
        (r#""res.partner", "read", [[1], ["nope"]]"#, 1, "ValueError: Invalid field 'nope' on model 'res.partner'\n"),
        (r#""res.partner", "search", []"#, 1, "TypeError: missing a required argument: 'domain'\n"),
        (r#""res.partner", "search", [[], 0, 1, "id", 5]"#, 1, "TypeError"),
        (r#""res.partner", "search", [[]], {"domain": []}"#, 1, "multiple values"),
        (r#""res.partner", "write", []"#, 1, "TypeError"),
    ];
    for (call, code, text) in faults {
        let answer = server.execute(call);
        let fault = answer.get("fault").unwrap_or_else(|| panic!("{call}: {answer}"));
        assert_eq!(fault.get("code"), Some(&Value::from(code)), "{call}: {answer}");
        let said = fault.get("string").unwrap().to_text();
        assert!(said.contains(text), "{call}: {answer}");
        assert_eq!(code == 1, said.starts_with("Traceback (most recent call last):\n"), "{call}");
    }
    let denied = server.xml("/xmlrpc/2/object", "execute_kw", r#"["sandbox", 7, "x", "res.partner", "read", [[1]]]"#);
    assert_eq!(denied.to_string(), r#"{"fault":{"code":3,"string":"Access Denied"}}"#);
    let reader = format!(r#"["sandbox", 8, "{READER}", "res.partner", "unlink", [[41]]]"#);
    let refused = server.xml("/xmlrpc/2/object", "execute_kw", &reader).to_string();
    assert!(refused.contains(r#""code":4"#), "{refused}");
    let mut damaged = Received::new("POST", "/xmlrpc/2/object");
    damaged.body = b"<x".to_vec();
    let damaged = server.ask(&damaged);
    assert!(damaged.status == 200 && String::from_utf8(damaged.body).unwrap().contains("ExpatError"));
    assert_eq!(server.ask(&Received::new("GET", "/xmlrpc/2/common")).status, 405);
}

#[test]
fn a_method_that_returns_nothing_commits_and_then_faults() {
    let mut server = Server::new();
    let answer = server.execute(r#""account.move", "action_post", [[9]]"#).to_string();
    assert!(answer.contains("TypeError: cannot marshal None unless allow_none is enabled"), "{answer}");
    let read =
        server.ok("account.move/read", r#"{"ids": [9], "fields": ["state", "name", "invoice_date", "amount_total"]}"#);
    assert_eq!(
        read.to_string(),
        r#"[{"id":9,"state":"posted","name":"INV/2026/00009","invoice_date":"2026-11-02","amount_total":2377.62}]"#
    );
    assert_eq!(server.ok("account.move/button_draft", r#"{"ids": [9]}"#), Value::Null);
}

#[test]
fn the_first_path_of_xml_rpc_has_texts_as_codes() {
    let mut server = Server::new();
    let call = |server: &mut Server, rest: &str| {
        let params = format!("[\"sandbox\", 7, \"{KEY}\", {rest}]");
        server.xml("/xmlrpc/object", "execute_kw", &params).get("fault").unwrap().get("code").unwrap().to_text()
    };
    assert_eq!(
        call(&mut server, r#""sale.order", "unlink", [[99]]"#).split('\n').next(),
        Some("warning -- MissingError")
    );
    assert_eq!(
        call(&mut server, r#""res.partner", "read", [[1], ["nope"]]"#),
        "Invalid field 'nope' on model 'res.partner'"
    );
    assert_eq!(call(&mut server, r#""res.partner", "_x", [[1]]"#).split('\n').next(), Some("warning -- AccessError"));
    let login = format!(r#"["sandbox", "bot@acme.test", "{KEY}"]"#);
    assert_eq!(server.xml("/xmlrpc/common", "login", &login).to_string(), r#"{"value":7}"#);
}

#[test]
fn json_rpc_serves_the_same() {
    let mut server = Server::new();
    let mut call = |service: &str, method: &str, args: &str| {
        let params = format!(r#"{{"service": "{service}", "method": "{method}", "args": {args}}}"#);
        let body = format!(r#"{{"jsonrpc": "2.0", "method": "call", "id": 5, "params": {params}}}"#);
        let reply = server.ask(&Received::new("POST", "/jsonrpc").with_json(&value(&body)));
        assert_eq!(reply.status, 200);
        String::from_utf8(reply.body).unwrap()
    };
    let login = format!(r#"["sandbox", "bot@acme.test", "{KEY}"]"#);
    assert_eq!(call("common", "login", &login), r#"{"jsonrpc":"2.0","id":5,"result":7}"#);
    assert_eq!(
        call("common", "login", r#"["sandbox", "bot@acme.test", "x"]"#),
        r#"{"jsonrpc":"2.0","id":5,"result":false}"#
    );
    let read = format!(r#"["sandbox", 7, "{KEY}", "res.partner", "read", [42], ["name"]]"#);
    assert_eq!(
        call("object", "execute", &read),
        r#"{"jsonrpc":"2.0","id":5,"result":[{"id":42,"name":"Deco Addict"}]}"#
    );
    let post = format!(r#"["sandbox", 7, "{KEY}", "account.move", "action_post", [[9]]]"#);
    assert_eq!(call("object", "execute_kw", &post), r#"{"jsonrpc":"2.0","id":5}"#);
    let error =
        call("object", "execute_kw", &format!(r#"["sandbox", 7, "{KEY}", "res.partner", "read", [[1], ["nope"]]]"#));
    assert!(
        error.contains(r#""error":{"code":0,"message":"Odoo Server Error","data":{"name":"builtins.ValueError""#),
        "{error}"
    );
    assert!(call("db", "list", "[]").contains("AccessDenied"));
    assert!(call("object", "nope", &post).contains("NameError"));
    let mut damaged = Received::new("POST", "/jsonrpc");
    damaged.body = b"{".to_vec();
    assert_eq!(server.ask(&damaged).status, 400);
}

#[test]
fn rows_are_loaded_by_external_ids() {
    let mut server = Server::new();
    let load = |server: &mut Server, model: &str, fields: &str, data: &str| {
        server.ok(&format!("{model}/load"), &format!(r#"{{"fields": {fields}, "data": {data}}}"#)).to_string()
    };
    let fields = r#"["id", "name", "country_id/id", "is_company", "category_id"]"#;
    let rows =
        r#"[["shop.c1", "Northwind", "base.de", "1", "Customer,Wholesale"], ["c2", "Southwind", "base.us", "", ""]]"#;
    assert_eq!(load(&mut server, "res.partner", fields, rows), r#"{"ids":[1062,1063],"messages":[],"nextrow":0}"#);
    let again = r#"[["shop.c1", "Northwind 2", "", "0", ""]]"#;
    assert_eq!(load(&mut server, "res.partner", fields, again), r#"{"ids":[1062],"messages":[],"nextrow":0}"#);
    let read = r#"{"ids": [1062, 1063], "fields": ["name", "country_id", "is_company"]}"#;
    assert_eq!(
        server.ok("res.partner/read", read).to_string(),
        r#"[{"id":1062,"name":"Northwind 2","country_id":false,"is_company":false},{"id":1063,"name":"Southwind","country_id":[233,"United States"],"is_company":false}]"#
    );
    let names = server.ok("res.partner/get_metadata", r#"{"ids": [1063]}"#).to_string();
    assert!(names.contains(r#""xmlid":"__import__.c2""#), "{names}");
    // A document and its lines; the second row brings a further line.
    let fields =
        r#"["id", "partner_id/.id", "client_order_ref", "order_line/product_id", "order_line/product_uom_qty"]"#;
    let rows =
        r#"[["shop.o1", "41", "R-1", "[TG11] Standing Desk", "2"], ["", "", "", "[E-COM07] Large Cabinet", "1.5"]]"#;
    assert_eq!(load(&mut server, "sale.order", fields, rows), r#"{"ids":[5018],"messages":[],"nextrow":0}"#);
    let total = server.ok("sale.order/read", r#"{"ids": [5018], "fields": ["amount_untaxed"]}"#).to_string();
    assert_eq!(total, r#"[{"id":5018,"amount_untaxed":2478.0}]"#);
    let wrong = [
        (r#"["name", "nope"]"#, r#"[["x", "y"]]"#, "Unknown field 'nope'"),
        (r#"["name", "country_id/code"]"#, r#"[["x", "DE"]]"#, "Unknown sub-field 'code'"),
        (
            r#"["name", "country_id"]"#,
            r#"[["x", "Atlantis"]]"#,
            "No matching record found for name 'Atlantis' in field 'Country'",
        ),
        (r#"["name", "country_id/id"]"#, r#"[["x", "base.xx"]]"#, "No matching record found for external id 'base.xx'"),
        (r#"["name", "is_company"]"#, r#"[["x", "maybe"]]"#, "Unknown value 'maybe' for boolean field"),
        (r#"["name", "type"]"#, r#"[["x", "maybe"]]"#, "Value 'maybe' not found in selection field"),
        (r#"["name", "customer_rank"]"#, r#"[["x", "many"]]"#, "does not seem to be a number"),
        (r#"["name", "vat"]"#, r#"[["x", "DE123456789"]]"#, "a partner with this VAT exists"),
    ];
    for (fields, rows, expected) in wrong {
        let answer = load(&mut server, "res.partner", fields, rows);
        assert!(answer.starts_with(r#"{"ids":false,"#) && answer.contains(expected), "{fields} {rows}: {answer}");
    }
    // What is deleted has no name any more, and is made anew.
    server.ok("res.partner/unlink", r#"{"ids": [1063]}"#);
    assert!(
        load(&mut server, "res.partner", r#"["id", "name"]"#, r#"[["__import__.c2", "Again"]]"#).contains("[1064]")
    );
}

#[test]
fn keys_are_made_revoked_and_run_out() {
    let mut server = Server::new();
    let generate = |until: &str| {
        format!(r#"{{"key": "{KEY}", "scope": "rpc", "name": "pipewright", "expiration_date": {until}}}"#)
    };
    let (new, path) =
        (server.ok("res.users.apikeys/generate", &generate(r#""2027-01-15""#)), "res.users.apikeys/generate");
    let new = new.to_text();
    assert_eq!(new.len(), 40);
    assert_eq!(server.json2_by(&new, "res.users/context_get", "{}").1.get("uid"), Some(&Value::from(7)));
    assert_eq!(server.json2(path, &generate(r#""2027-02-15""#)).0, 422, "longer than three months");
    assert_eq!(server.json2(path, &generate("false")).0, 422);
    let foreign = generate(r#""2027-01-15""#).replace(KEY, "x");
    assert_eq!(server.json2(path, &foreign).0, 403);
    for _ in 0..8 {
        server.ok(path, &generate(r#""2027-01-15""#));
    }
    assert_eq!(server.json2(path, &generate(r#""2027-01-15""#)).0, 422, "more than ten");
    assert_eq!(server.ok("res.users.apikeys/revoke", &format!(r#"{{"key": "{new}"}}"#)), Value::Null);
    assert_eq!(server.json2_by(&new, "res.users/context_get", "{}").0, 401);
    assert_eq!(server.json2("res.users.apikeys/revoke", &format!(r#"{{"key": "{new}"}}"#)).0, 403);
    let next = server.ok(path, &generate(r#""2027-01-15""#)).to_text();
    server.moment.now = "2027-01-16T00:00:00Z".parse().unwrap();
    assert_eq!(server.json2_by(&next, "res.users/context_get", "{}").0, 401);
}

#[test]
fn several_databases_need_the_header() {
    let mut server = Server::of(&laid(&[("hosted", r#"["other"]"#)]));
    let request =
        Received::new("POST", "/json/2/res.users/context_get").with_header("authorization", &format!("bearer {KEY}"));
    let with = |name: &str| request.clone().with_header("X-Odoo-Database", name);
    assert_eq!(server.ask(&request).status, 404);
    assert_eq!(server.ask(&with("sandbox")).status, 200);
    assert_eq!(server.ask(&with("nope")).status, 404);
}

#[test]
fn methods_are_described_for_programs() {
    let mut server = Server::new();
    let request =
        Received::new("GET", "/doc-bearer/sale.order.json").with_header("authorization", &format!("bearer {KEY}"));
    let reply = server.ask(&request);
    let page = value(&String::from_utf8(reply.body).unwrap());
    let method = |name: &str| page.get("methods").unwrap().get(name).unwrap().clone();
    let names = |method: &Value| {
        method.get("parameters").unwrap().as_map().unwrap().keys().map(|key| key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&method("search")), ["domain", "offset", "limit", "order"]);
    assert_eq!(method("search").get("api").unwrap().to_string(), r#"["model"]"#);
    assert_eq!(method("action_confirm").get("api").unwrap().to_string(), "[]");
    assert!(page.get("fields").unwrap().get("order_line").is_some());
    assert_eq!(server.ask(&Received::new("GET", "/doc-bearer/sale.order.json")).status, 401);
}

#[test]
fn rows_are_shown_and_replaced_from_outside() {
    let mut server = Server::new();
    let rows = [value(r#"{"id": 7, "name": "Only", "code": "ON"}"#)];
    server.family.load("res.country", &rows).unwrap();
    assert_eq!(server.found("res.country", r#"{"domain": []}"#), "[7]");
    let state = server.family.state();
    let countries = state.get("res.country").unwrap().as_list().unwrap();
    assert_eq!((countries.len(), countries[0].get("code")), (1, Some(&Value::from("ON"))));
    assert_eq!(server.family.load("nope", &[]).unwrap_err(), "there is no model `nope`");
    let wrong = [value(r#"{"nope": 1}"#)];
    assert_eq!(server.family.load("res.country", &wrong).unwrap_err(), "there is no field `nope`");
    let wrong = [value(r#"{"phone_code": "x"}"#)];
    assert!(server.family.load("res.country", &wrong).unwrap_err().starts_with("field `phone_code`"));
}

#[test]
fn settings_that_cannot_be_are_told() {
    let cases = [
        (r#"{"a": {"title": "A", "fields": {"x": "odd"}}}"#, "model `a`: field `x`: there is no type `odd`"),
        (r#"{"a": {"title": "A", "fields": {"x": "many2one"}}}"#, "field `x` of `a` needs a `relation`"),
        (r#"{"a": {"title": "A", "fields": {"x": {"type": "many2one", "relation": "b"}}}}"#, "there is no model `b`"),
        (r#"{"a": {"title": "A", "fields": {"x": {"type": "char", "compute": "{{ row. }}"}}}}"#, "field `x`"),
        (r#"{"a": {"title": "A", "fields": {}, "rows": [{"y": 1}]}}"#, "model `a`: there is no field `y`"),
        (r#"{"a": {"title": "A", "fields": {}, "odd": 1}}"#, "unknown field `odd`"),
    ];
    let users = r#""res.users": {"title": "U", "fields": {"name": "char"}}"#;
    for (models, expected) in cases {
        let models = format!("{{{users}, {}", models.strip_prefix('{').unwrap());
        let error = super::super::make("object_rpc", &laid(&[("models", &models)])).unwrap_err();
        assert!(error.contains(expected), "{models}: {error}");
    }
    assert!(super::super::make("object_rpc", &laid(&[("since", "\"soon\"")])).unwrap_err().contains("since"));
    assert_eq!(super::super::make("nope", &Value::Null).unwrap_err(), "there is no family `nope`");
}

proptest! {
    #[test]
    fn damaged_requests_never_panic(
        json in samples::mutated(br#"{"domain":["|",["name","ilike","a%"],["country_id.code","in",["DE"]]],"fields":["name"],"order":"name desc","limit":2}"#.to_vec()),
        rows in samples::mutated(br#"{"ids":[41],"vals":{"category_id":[[6,0,[1]],[0,0,{"name":"x"}]],"credit_limit":1.5,"name":"x"}}"#.to_vec()),
        xml in samples::mutated(xmlrpc::encode(&value(r#"{"method":"execute_kw","params":["sandbox",2,"admin","sale.order","write",[[5002],{"date_order":"2026-01-01 00:00:00"}]]}"#)).unwrap().bytes),
    ) {
        let mut server = Server::new();
        for (path, body) in [("/json/2/res.partner/search_read", &json), ("/json/2/res.partner/write", &rows), ("/xmlrpc/2/object", &xml)] {
            let mut request = Received::new("POST", path).with_header("authorization", &format!("bearer {KEY}"));
            request.body.clone_from(body);
            server.ask(&request);
        }
    }
}

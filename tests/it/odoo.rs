//! Every operation of the connector `odoo`, over both of its transports, rehearsed against its stand-in.

use crate::support::shell::Shell;

const CONNECTIONS: &str = r#"connections:
  new: { connector: odoo, url: "https://erp.example.com", database: sandbox, page: 25, auth: { login: l, api_key: k } }
  old: { connector: odoo, url: "https://erp.example.com", database: sandbox, page: 25, api: xmlrpc, auth: { login: l, api_key: k } }
"#;

/// `NAME` is the connection; steps that are expected to fail go on.
const STEPS: &str = r#"steps:
  me: { uses: odoo.me, with: { connection: NAME } }
  version: { uses: odoo.version, needs: [me], with: { connection: NAME } }
  fields: { uses: odoo.fields, needs: [version], with: { connection: NAME, model: res.partner, names: [name, country_id, gone] } }
  search: { uses: odoo.search, needs: [fields], with: { connection: NAME, model: res.partner, domain: [[is_company, "=", true], [city, "=", Pleasant Hill]], fields: [name, email, country_id, write_date], types: { email: char, country_id: many2one, write_date: datetime } } }
  pages: { uses: odoo.search, needs: [search], with: { connection: NAME, model: res.partner, fields: [name], context: { active_test: false } } }
  changes: { uses: odoo.changes, needs: [pages], with: { connection: NAME, model: product.product, fields: [default_code] } }
  get: { uses: odoo.get, needs: [changes], with: { connection: NAME, model: sale.order, id: 5017, fields: [name, partner_id, amount_total, date_order, note], types: { partner_id: many2one, amount_total: monetary, date_order: datetime, note: html } } }
  none: { uses: odoo.get, needs: [get], on_error: continue, with: { connection: NAME, model: sale.order, id: 1 } }
  find: { uses: odoo.find, needs: [none], with: { connection: NAME, model: sale.order } }
  count: { uses: odoo.count, needs: [find], with: { connection: NAME, model: res.partner, domain: ["|", [city, ilike, paris], [country_id.code, "=", NL]] } }
  order: { uses: odoo.create, needs: [count], with: { connection: NAME, model: sale.order, key: client_order_ref, values: { partner_id: 1001, client_order_ref: WEB-NAME, order_line: [[0, 0, { product_id: 33, product_uom_qty: 2, price_unit: 999.00 }]] } } }
  confirm: { uses: odoo.transition, with: { connection: NAME, model: sale.order, method: action_confirm, ids: ["{{ steps.order.output.id }}"], reached: [[state, "=", sale]] } }
  again: { uses: odoo.transition, needs: [confirm], on_error: continue, with: { connection: NAME, model: sale.order, method: action_confirm, ids: ["{{ steps.order.output.id }}"], reached: [[state, "=", sale]] } }
  made: { uses: odoo.get, needs: [again], with: { connection: NAME, model: sale.order, id: "{{ steps.order.output.id }}", fields: [state, amount_total] } }
  partner: { uses: odoo.create, needs: [made], with: { connection: NAME, model: res.partner, key: ref, values: { ref: NEW-NAME, name: New } } }
  write: { uses: odoo.write, with: { connection: NAME, model: res.partner, ids: ["{{ steps.partner.output.id }}"], values: { phone: "+49 40 1", active: false } } }
  wrong: { uses: odoo.write, needs: [write], on_error: continue, with: { connection: NAME, model: res.partner, ids: [57], values: { fone: "1" } } }
  post: { uses: odoo.transition, needs: [wrong], with: { connection: NAME, model: account.move, method: action_post, ids: [9], reached: [[state, "=", posted]] } }
  call: { uses: odoo.call, needs: [post], with: { connection: NAME, model: account.move, method: button_draft, ids: [9] } }
  load: { uses: odoo.upsert, needs: [call], with: { connection: NAME, model: res.partner, fields: [id, name, country_id/id], rows: [[NAME.c1, Northwind, base.de], [NAME.c2, Southwind, base.us]] } }
  reload: { uses: odoo.upsert, needs: [load], with: { connection: NAME, model: res.partner, fields: [id, name], rows: [[NAME.c2, Southwind 2]] } }
  atlantis: { uses: odoo.upsert, needs: [reload], on_error: continue, with: { connection: NAME, model: res.partner, fields: [id, country_id], rows: [[NAME.c1, Atlantis]] } }
  delete: { uses: odoo.delete, needs: [atlantis], with: { connection: NAME, model: res.partner, ids: ["{{ steps.partner.output.id }}"] } }
  gone: { uses: odoo.delete, needs: [delete], with: { connection: NAME, model: res.partner, ids: ["{{ steps.partner.output.id }}"] } }
  odd: { uses: odoo.delete, needs: [gone], on_error: continue, with: { connection: NAME, model: res.partnerr, ids: [57] } }
outputs:
  uid: "{{ steps.me.output.uid }}"
  major: "{{ steps.version.output.major }}"
  types: "{{ steps.fields.output.types }}"
  search: "{{ steps.search.output }}"
  pages: "{{ steps.pages.output | map(attribute='id') | unique | list | length }}"
  changes: "{{ steps.changes.output | length }}"
  get: "{{ steps.get.output }}"
  found: "{{ steps.find.output | length }}"
  count: "{{ steps.count.output.count }}"
  made: "{{ steps.made.output.state }} {{ steps.made.output.amount_total }}"
  again: "{{ steps.reload.output.ids[0] == steps.load.output.ids[1] }}"
  gone: "{{ steps.gone.output.deleted }}"
  errors: "{{ [steps.none.error.message, steps.again.error.message, steps.wrong.error.message, steps.atlantis.error.message, steps.odd.error.message] }}"
"#;

fn rehearsed(name: &str) -> String {
    let shell = Shell::project();
    shell.file("pipewright.yaml", CONNECTIONS);
    shell.file("pipelines/test.yaml", &STEPS.replace("NAME", name));
    let ended = shell.run(&["run", "pipelines/test.yaml", "--sandbox", "--json"]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
    ended.out
}

#[test]
fn every_operation_works_over_both_transports() {
    for name in ["new", "old"] {
        let out = rehearsed(name);
        let expected = [
            r#""uid":7,"major":19,"types":{"name":"char","country_id":"many2one"}"#,
            r#""search":[{"id":42,"name":"Deco Addict","email":null,"country_id":{"id":233,"name":"United States"},"write_date":"2026-01-05T12:19:00Z"}]"#,
            r#""pages":83,"changes":10,"get":{"id":5017,"name":"S05017","partner_id":{"id":1001,"name":"Northwind GmbH"},"amount_total":2377.62,"date_order":"2026-11-02T09:15:30Z","note":null}"#,
            r#""found":7,"count":2,"made":"sale 2377.62","again":true,"gone":true"#,
            "there is no such row",
            "Some orders are not in a state requiring confirmation.",
            "Invalid field 'fone' on model 'res.partner'",
            "No matching record found for name 'Atlantis' in field 'Country'",
            "res.partnerr",
        ];
        for part in expected {
            assert!(out.contains(part), "{name}: {part}\n{out}");
        }
    }
}

#[test]
fn keys_are_made_and_revoked_over_json2_only() {
    let shell = Shell::project();
    shell.file("pipewright.yaml", CONNECTIONS);
    let steps = r#"steps:
  make: { uses: odoo.create_key, with: { connection: new, name: pipewright, until: "{{ (now() + duration('30d')) | date }}" } }
  revoke: { uses: odoo.revoke_key, with: { connection: new, key: "{{ steps.make.output.key }}" } }
outputs: { revoked: "{{ steps.revoke.output.revoked }}" }
"#;
    shell.file("pipelines/test.yaml", steps);
    let ended = shell.run(&["run", "pipelines/test.yaml", "--sandbox", "--json"]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
    assert!(ended.out.contains(r#""revoked":true"#), "{}", ended.out);
}

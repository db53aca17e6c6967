//! Users' databases.

use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::Happened;
use pipewright::model::Map;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::store::external::Databases;
use pipewright::store::external::SqlError;

use super::NOW;
use crate::support::postgres::Server;

const TIME: Duration = Duration::from_secs(20);

async fn execute(url: &str, sql: &str, params: &[Value]) -> Result<u64, SqlError> {
    Databases::default().execute(url, sql, params, TIME).await
}

async fn query(url: &str, sql: &str, params: &[Value]) -> Result<Vec<Map>, SqlError> {
    Databases::default().query(url, sql, params, 1_000, TIME).await
}

async fn failure(url: &str, sql: &str, params: &[Value]) -> (ErrorClass, Happened) {
    let error = execute(url, sql, params).await.unwrap_err();
    (error.class, error.happened)
}

fn json(text: &str) -> Value {
    parse_json(text).unwrap()
}

/// What holds on both.
async fn check_both(url: &str) {
    let made = "CREATE TABLE orders (id BIGINT PRIMARY KEY, note TEXT, paid BOOLEAN, weight DOUBLE PRECISION)";
    execute(url, made, &[]).await.unwrap();
    let insert = "INSERT INTO orders (id, note, paid, weight) VALUES ($1, $2, $3, $4)";
    let hostile = Value::from("'); DROP TABLE orders; --");
    let row = [Value::from(9_007_199_254_740_993_i64), hostile.clone(), Value::from(true), Value::Float(0.5)];
    assert_eq!(execute(url, insert, &row).await.unwrap(), 1);
    assert_eq!(execute(url, insert, &[Value::from(2), Value::Null, Value::Null, Value::Null]).await.unwrap(), 1);
    let rows = query(url, "SELECT id, note, paid, weight FROM orders ORDER BY id DESC", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].values().cloned().collect::<Vec<_>>(), row);
    assert_eq!(rows[0].keys().map(|key| &**key).collect::<Vec<_>>(), ["id", "note", "paid", "weight"]);
    assert!(rows[1].values().skip(1).all(Value::is_null));
    let secret = query(url, "SELECT id FROM orders WHERE note = $1", &[hostile.tainted()]).await.unwrap();
    assert_eq!(secret.len(), 1);
    assert_eq!(execute(url, "UPDATE orders SET note = 'x'", &[]).await.unwrap(), 2);
    // Errors: nothing happened, and the class says why.
    assert_eq!(failure(url, insert, &row).await, (ErrorClass::Conflict, Happened::No));
    assert_eq!(failure(url, "UPDATE nowhere SET x = 1", &[]).await, (ErrorClass::Invalid, Happened::No));
    assert_eq!(failure(url, "nonsense", &[]).await, (ErrorClass::Invalid, Happened::No));
    let several = "DELETE FROM orders; DELETE FROM orders";
    assert_eq!(failure(url, several, &[]).await, (ErrorClass::Invalid, Happened::No));
    assert_eq!(query(url, "DELETE FROM orders", &[]).await.unwrap_err().class, ErrorClass::Invalid);
    assert_eq!(query(url, "SELECT COUNT(*) AS n FROM orders", &[]).await.unwrap()[0]["n"], Value::from(2));
    let two = query(url, "SELECT 1 AS a, 2 AS a", &[]).await.unwrap_err();
    assert!(two.message.contains("two columns are named `a`"), "{two}");
    let databases = Databases::default();
    let most = databases.query(url, "SELECT * FROM orders", &[], 1, TIME).await.unwrap_err();
    assert_eq!(most.class, ErrorClass::Exhausted);
    assert_eq!(databases.query(url, "SELECT * FROM orders", &[], 2, TIME).await.unwrap().len(), 2);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n WHERE i < 0";
    let short = Duration::from_millis(100);
    let late = databases.query(url, endless, &[], 1, short).await.unwrap_err();
    assert_eq!((late.class, late.happened), (ErrorClass::Timeout, Happened::No));
    // The connection is of use afterwards.
    assert_eq!(databases.query(url, "SELECT 1 AS one", &[], 1, TIME).await.unwrap()[0]["one"], Value::from(1));
    let late = format!("UPDATE orders SET id = ({endless})");
    let late = databases.execute(url, &late, &[], short).await.unwrap_err();
    assert_eq!((late.class, late.happened), (ErrorClass::Timeout, Happened::No));
    assert_eq!(databases.execute(url, "UPDATE orders SET note = 'y'", &[], TIME).await.unwrap(), 2);
    // Many rows: all or nothing, and the error names the row.
    let add = "INSERT INTO orders (id, note) VALUES ($1, $2)";
    let rows = |ids: &[i64]| ids.iter().map(|id| vec![Value::from(*id), Value::from("many")]).collect::<Vec<_>>();
    assert_eq!(databases.execute_many(url, add, &rows(&[10, 11, 12]), TIME).await.unwrap(), 3);
    let twice = databases.execute_many(url, add, &rows(&[20, 10]), TIME).await.unwrap_err();
    assert_eq!((twice.class, twice.happened), (ErrorClass::Conflict, Happened::No));
    assert!(twice.message.starts_with("row 1: "), "{twice}");
    let short_row = databases.execute_many(url, add, &[vec![Value::from(30)]], TIME).await;
    assert_eq!(databases.execute_many(url, add, &[], TIME).await.unwrap(), 0);
    let count = "SELECT COUNT(*) AS n FROM orders WHERE note = 'many'";
    assert_eq!(query(url, count, &[]).await.unwrap()[0]["n"], Value::from(3), "{short_row:?}");
}

#[tokio::test]
async fn a_users_sqlite_file_is_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("users.db").display());
    let missing = query(&url, "SELECT 1", &[]).await.unwrap_err();
    assert_eq!(missing.class, ErrorClass::Unavailable);
    check_both(&url).await;
    execute(&url, "CREATE TABLE kinds (moment DATETIME, price TEXT, bytes BLOB, list TEXT)", &[]).await.unwrap();
    let price = json("12345678901234567890.123456789");
    let row = [Value::Time(NOW), price.clone(), Value::Null, json("[1,2]")];
    execute(&url, "INSERT INTO kinds VALUES (?, ?, ?, ?)", &row).await.unwrap();
    execute(&url, "INSERT INTO kinds VALUES ('2026-01-31 09:00:00', 'x', x'00ff', NULL)", &[]).await.unwrap();
    let rows = query(&url, "SELECT * FROM kinds ORDER BY price", &[]).await.unwrap();
    assert_eq!(rows[0]["moment"], Value::Time(NOW));
    assert_eq!(rows[0]["price"], Value::from(price.to_text()));
    assert_eq!(rows[0]["list"], Value::from("[1,2]"));
    assert_eq!(rows[1]["moment"], Value::Time("2026-01-31T09:00:00Z".parse().unwrap()));
    assert_eq!(rows[1]["bytes"], Value::from("\\x00ff"));
    let huge = execute(&url, "INSERT INTO kinds (price) VALUES (?)", &[Value::Int(i128::MAX)]).await.unwrap_err();
    assert_eq!(huge.class, ErrorClass::Invalid);
}

/// The types of PostgreSQL, each there and back.
pub(super) async fn check_postgres(url: &str) {
    check_both(url).await;
    let there_and_back = [
        ("INT2", Value::from(-7)),
        ("INT4", Value::from(7)),
        ("BIGINT", Value::from(i64::MIN)),
        ("NUMERIC", json("12345678901234567890.123456789")),
        ("NUMERIC(60,10)", json("12345678901234567890123456789012345678901234567890.1234567890")),
        ("NUMERIC", json("-0.000010")),
        ("NUMERIC", Value::from("NaN")),
        ("TEXT", Value::from("ä 💥")),
        ("VARCHAR(9)", Value::from("x")),
        ("BOOLEAN", Value::from(false)),
        ("DOUBLE PRECISION", Value::Float(0.1)),
        ("TIMESTAMPTZ", Value::Time(NOW)),
        ("TIMESTAMP", Value::Time(NOW)),
        ("DATE", Value::from("1999-12-31")),
        ("JSONB", json(r#"{"a": [1, 2.50, null, "x"]}"#)),
        ("JSON", json("19999999999999999999.5")),
        ("UUID", Value::from("6f9619ff-8b86-d011-b42d-00cf4fc964ff")),
        ("BYTEA", Value::from("\\x00ff")),
        ("INTERVAL", Value::Duration(Duration::from_secs(5_400))),
        ("BIGINT[]", json("[1,null,3]")),
        ("TEXT[]", json("[]")),
        ("NUMERIC[]", json("[1.50]")),
    ];
    for (kind, value) in there_and_back {
        // NaN is a word that only the server makes a number of.
        let (sql, params) = if value == Value::from("NaN") {
            (format!("SELECT 'NaN'::{kind} AS x"), Vec::new())
        } else {
            (format!("SELECT $1::{kind} AS x"), vec![value.clone()])
        };
        let rows = query(url, &sql, &params).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(rows[0]["x"].to_string(), value.to_string(), "{kind}");
    }
    for (sql, shown) in [
        ("SELECT '1 month 2 days'::INTERVAL AS x", r#""P1M2D""#),
        ("SELECT '09:30:00.5'::TIME AS x", r#""09:30:00.5""#),
        ("SELECT 'infinity'::TIMESTAMPTZ AS x", r#""infinity""#),
        ("SELECT NULL::BIGINT AS x", "null"),
        ("SELECT SUM(i)::NUMERIC AS x FROM generate_series(1, 3) i", "6"),
    ] {
        assert_eq!(query(url, sql, &[]).await.unwrap()[0]["x"].to_string(), shown, "{sql}");
    }
    let wrong = execute(url, "SELECT $1::BIGINT", &[Value::from("hunter2").tainted()]).await.unwrap_err();
    assert_eq!((wrong.class, wrong.happened), (ErrorClass::Invalid, Happened::No));
    assert!(!wrong.message.contains("hunter2"), "{wrong}");
    let count = execute(url, "SELECT $1::BIGINT", &[]).await.unwrap_err();
    assert_eq!(count.message, "the statement takes 1 parameters, found 0");
    execute(url, "CREATE TYPE mood AS ENUM ('calm', 'wild')", &[]).await.unwrap();
    let mood = query(url, "SELECT $1::mood AS x", &[Value::from("wild")]).await.unwrap();
    assert_eq!(mood[0]["x"], Value::from("wild"));
    let unreachable = execute("postgres://x:hunter2@127.0.0.1:1/x", "SELECT 1", &[]).await.unwrap_err();
    assert_eq!((unreachable.class, unreachable.happened), (ErrorClass::Unavailable, Happened::No));
    assert!(!unreachable.message.contains("hunter2"));
}

pub(super) fn check_on(server: &Server, index: usize) {
    let url = server.schema(index);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check_postgres(&url));
}

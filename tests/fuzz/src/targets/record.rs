//! The records of a state that may have been written by anybody, and a proxy that takes them up.

use axum::body::Body;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::backend::Table;
use chaturdata_proxy::store::paces::Learned;
use chaturdata_proxy::store::{Restored, record};
use http::Request;
use http::header::{CONTENT_TYPE, HOST};

use super::proxy::Proxy;

/// The input is records, one after another: the table, the lengths of key and value (two bytes, the
/// low one first), the key, the value.
pub fn record(input: &[u8]) {
    let mut restored = Restored::default();
    let mut rest = input;
    while let Some((table, key, value)) = next(&mut rest) {
        if restored.take(table, key, value).is_ok() {
            written_again(table, key, value);
        }
    }
    if restored.branches.is_empty() && restored.handles.is_empty() && restored.turns.is_empty() {
        return;
    }
    let body =
        r#"{"model": "m", "conversation": "talk", "messages": [{"role": "user", "content": "x"}]}"#;
    let request = Request::post("/v1/chat/completions")
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .expect("these are headers");

    let reply = Proxy::with(|| Access::Sandbox, restored).ask(request);

    assert_ne!(reply.status.as_u16(), 500);
    if !reply.status.is_success() {
        reply.assert_envelope();
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(Table, &'a [u8], &'a [u8])> {
    let ([table, key, low, high], after) = rest.split_first_chunk()?;
    let table = Table::ALL[usize::from(*table) % Table::ALL.len()];
    let (key, after) = after.split_at_checked(usize::from(*key))?;
    let value = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
    let (value, after) = after.split_at(value);
    *rest = after;
    Some((table, key, value))
}

/// What was read and written again is read as the same.
fn written_again(table: Table, key: &[u8], value: &[u8]) {
    const READ: &str = "it was just read";
    match table {
        Table::Branches => {
            let (id, branch, used) = record::read_branch(key, value).expect(READ);
            let written = record::branch(&branch, used).expect("it has a thread");
            let again = record::read_branch(&record::numbered(id.0), &written).expect(READ);
            assert_eq!(format!("{again:?}"), format!("{:?}", (id, branch, used)));
        }
        Table::Handles => {
            let (handle, leads_to) = record::read_handle(key, value).expect(READ);
            let written = record::handle_value(leads_to);
            let key = record::handle_key(handle, leads_to.created);
            assert_eq!(record::read_handle(&key, &written), Ok((handle, leads_to)));
        }
        Table::Turns => {
            let (id, turn) = record::read_turn(key, value).expect(READ);
            let written = record::turn(&turn);
            let again = record::read_turn(&record::numbered(id.0), &written);
            assert_eq!(again, Ok((id, turn)));
        }
        Table::Conversations => {
            let (handle, made) = record::read_conversation(key, value).expect(READ);
            let written = record::conversation_value(made);
            let again = record::read_conversation(&record::conversation_key(&handle), &written);
            assert_eq!(again, Ok((handle, made)));
        }
        Table::Paces => {
            let (key, learned) = Learned::read(key, value).expect(READ);
            let again = Learned::read(&key.0, &record::bytes(&learned)).expect(READ);
            assert_eq!(format!("{again:?}"), format!("{:?}", (key, learned)));
        }
        Table::Passed => {
            let (id, points) = record::read_passed(key, value).expect(READ);
            let again = record::read_passed(key, &record::passed(&points));
            assert_eq!(again, Ok((id, points)));
        }
    }
}

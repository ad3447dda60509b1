//! A batch of events that is sent line by line.

use crate::{Connection, HubProcess, Outcome};

/// What ends it.
pub const BATCH_END: &[u8] = b"0\r\n\r\n";

/// The head of a batch on a connection of its own; lines follow as chunks.
pub fn begin_batch(hub: &HubProcess) -> Outcome<Connection> {
    let mut connection = hub.connect()?;
    let head = format!(
        "POST /.well-known/mercure HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
        hub.publisher_token()?
    );
    connection.send(head.as_bytes())?;
    Ok(connection)
}

/// A line of it: an event with these, which hold nothing that JSON writes in another way.
pub fn send_batch_line(batch: &mut Connection, topic: &str, data: &str) -> Outcome<()> {
    let line = format!("{{\"topic\":\"{topic}\",\"data\":\"{data}\"}}\n");
    batch.send(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())
}

//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), as far as
//! a job's stream uses them: `id`, `data`, comments.

/// What one event may hold, in bytes.
const MAX_EVENT_BYTES: usize = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

/// The stream broke the format or the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Cuts a byte stream into events, however it was cut into chunks.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    partial: Vec<u8>,
    id: Option<String>,
    data: Option<String>,
}

impl Parser {
    /// Takes the next bytes and appends the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), Broken> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let held = self.partial.len() + self.data.as_ref().map_or(0, String::len);
            if held + piece.len() > MAX_EVENT_BYTES {
                return Err(Broken);
            }
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                let line = String::from_utf8(line).map_err(|_| Broken)?;
                items.extend(self.line(line.trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Option<Item> {
        if line.is_empty() {
            let (id, data) = (self.id.take(), self.data.take());
            return data.map(|data| Item { id, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_the_bytes_are_cut_the_events_are_the_same() {
        let text =
            ": hello\n\nid: 1\ndata: {\"é\":1}\n\nid:2\r\ndata:a\r\ndata: b\r\n\r\nevent: x\n\n";
        let item = |id: &str, data: &str| Item { id: Some(id.into()), data: data.into() };
        for size in 1..text.len() {
            let (mut parser, mut items) = (Parser::default(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                parser.push(chunk, &mut items).unwrap();
            }
            assert_eq!(items, [item("1", "{\"é\":1}"), item("2", "a\nb")], "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let (mut parser, mut items) = (Parser::default(), Vec::new());
        let chunk = vec![b'x'; 1 << 20];
        let broken = (0..20).any(|_| parser.push(&chunk, &mut items).is_err());
        assert!(broken && items.is_empty());
    }
}

//! From a Cargo's events to what clients of the API see: stream events and the job's output.

use super::record::{Place, Status, Usage};
use archipelag_protocol::{
    amount::{Credits, MICROCREDITS_PER_CREDIT},
    event::Event,
};
use serde::Serialize;
use serde_json::{json, value::RawValue};

/// An event as a line of the API's stream; `None` for the last one, which is written when it is
/// known how the job ended.
pub(super) fn line(event: &Event) -> Option<String> {
    #[derive(Serialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Line<'a> {
        Status { message: &'a str },
        Token { content: &'a str },
        Progress { step: u64, total: u64 },
        Image { image_data: &'a str, format: &'a str, width: u32, height: u32 },
        Result { data: &'a RawValue },
    }
    let line = match event {
        Event::Status { message } => Line::Status { message },
        Event::Token { content } => Line::Token { content },
        Event::Progress { step, total } => Line::Progress { step: *step, total: *total },
        Event::Image { data, format, width, height } => {
            Line::Image { image_data: data, format, width: *width, height: *height }
        }
        Event::Result { data } => Line::Result { data },
        Event::Done { .. } | Event::Error { .. } => return None,
    };
    serde_json::to_string(&line).ok()
}

/// The line that says where an attempt runs.
pub(super) fn started(place: Place, attempt: u32) -> String {
    json!({
        "type": "status", "message": "running",
        "island": place.island, "host_id": place.node, "attempt": attempt,
    })
    .to_string()
}

/// The line that ends a job's stream.
pub(super) fn last(
    status: Status,
    error: Option<&str>,
    usage: &Usage,
    seed: Option<u64>,
) -> String {
    let usage = usage_json(usage);
    let line = if status == Status::Completed {
        let mut line = json!({ "type": "done", "usage": usage });
        if let Some(seed) = seed {
            line["seed"] = seed.into();
        }
        line
    } else {
        let error = error.unwrap_or_default();
        json!({ "type": "error", "status": status.name(), "error": error, "message": error, "usage": usage })
    };
    line.to_string()
}

/// `usage` as the API has it.
pub(crate) fn usage_json(usage: &Usage) -> serde_json::Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "credits_used": credits(usage.charged),
    })
}

/// An amount as the API has it: a number of credits. Exact up to 9 billion credits.
pub(crate) fn credits(amount: Credits) -> serde_json::Value {
    let (whole, part) =
        (amount.micro() / MICROCREDITS_PER_CREDIT, amount.micro() % MICROCREDITS_PER_CREDIT);
    if part == 0 {
        json!(whole)
    } else {
        json!(amount.micro() as f64 / MICROCREDITS_PER_CREDIT as f64)
    }
}

/// Gathers a job's output from its events: text when it streams tokens, else the last image, else
/// its result (a list when there are several).
#[derive(Debug, Default)]
pub(super) struct Gathered {
    text: Option<String>,
    image: Option<(String, String, u32, u32)>,
    results: Vec<Box<RawValue>>,
    pub(super) usage: Option<archipelag_protocol::event::Usage>,
    pub(super) seed: Option<u64>,
}

impl Gathered {
    pub(super) fn add(&mut self, event: Event) {
        match event {
            Event::Token { content } => self.text.get_or_insert_default().push_str(&content),
            Event::Image { data, format, width, height } => {
                self.image = Some((data, format, width, height));
            }
            Event::Result { data } => self.results.push(data),
            Event::Done { usage, seed } => (self.usage, self.seed) = (usage, seed),
            Event::Status { .. } | Event::Progress { .. } | Event::Error { .. } => {}
        }
    }

    pub(super) fn output(self) -> Option<String> {
        if self.text.is_some() {
            return self.text;
        }
        if let Some((image_data, format, width, height)) = self.image {
            let seed = self.seed;
            let image = json!({
                "image_data": image_data, "format": format,
                "width": width, "height": height, "seed": seed,
            });
            return Some(image.to_string());
        }
        match &self.results[..] {
            [] => None,
            [one] => Some(one.get().to_owned()),
            several => serde_json::to_string(several).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(lines: &[&str]) -> Option<String> {
        let mut gathered = Gathered::default();
        for line in lines {
            gathered.add(Event::parse(line.as_bytes()).unwrap());
        }
        gathered.output()
    }

    #[test]
    fn output_is_text_or_image_or_result() {
        let token = |c: &str| format!(r#"{{"type":"token","content":"{c}"}}"#);
        assert_eq!(
            gather(&[&token("a"), &token("b"), r#"{"type":"done"}"#]).as_deref(),
            Some("ab")
        );
        let result = r#"{"type":"result","data":{"n":1e2}}"#;
        assert_eq!(gather(&[result]).as_deref(), Some(r#"{"n":1e2}"#));
        assert_eq!(gather(&[result, result]).as_deref(), Some(r#"[{"n":1e2},{"n":1e2}]"#));
        assert_eq!(gather(&[r#"{"type":"status","message":"m"}"#]), None);
        let image = gather(&[
            r#"{"type":"image","data":"aGk=","format":"png","width":1,"height":2}"#,
            r#"{"type":"done","seed":7}"#,
        ]);
        let image: serde_json::Value = serde_json::from_str(&image.unwrap()).unwrap();
        assert_eq!(
            image,
            json!({ "image_data": "aGk=", "format": "png", "width": 1, "height": 2, "seed": 7 })
        );
    }

    #[test]
    fn lines_have_the_apis_field_names() {
        let image = Event::Image { data: "x".into(), format: "png".into(), width: 1, height: 2 };
        assert_eq!(
            line(&image).unwrap(),
            r#"{"type":"image","image_data":"x","format":"png","width":1,"height":2}"#
        );
        assert!(line(&Event::Done { usage: None, seed: None }).is_none());
    }
}

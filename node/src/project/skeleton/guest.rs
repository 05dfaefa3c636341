//! One JSON object on stdin, JSON Lines on stdout. The last line is `done` or `error`.

use serde_json::{Value, json};

fn main() {
    let last = match run() {
        Ok(data) => {
            println!("{}", json!({ "type": "result", "data": data }));
            json!({ "type": "done" })
        }
        Err(message) => json!({ "type": "error", "message": message }),
    };
    println!("{last}");
}

fn run() -> Result<Value, String> {
    let input: Value = serde_json::from_reader(std::io::stdin()).map_err(|e| e.to_string())?;
    let name = input["name"].as_str().ok_or("name: not a text")?;
    Ok(json!({ "greeting": format!("Hello, {name}!") }))
}

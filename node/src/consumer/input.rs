//! A job's input as people write it.

use serde_json::{Number, Value};

/// Writes whole numbers without fraction or exponent, as RFC 8785 does: a schema's `integer` takes
/// `5.0`, and a Cargo that reads an integer does not. To be used on what comes from outside, before
/// anything is counted or hashed.
#[must_use]
pub fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => whole(&number).map_or(Value::Number(number), Value::from),
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

/// The whole number that a JSON number such as `5.0` or `1e1` is; `None` for one that is written as
/// such already, or is too large to be exact.
#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
fn whole(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_written_as_such() {
        let input = r#"{"a":[5.0,1e1,-0.0,1.5],"b":{"c":1e300,"d":7,"e":"5.0"}}"#;
        let input = whole_numbers(serde_json::from_str(input).unwrap());
        let expected = r#"{"a":[5,10,0,1.5],"b":{"c":1e+300,"d":7,"e":"5.0"}}"#;
        assert_eq!(input.to_string(), expected);
    }
}

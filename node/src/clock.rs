//! Moments as the API writes them: RFC 3339, UTC, milliseconds.

use archipelag_protocol::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment in an answer or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = i128::from(self.0.0) * 1_000_000;
        // A time that the calendar does not reach is a peer's nonsense, not an error of ours.
        let text = OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok());
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| {
            de::Error::custom("write a time by RFC 3339, as in 2027-01-31T12:00:00Z")
        })?;
        let ms = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000)
            .map_err(|_| de::Error::custom("the time is before 1970"))?;
        Ok(Self(Timestamp(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339() {
        let moment = Moment(Timestamp(1_700_000_000_123));
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, r#""2023-11-14T22:13:20.123Z""#);
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
        let shifted = r#""2023-11-14T23:13:20.123+01:00""#;
        assert_eq!(serde_json::from_str::<Moment>(shifted).unwrap(), moment);
        assert_eq!(serde_json::to_string(&Moment(Timestamp(u64::MAX))).unwrap(), "null");
        assert!(serde_json::from_str::<Moment>(r#""tomorrow""#).is_err());
        assert!(serde_json::from_str::<Moment>(r#""1969-01-01T00:00:00Z""#).is_err());
    }
}

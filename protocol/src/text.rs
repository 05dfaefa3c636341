//! What text that people read by may be made of: names of Cargos, Islands, regions, keys.

/// Whether `c` shows nothing by itself: control characters, and what Unicode calls
/// `Default_Ignorable_Code_Point` or `Bidi_Control`. Such characters make two names look the same,
/// or turn the text around them.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether every character of `name` shows.
#[must_use]
pub fn shows(name: &str) -> bool {
    !name.chars().any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_show_is_found() {
        for name in ["text stats", "größe", "文字", "a\u{301}", "🦀"] {
            assert!(shows(name), "{name}");
        }
        for hidden in ['\n', '\u{7f}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{e0041}']
        {
            assert!(!shows(&format!("a{hidden}b")), "{hidden:?}");
        }
    }
}

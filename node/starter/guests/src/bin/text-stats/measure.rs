//! The figures of `text-stats`, which alone calls it.

use archipelag_starter_guests::number;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use unicode_segmentation::UnicodeSegmentation;

/// Distinct words counted; a word of more bytes than this counts as a word, but
/// not among the frequent ones.
const DISTINCT_WORDS: usize = 100_000;
const DISTINCT_WORD_BYTES: usize = 64;

#[derive(Serialize)]
pub struct Figures {
    /// As people count them: extended grapheme clusters.
    characters: usize,
    code_points: usize,
    size_bytes: usize,
    words: u64,
    distinct_words: usize,
    distinct_capped: bool,
    sentences: u64,
    lines: usize,
    paragraphs: usize,
    average_word_length: Value,
    average_sentence_words: Value,
    reading_time_seconds: Value,
    /// Null for a text without words.
    readability: Option<Readability>,
    top_words: Vec<Frequent>,
}

/// Known formulas. The last two count English syllables; the first two only
/// letters, so they mean something for other alphabets as well.
#[derive(Serialize)]
struct Readability {
    automated_readability_index: Value,
    coleman_liau_index: Value,
    flesch_reading_ease: Value,
    flesch_kincaid_grade: Value,
}

#[derive(Serialize)]
struct Frequent {
    word: String,
    count: u64,
}

/// No keys drawn at random: the same text takes the same time. The table's
/// order never reaches the output.
type Counts = HashMap<Box<str>, u64, BuildHasherDefault<DefaultHasher>>;

#[derive(Default)]
struct Words {
    words: u64,
    letters: u64,
    syllables: u64,
    counts: Counts,
    capped: bool,
}

impl Words {
    fn add(&mut self, word: &str, lower: &mut String) {
        self.words += 1;
        self.letters += word.chars().filter(|c| c.is_alphanumeric()).count() as u64;
        if word.len() > DISTINCT_WORD_BYTES {
            self.syllables += 1;
            self.capped = true;
            return;
        }
        lower.clear();
        lower.extend(word.chars().flat_map(char::to_lowercase));
        self.syllables += syllables(lower);
        if let Some(count) = self.counts.get_mut(lower.as_str()) {
            *count += 1;
        } else if self.counts.len() < DISTINCT_WORDS {
            self.counts.insert(lower.as_str().into(), 1);
        } else {
            self.capped = true;
        }
    }

    fn top(self, most: usize) -> Vec<Frequent> {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable_by(|(a, few), (b, many)| many.cmp(few).then_with(|| a.cmp(b)));
        counts.truncate(most);
        let frequent = |(word, count): (Box<str>, u64)| Frequent {
            word: word.into(),
            count,
        };
        counts.into_iter().map(frequent).collect()
    }
}

/// Measures `text`; `top` is how many frequent words to name.
pub fn measure(text: &str, top: u64, words_per_minute: u64) -> Figures {
    let mut words = Words::default();
    let mut lower = String::new();
    for word in text.unicode_words() {
        words.add(word, &mut lower);
    }
    let sentences = text.unicode_sentences().count() as u64;
    let (count, in_sentence) = (
        real(words.words),
        real(words.words) / real(sentences.max(1)),
    );
    let per_word = |total: u64| real(total) / count.max(1.0);
    Figures {
        characters: text.graphemes(true).count(),
        code_points: text.chars().count(),
        size_bytes: text.len(),
        words: words.words,
        distinct_words: words.counts.len(),
        distinct_capped: words.capped,
        sentences,
        lines: text.lines().count(),
        paragraphs: paragraphs(text),
        average_word_length: rounded(per_word(words.letters)),
        average_sentence_words: rounded(in_sentence),
        reading_time_seconds: rounded(count * 60.0 / real(words_per_minute)),
        readability: (words.words > 0).then(|| {
            readability(
                per_word(words.letters),
                per_word(words.syllables),
                in_sentence,
            )
        }),
        top_words: words.top(usize::try_from(top).unwrap_or(usize::MAX)),
    }
}

fn readability(letters: f64, syllables: f64, in_sentence: f64) -> Readability {
    Readability {
        automated_readability_index: rounded(4.71 * letters + 0.5 * in_sentence - 21.43),
        coleman_liau_index: rounded(5.88 * letters - 29.6 / in_sentence - 15.8),
        flesch_reading_ease: rounded(206.835 - 1.015 * in_sentence - 84.6 * syllables),
        flesch_kincaid_grade: rounded(0.39 * in_sentence + 11.8 * syllables - 15.59),
    }
}

/// Groups of vowels, less a silent final `e`: right for most English words.
fn syllables(lower: &str) -> u64 {
    let vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    let mut groups = 0;
    let mut inside = false;
    for c in lower.chars() {
        groups += u64::from(vowel(c) && !inside);
        inside = vowel(c);
    }
    let silent = lower.ends_with('e') && !lower.ends_with("le") && !lower.ends_with("ee");
    if silent && groups > 1 {
        groups - 1
    } else {
        groups.max(1)
    }
}

/// Runs of lines that are not blank.
fn paragraphs(text: &str) -> usize {
    let mut blank_before = true;
    text.lines()
        .filter(|line| {
            let blank = line.trim().is_empty();
            let starts = blank_before && !blank;
            blank_before = blank;
            starts
        })
        .count()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a text are far below 2^53"
)]
fn real(count: u64) -> f64 {
    count as f64
}

fn rounded(value: f64) -> Value {
    number((value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unicode_is_counted_as_people_do() {
        // A family emoji of seven code points, and an e with a combining accent.
        let figures = measure("👨‍👩‍👧‍👦 caf\u{65}\u{301}. Ist's gut? 東京\n\n\nx", 3, 238);
        assert_eq!((figures.characters, figures.code_points), (25, 32));
        assert_eq!((figures.words, figures.sentences), (6, 4));
        assert_eq!((figures.lines, figures.paragraphs), (4, 2));
    }

    #[test]
    fn frequent_words_are_ordered_by_count_then_by_word() {
        let figures = measure("b a B c a b d", 3, 238);
        let top: Vec<_> = figures
            .top_words
            .iter()
            .map(|f| (f.word.as_str(), f.count))
            .collect();
        assert_eq!(top, [("b", 3), ("a", 2), ("c", 1)]);
        assert_eq!(figures.distinct_words, 4);
    }

    #[test]
    fn syllables_of_english_words() {
        for (word, count) in [
            ("cat", 1),
            ("table", 2),
            ("home", 1),
            ("coffee", 2),
            ("the", 1),
            ("readability", 5),
        ] {
            assert_eq!(syllables(word), count, "{word}");
        }
    }

    #[test]
    fn an_endless_word_is_a_word() {
        let figures = measure(&"x".repeat(65), 10, 238);
        assert_eq!((figures.words, figures.distinct_words), (1, 0));
        assert!(figures.distinct_capped && figures.top_words.is_empty());
    }
}

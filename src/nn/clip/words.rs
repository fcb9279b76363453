//! Words as users give them, before they come to a tokenizer: characters that nobody sees, and languages that a CLIP does not read.
//!
//! Tokenizers do exactly what the published ones do, which is not what a user wants of pasted words: a byte order mark in front of them is
//! two more tokens, and the direction another one.

use regex::Regex;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

/// Characters that leave no mark: what Unicode calls default ignorable, formats (but for the few that are drawn) and controls that are no
/// white space.
static UNSEEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[[\p{DI}\p{Cf}--\p{PCM}]\p{Cc}--\s]").expect("a constant pattern"));

/// A letter of another script than the Latin.
static FOREIGN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}--[\p{Latin}\p{Common}\p{Inherited}]]").expect("a constant pattern"));

/// Unseen characters that a warning tells the places of.
const MOST_NAMED: usize = 4;

fn is_unseen(c: char) -> bool {
    UNSEEN.is_match(c.encode_utf8(&mut [0; 4]))
}

/// `words` without unseen characters and white space at their ends, and with straight quotation marks for curly ones, as OpenAI's tokenizer
/// makes them itself and those of model folders do not.
pub fn tidy(words: &str) -> String {
    let unseen: HashSet<usize> = unseen(words).map(|range| range.start).collect();
    let drops = |at: usize, c: char| c.is_whitespace() || unseen.contains(&at);
    let kept = |(at, c): (usize, char)| (!drops(at, c)).then_some((at, c));
    let Some((start, _)) = words.char_indices().find_map(kept) else { return String::new() };
    let end = words.char_indices().rev().find_map(kept).map_or(start, |(at, c)| at + c.len_utf8());
    let straight = |c: char| match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        other => other,
    };
    words[start..end].chars().map(straight).collect()
}

/// Where unseen characters are, without those that make the one before them what it is: variants, joined emojis and letters, flags.
fn unseen(words: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut before: Option<char> = None;
    let mut flag = false;
    words.char_indices().filter_map(move |(at, c)| {
        let after = words[at + c.len_utf8()..].chars().next();
        let seen = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace() && !is_unseen(c) && !c.is_ascii());
        let belongs = match c {
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => before.is_some_and(|c| !c.is_whitespace() && !is_unseen(c)),
            // Between letters of scripts that join, and between emojis, also behind their variant.
            '\u{200c}' | '\u{200d}' => (seen(before) || before == Some('\u{fe0f}')) && seen(after),
            '\u{e0020}'..='\u{e007f}' => flag,
            _ => false,
        };
        flag = c == '\u{1f3f4}' || (flag && belongs);
        before = Some(c);
        (is_unseen(c) && !belongs).then(|| at..at + c.len_utf8())
    })
}

/// What to tell a user of characters inside `words` that cannot be seen: which and where. None where there are none.
pub fn unseen_warning(words: &str) -> Option<String> {
    let words = tidy(words);
    let count = unseen(&words).count();
    let mut found: Vec<String> = unseen(&words)
        .take(MOST_NAMED)
        .map(|range| {
            let code: String = words[range.clone()].chars().map(|c| format!("U+{:04X}", u32::from(c))).collect();
            let before: Vec<char> = words[..range.start].chars().collect();
            // What was seen of them, for a user to find the place.
            let shown: String = before.iter().filter(|c| !is_unseen(**c)).collect();
            let from = shown.char_indices().rev().nth(19).map_or(0, |(at, _)| at);
            format!("{code} behind \"{}\" (character {})", &shown[from..], before.len() + 1)
        })
        .collect();
    if count > found.len() {
        found.push(format!("and {} more", count - found.len()));
    }
    let visible: String = words.chars().filter(|c| !is_unseen(*c)).collect();
    (!found.is_empty()).then(|| {
        let what = if found.len() == 1 { "a character that cannot be seen" } else { "characters that cannot be seen" };
        format!("\"{visible}\" holds {what}: {}; a CLIP reads other words then, so better leave it out", found.join(", "))
    })
}

/// The words of `text` that a CLIP of English plainly does not know: those with a letter of another script than the Latin (one Greek letter
/// alone is a sign), and those that its vocabulary breaks into 6 tokens or more with fewer than 3 letters each.
///
/// `tokens` counts a word's. Of the 100 000 most frequent words of English 23 are called foreign with OpenAI's vocabulary (names such as
/// Krzysztof, chemistry), of German 8 %: a rule for words that are plainly unknown, not for languages. Short words of a neighbour pass.
pub(super) fn foreign<E>(text: &str, tokens: impl Fn(&str) -> Result<usize, E>) -> Result<Vec<String>, E> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{L}[\p{L}\p{M}]*").expect("a constant pattern"));
    let mut found: Vec<String> = Vec::new();
    for word in WORDS.find_iter(text).map(|m| m.as_str()) {
        let letters = word.chars().count();
        let sign = letters == 1 && word.chars().all(|c| ('\u{370}'..='\u{3ff}').contains(&c));
        let other_script = FOREIGN.is_match(word) && !sign;
        let apart = || Ok(letters >= 6 && tokens(word).map(|tokens| tokens >= 6 && letters < 3 * tokens)?);
        if (other_script || apart()?) && !found.iter().any(|known| known == word) {
            found.push(word.to_string());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_dropped_at_the_ends() {
        let plain = "a pencil sketch";
        for c in
            "\u{feff}\u{200b}\u{200e}\u{200f}\u{2060}\u{ad}\u{34f}\u{61c}\u{180e}\u{200c}\u{200d}\u{202a}\u{202e}\u{2061}\u{2064}\u{2066}\
                  \u{2069}\u{3164}\u{fff9}\u{fffb}\u{e0001}\u{e0041}\u{7}\u{1b}\u{7f}\u{9b}\u{fe0f}"
                .chars()
        {
            let code = format!("U+{:04X}", u32::from(c));
            assert_eq!(tidy(&format!("{c}{plain}")), plain, "{code}");
            assert_eq!(tidy(&format!(" {c} {c}{plain}")), plain, "{code}");
            // Behind a letter a variation selector would be its own, such as that of an emoji's digit.
            if c != '\u{fe0f}' {
                assert_eq!(tidy(&format!("{plain}{c} {c}\r\n")), plain, "{code}");
                let warning = unseen_warning(&format!("a pen{c}cil sketch")).unwrap();
                assert!(warning.contains(&code) && warning.contains("behind \"a pen\" (character 6)"), "{warning}");
                assert!(warning.contains("\"a pencil sketch\" holds a character"), "{warning}");
            }
            assert_eq!(unseen_warning(&format!("{c}{plain}")), None, "{code}: what is dropped needs no warning");
        }
        let many = unseen_warning(&format!("a{}b", "\u{200b}".repeat(100_000))).unwrap();
        assert!(many.contains("and 99996 more") && many.len() < 1000, "{many}");
        assert_eq!(tidy(&"\u{200b}".repeat(1_000_000)), "");
        assert_eq!(tidy("\u{feff}\u{200b} "), "");
        assert_eq!(tidy(""), "");
    }

    #[test]
    fn what_is_seen_stays() {
        for words in [
            "a pencil sketch",
            "caf\u{e9}, cafe\u{301}",
            "a\u{a0}photo",
            "two\nlines\tand a tab",
            "\u{2764}\u{fe0f}",
            "1\u{fe0f}\u{20e3} key",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} family",
            "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308} flag",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "\u{601}12",
        ] {
            assert_eq!((tidy(words), unseen_warning(words)), (words.to_string(), None));
        }
    }

    #[test]
    fn quotation_marks_are_straight() {
        assert_eq!(tidy("the painter\u{2019}s \u{201c}sketch\u{201d}"), "the painter's \"sketch\"");
    }
}

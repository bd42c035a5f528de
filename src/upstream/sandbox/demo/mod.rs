//! What the sandbox says where no script says it: figures from a small set of sample data.

mod calls;
mod data;
mod facts;
mod figures;
mod period;
mod query;
mod render;
mod typed;
mod words;

use std::time::Duration;

use self::query::{Query, Question};
use super::wanted::{wanted, without};

/// How far back a question may lean.
const EARLIER: usize = 20;
/// The end of a message holds its question; more of it is not read.
const READ: usize = 8 * 1024;

/// Answers the last question of a message, on a thread that holds the earlier messages.
pub fn answer(earlier: &[&str], message: &str) -> String {
    let recent = earlier.len().saturating_sub(EARLIER);
    let earlier = earlier.get(recent..).unwrap_or_default();
    if let Some(wanted) = wanted(earlier, message) {
        return typed::answer(earlier, message, &wanted);
    }
    let plain = without(message);
    typed::told(plain).unwrap_or_else(|| told(&meant(earlier, plain)))
}

/// The answer to a question in words.
fn told(question: &Question) -> String {
    match question {
        Question::Figures(query) => render::answer(&figures::table(query), &query.ignored),
        Question::Data => render::contents(),
        Question::Help => render::help(),
    }
}

/// What the last message means, on top of the earlier ones.
fn meant(earlier: &[&str], message: &str) -> Question {
    let mut before: Option<Query> = None;
    for message in earlier {
        if let Question::Figures(query) = asked(without(message), before.as_ref()) {
            before = Some(query);
        }
    }
    asked(message, before.as_ref())
}

/// How long an analyst of flesh and blood makes one wait: 2 to 6 seconds, by the message.
pub fn reply_time(message: &str) -> Duration {
    let mixed = message.bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    Duration::from_millis(2000 + mixed % 4001)
}

/// The question of a message. Before it, and a line of dashes, may stand instructions, or an earlier
/// conversation as a transcript, whose own questions are what this one leans on.
fn asked(message: &str, before: Option<&Query>) -> Question {
    let mut begin = message.len().saturating_sub(READ);
    while !message.is_char_boundary(begin) {
        begin += 1;
    }
    let message = message.get(begin..).unwrap_or_default();
    let mut before = before.cloned();
    for line in message.lines() {
        if let Some(said) = said_by_user(line)
            && let Question::Figures(query) = query::parse(said, before.as_ref())
        {
            before = Some(query);
        }
    }
    let prompt = message.rsplit("\n---\n").next().unwrap_or(message);
    let paragraphs = paragraphs(prompt);
    let mut latest = paragraphs.iter().rev().map(|paragraph| {
        let asked = question(paragraph, before.as_ref());
        (asked, paragraph)
    });
    let Some((asked, _)) = latest.next() else {
        return Question::Help;
    };
    let talk = prompt.lines().any(|line| said_by_user(line).is_some());
    if asked != Question::Help || talk {
        return asked;
    }
    // A question may be followed by thanks; what is before it may be anything.
    let questions =
        latest.filter(|(_, paragraph)| paragraph.iter().any(|line| line.trim_end().ends_with('?')));
    questions.map(|(asked, _)| asked).next().unwrap_or(asked)
}

/// The last line that asks something.
fn question(paragraph: &[&str], before: Option<&Query>) -> Question {
    let lines = paragraph.iter().rev();
    lines
        .map(|line| query::parse(said_by_user(line).unwrap_or(line), before))
        .find(|question| *question != Question::Help)
        .unwrap_or(Question::Help)
}

fn paragraphs(message: &str) -> Vec<Vec<&str>> {
    let mut paragraphs = vec![Vec::new()];
    for line in message.lines() {
        if line.trim().is_empty() {
            paragraphs.push(Vec::new());
        } else if let Some(paragraph) = paragraphs.last_mut() {
            paragraph.push(line);
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

/// The rest of a transcript's line that begins with the user's role.
fn said_by_user(line: &str) -> Option<&str> {
    let (role, said) = line.split_once(':')?;
    let role = role.trim_matches(|c: char| !c.is_alphanumeric());
    role.eq_ignore_ascii_case("user").then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The title of the answer to the last message.
    fn title(messages: &[&str]) -> String {
        let (last, earlier) = messages.split_last().unwrap();
        let answer = answer(earlier, last);
        let title = answer.lines().next().unwrap_or_default();
        title.trim_matches('*').to_owned()
    }

    #[test]
    fn questions_are_understood() {
        let table = [
            ("total revenue", "Revenue"),
            ("How many desks did we sell last year?", "Units, Desk, 2024"),
            (
                "how much did we sell in Europe in Q1 2025?",
                "Revenue, Europe, 2025-01 to 2025-03",
            ),
            ("units by region and product", "Units by region and product"),
            ("which month was the best?", "Revenue by month, the highest"),
            (
                "best 3 months in 2025",
                "Revenue by month, the 3 highest, 2025",
            ),
            ("worst region by units", "Units by region, the lowest"),
            (
                "rank the products by revenue",
                "Revenue by product, highest first",
            ),
            ("top products", "Revenue by product, the 5 highest"),
            (
                "year over year growth of chairs",
                "Growth of revenue from 2024 to 2025, Chair",
            ),
            (
                "chairs vs lamps in 2025",
                "Revenue by product, Chair, Lamp, 2025",
            ),
            ("2024 vs 2025", "Revenue by year, 2024, 2025"),
            (
                "average units per month by product",
                "Average units per month by product",
            ),
            ("average price by product", "Price per unit by product"),
            ("what share comes from Europe?", "Share of revenue, Europe"),
            (
                "revenue and units by product",
                "Revenue and units by product",
            ),
            ("quarterly revenue trend", "Trend of revenue by quarter"),
        ];

        for (text, expected) in table {
            assert_eq!(title(&[text]), expected, "{text}");
        }
    }

    #[test]
    fn a_follow_up_leans_on_the_question_before_it() {
        let talk = [
            ("revenue by region?", "Revenue by region"),
            ("and only for 2025?", "Revenue by region, 2025"),
            ("and by product?", "Revenue by product, 2025"),
            ("top 3", "Revenue by product, the 3 highest, 2025"),
            ("and the lowest?", "Revenue by product, the 3 lowest, 2025"),
            ("units instead", "Units by product, the 3 lowest, 2025"),
            (
                "what about Asia?",
                "Units by product, the 3 lowest, Asia Pacific, 2025",
            ),
            (
                "also Europe",
                "Units by product, the 3 lowest, Asia Pacific, Europe, 2025",
            ),
            (
                "and for all years?",
                "Units by product, the 3 lowest, Asia Pacific, Europe",
            ),
            ("what is the total revenue of lamps?", "Revenue, Lamp"),
            ("growth", "Growth of revenue from 2024 to 2025, Lamp"),
        ];
        let texts = talk.map(|(text, _)| text);

        for (place, (text, expected)) in talk.iter().enumerate() {
            assert_eq!(title(&texts[..=place]), *expected, "{text}");
        }
    }

    #[test]
    fn the_last_question_of_a_message_is_answered() {
        let table = [
            (
                "You sell well.\n\nrevenue by region?\n\nthanks!",
                "Revenue by region",
            ),
            (
                "Instructions:\n\nReport sales.\n\n---\n\nunits by year",
                "Units by year",
            ),
            (
                "Earlier conversation:\n\nUser: units by region?\n\nAssistant: | Europe | 1 |\n\n\
                 ---\n\nand only for 2025?",
                "Units by region, 2025",
            ),
        ];

        for (message, expected) in table {
            assert_eq!(title(&[message]), expected, "{message}");
        }
    }

    #[test]
    fn what_is_no_question_about_the_data_gets_help() {
        let talk = "Earlier conversation:\n\nUser: units by region?\n\n---\n\ntell me a joke";

        for message in ["hello", "tell me a joke", "", "?", "help", talk] {
            assert_eq!(answer(&[], message), render::help(), "{message}");
        }
        assert_eq!(answer(&[], "what data is there?"), render::contents());
    }

    #[test]
    fn what_is_not_understood_is_said_and_what_is_not_there_is_not_made_up() {
        assert!(answer(&[], "revenue in Africa").contains("left out: africa."));
        assert!(answer(&[], "revenue in 2030").contains("There is no data for that."));
        assert!(answer(&[], "growth in 2024").contains("nothing before 2024"));
        assert!(answer(&["revenue by month"], "by region and product").len() < 4096);
    }
}

//! The ids of calls: they say what was called, so that a result is named for its function though nothing
//! else is known of the call, as in a conversation whose caller sends new text alone.

use crate::ids::Digest;

const LEAD: &str = "call_";

/// How many digits tell calls apart.
const DIGITS: usize = 12;

/// OpenAI takes ids of calls up to this length.
const LONGEST: usize = 64;

/// The id of a call of this function. A name that is too long is left out.
pub fn id(hash: &Digest, name: &str) -> String {
    let digits = hash.iter().take(DIGITS / 2);
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    let named = format!("{LEAD}{digits}_{name}");
    if named.len() <= LONGEST {
        named
    } else {
        format!("{LEAD}{digits}")
    }
}

/// The function that a call with this id calls, if the id is one of ours and says so.
pub fn function(id: &str) -> Option<&str> {
    let (digits, name) = id.strip_prefix(LEAD)?.split_at_checked(DIGITS)?;
    let is_ours = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.strip_prefix('_').filter(|_| is_ours)?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_is_called() {
        for name in ["add", "get_weather", "a.b-c:d/e", "call_0123456789ab_x"] {
            let id = id(&[0xa7; 32], name);

            assert_eq!(function(&id), Some(name));
            assert!(id.len() <= LONGEST);
        }
    }

    #[test]
    fn an_id_without_a_name_says_nothing() {
        let unnamed = id(&[0xa7; 32], &"n".repeat(128));

        assert_eq!(unnamed, "call_a7a7a7a7a7a7");
        for id in [
            unnamed.as_str(),
            "",
            "call_",
            "call_a7a7a7a7a7a7_",
            "call_a7a7a7a7a7ag_add",
            "call_7aa5d57ad2c8f2e131b20bc1",
            "toolu_a7a7a7a7a7a7_add",
            "call_a7a7a7a7a7\u{e4}_add",
        ] {
            assert_eq!(function(id), None, "{id}");
        }
    }
}

//! Redaction of credentials in texts that come from containers and servers. Such texts are shown in
//! status, Events and logs, and never written into records.

/// Replaces credentials in a text: the user part of addresses, and values of keys such as
/// `password`, `token` or `secret`.
#[must_use]
pub fn redact_credentials(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(redact_word).collect()
}

/// Keys, in lower case, whose values are not shown.
const KEYS: [&str; 8] =
    ["password", "passwd", "pwd", "secret", "token", "apikey", "api_key", "signature"];

const HIDDEN: &str = "***";

fn redact_word(word: &str) -> String {
    redact_values(&redact_user(word))
}

/// `scheme://user:password@host` without what stands before the `@`.
fn redact_user(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..authority).and_then(|a| a.rfind('@')) {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => word.to_owned(),
    }
}

/// `key=value` and `key:value` without the value, for each key that names a credential.
fn redact_values(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for part in word.split_inclusive(['&', ',', ';']) {
        let hides = part.find(['=', ':']).filter(|at| {
            let key = part[..*at].to_ascii_lowercase();
            KEYS.iter().any(|k| key.contains(k)) && !part[*at..].starts_with("://")
        });
        match hides {
            Some(at) => {
                let end = part.trim_end_matches(['&', ',', ';', ' ', '\n', '\t', '\r']).len();
                if end > at + 1 {
                    out.push_str(&part[..=at]);
                    out.push_str(HIDDEN);
                    out.push_str(&part[end..]);
                } else {
                    out.push_str(part);
                }
            }
            None => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_the_rest_of_the_text_stays() {
        let cases = [
            (
                "could not connect to postgresql://fraud:hunter2@db:5432/features now",
                "could not connect to postgresql://***@db:5432/features now",
            ),
            ("PASSWORD=hunter2 user=fraud", "PASSWORD=*** user=fraud"),
            (
                "https://s3/x?X-Amz-Signature=abc&X-Amz-Date=1",
                "https://s3/x?X-Amz-Signature=***&X-Amz-Date=1",
            ),
            ("auth_token:abc,next", "auth_token:***,next"),
            ("exit code 1: bad magic number", "exit code 1: bad magic number"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(redact_credentials(text), want);
        }
    }
}

//! Redaction of credentials in texts that come from containers and servers. Such texts are shown in
//! status, Events and logs, and never written into records.

/// Replaces credentials in a text: the user part of addresses, and values of keys such as
/// `password`, `token` or `secret`, also where the value is the word after its key.
#[must_use]
pub fn redact_credentials(text: &str) -> String {
    let mut hides_next = false;
    let words = text.split_inclusive(char::is_whitespace);
    words
        .map(|word| {
            let bare = word.trim_end();
            if hides_next && !bare.is_empty() {
                hides_next = false;
                return format!("{HIDDEN}{}", &word[bare.len()..]);
            }
            // Spaces between a key and its value are no value.
            hides_next |= bare.ends_with(['=', ':']) && names_credential(&bare[..bare.len() - 1]);
            redact_values(&redact_user(word))
        })
        .collect()
}

/// Keys, in lower case, whose values are not shown.
const KEYS: [&str; 8] =
    ["password", "passwd", "pwd", "secret", "token", "apikey", "api_key", "signature"];

const HIDDEN: &str = "***";

/// `scheme://user:password@host` without what stands before the `@`.
fn redact_user(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..authority).and_then(|a| a.rfind('@')) {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => word.to_owned(),
    }
}

/// True if a text ends with a key that names a credential.
fn names_credential(text: &str) -> bool {
    let key = text.rsplit(['/', '?', '=', ':', '{', '(', '[']).next().unwrap_or(text);
    let key = key.to_ascii_lowercase();
    KEYS.iter().any(|k| key.contains(k))
}

/// `key=value` and `key:value` without the value, for each key that names a credential.
fn redact_values(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for part in word.split_inclusive(['&', ',', ';']) {
        let mut separators = part.match_indices(['=', ':']).map(|(at, _)| at);
        let end = part.trim_end_matches(['&', ',', ';', ' ', '\n', '\t', '\r']).len();
        match separators.find(|at| names_credential(&part[..*at])).filter(|at| end > at + 1) {
            Some(at) => {
                out.push_str(&part[..=at]);
                out.push_str(HIDDEN);
                out.push_str(&part[end..]);
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
            ("password: hunter2 is wrong", "password: *** is wrong"),
            (r#"{"password": "hunter2", "user": "a"}"#, r#"{"password": *** "user": "a"}"#),
            ("https://token-server/x is down", "https://token-server/x is down"),
            ("the token: \n abc", "the token: \n ***"),
            ("exit code 1: bad magic number", "exit code 1: bad magic number"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(redact_credentials(text), want);
        }
    }
}

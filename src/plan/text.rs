//! Texts that sentences have in common.

/// Shortens a digest for a sentence.
#[must_use]
pub fn shorten_digest(digest: &str) -> String {
    match digest.char_indices().nth("sha256:".len() + 12) {
        Some((end, _)) => format!("{}…", &digest[..end]),
        None => digest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_any_text_are_shortened_at_a_character() {
        for (digest, want) in
            [("", ""), ("sha256:aa", "sha256:aa"), ("sha256:ééééééééééééé", "sha256:éééééééééééé…")]
        {
            assert_eq!(shorten_digest(digest), want);
        }
    }
}

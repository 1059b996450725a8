//! Registered models and their versions, in two requests.
//!
//! Timestamps there do not move when an alias or a tag does, so nothing is asked for by time: both
//! listings are read whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    api::Api,
    has_tags, once, time,
    wire::{Models, Version, Versions},
};
use crate::{
    api::{ModelRegistrySpec, registry::ModelRule},
    import::system::{Candidate, Found, Trouble},
};

/// The longest filter, in bytes: proxies take requests of 8 KiB, and it is percent-encoded.
const FILTER_MAX: usize = 2000;
/// The most that a page may have: the server's own limits.
const MODELS: &str = "1000";
const VERSIONS: &str = "10000";
/// The most pages of a listing.
const PAGES: usize = 100;

/// What there is for every rule of registered models, by the rule's name.
///
/// # Errors
/// When the server does not answer, or says no.
pub async fn survey(
    api: &Api,
    spec: &ModelRegistrySpec,
) -> Result<BTreeMap<String, Found>, Trouble> {
    let rules: Vec<(&ModelRule, &str)> = spec
        .models
        .iter()
        .filter_map(|rule| Some((rule, rule.registered_model.as_deref()?)))
        .collect();
    if rules.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: BTreeSet<&str> = rules.iter().map(|(_, name)| *name).collect();
    let filter = filter(&names);
    let aliases = aliases(api, filter.as_deref(), &names).await?;
    let versions = versions(api, filter.as_deref(), &names).await?;
    let none = Vec::new();
    let one = |(rule, name): (&ModelRule, &str)| {
        let candidates = versions
            .get(name)
            .unwrap_or(&none)
            .iter()
            .map(|version| candidate(rule, version))
            .collect();
        let aliases = aliases.get(name).cloned().unwrap_or_default();
        (
            rule.name.clone(),
            Found { name: rule.name.clone(), upstream: name.to_owned(), candidates, aliases },
        )
    };
    Ok(rules.into_iter().map(one).collect())
}

/// A filter for these names alone; None where it would be too long, or cannot be written: then
/// everything is asked for.
fn filter(names: &BTreeSet<&str>) -> Option<String> {
    let quoted = names.iter().map(|name| quoted(name)).collect::<Option<Vec<_>>>()?;
    Some(format!("name IN ({})", quoted.join(","))).filter(|filter| filter.len() <= FILTER_MAX)
}

/// A name between quotes that it does not hold itself: there is no way to escape them.
fn quoted(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_.()'+".contains(&b));
    match (plain, name.contains('\'')) {
        (true, false) => Some(format!("'{name}'")),
        (true, true) => Some(format!("\"{name}\"")),
        _ => None,
    }
}

fn query<'a>(
    filter: Option<&'a str>,
    most: &'a str,
    token: &'a str,
) -> Vec<(&'static str, &'a str)> {
    let mut query = vec![("max_results", most)];
    query.extend(filter.map(|filter| ("filter", filter)));
    query.extend(Some(("page_token", token)).filter(|(_, token)| !token.is_empty()));
    query
}

async fn aliases(
    api: &Api,
    filter: Option<&str>,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Trouble> {
    let (mut all, mut token) = (BTreeMap::new(), String::new());
    for _ in 0..PAGES {
        let page: Models = api
            .get("registered-models/search", &query(filter, MODELS, &token))
            .await?
            .unwrap_or_default();
        let ours =
            page.registered_models.into_iter().filter(|model| names.contains(model.name.as_str()));
        all.extend(ours.map(|model| {
            (model.name, model.aliases.into_iter().map(|a| (a.alias, a.version)).collect())
        }));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    Ok(all)
}

async fn versions(
    api: &Api,
    filter: Option<&str>,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Vec<Version>>, Trouble> {
    let (mut all, mut token): (BTreeMap<String, Vec<Version>>, _) =
        (BTreeMap::new(), String::new());
    for _ in 0..PAGES {
        let page: Versions = api
            .get("model-versions/search", &query(filter, VERSIONS, &token))
            .await?
            .unwrap_or_default();
        for version in
            page.model_versions.into_iter().filter(|version| names.contains(version.name.as_str()))
        {
            all.entry(version.name.clone()).or_default().push(version);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    // Pages are no snapshot: what moved between two of them comes twice.
    for versions in all.values_mut() {
        let numbers: BTreeSet<String> = once(versions.iter().map(|v| v.version.as_str()))
            .into_iter()
            .map(str::to_owned)
            .collect();
        let mut left = numbers;
        versions.retain(|version| left.remove(&version.version));
    }
    Ok(all)
}

fn candidate(rule: &ModelRule, version: &Version) -> Candidate {
    let id = version
        .source
        .strip_prefix("models:/")
        .filter(|id| id.starts_with("m-") && !id.contains('/'));
    Candidate {
        version: version.version.clone(),
        model: version.name.clone(),
        there: version.version.clone(),
        id: id.map(str::to_owned),
        time: time(version.creation_timestamp),
        fits: has_tags(&version.tags, &rule.version_tags),
        waits: (version.status != "READY").then_some("NotReady"),
        key: String::new(),
        run: version.run_id.clone(),
        description: version.description.clone(),
        siblings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_by_name_unless_that_cannot_be_written() {
        let of = |names: &[&str]| filter(&names.iter().copied().collect());
        assert_eq!(
            of(&["Fraud Score (EU)", "it's"]).as_deref(),
            Some("name IN ('Fraud Score (EU)',\"it's\")")
        );
        assert_eq!(of(&["ÄÖ"]), None);
        assert_eq!(of(&["a\"b"]), None);
        let many: Vec<String> = (0..1000).map(|n| format!("model-{n}")).collect();
        assert_eq!(of(&many.iter().map(String::as_str).collect::<Vec<_>>()), None);
    }
}

//! Models that runs logged and nobody registered: found by what changed since the last look, in one
//! request for all experiments.
//!
//! A tag that is put on a logged model later moves no timestamp, so now and then everything is read
//! again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use super::{
    api::Api,
    record, time,
    wire::{ExperimentAnswer, Logged, LoggedModels},
};
use crate::{
    api::{
        ModelRegistrySpec,
        registry::{LoggedModels as Wanted, ModelRule},
    },
    import::system::{Candidate, Found, Kind, Trouble},
};

/// How far before the newest change that was seen is asked again, in ms: servers behind one address
/// have clocks of their own.
const OVERLAP: i64 = 5 * 60 * 1000;
/// Models a page; one has some 2 KiB.
const PAGE: u32 = 200;
/// The most pages of a look.
const PAGES: usize = 500;

/// What was seen of logged models.
#[derive(Default)]
pub struct Seen {
    experiments: HashMap<String, String>,
    models: BTreeMap<String, Candidate>,
    tags: HashMap<String, BTreeMap<String, String>>,
    cursor: i64,
}

impl Seen {
    /// What there is for every rule of logged models, by the rule's name.
    ///
    /// # Errors
    /// When the server does not answer, or says no.
    pub async fn survey(
        &mut self,
        api: &Api,
        spec: &ModelRegistrySpec,
        whole: bool,
    ) -> Result<BTreeMap<String, Found>, Trouble> {
        let rules: Vec<(&ModelRule, &Wanted)> = spec
            .models
            .iter()
            .filter_map(|rule| Some((rule, rule.logged_models.as_ref()?)))
            .collect();
        if rules.is_empty() {
            return Ok(BTreeMap::new());
        }
        if whole {
            *self = Self::default();
        }
        self.find_experiments(api, &rules).await?;
        if !self.experiments.is_empty() {
            self.look(api).await?;
        }
        Ok(rules
            .into_iter()
            .map(|(rule, wanted)| (rule.name.clone(), self.found(rule, wanted)))
            .collect())
    }

    /// The ids of experiments by their names; one that is not there yet is asked for at each look.
    async fn find_experiments(
        &mut self,
        api: &Api,
        rules: &[(&ModelRule, &Wanted)],
    ) -> Result<(), Trouble> {
        let names: BTreeSet<&str> =
            rules.iter().map(|(_, wanted)| wanted.experiment.as_str()).collect();
        for name in names {
            if self.experiments.contains_key(name) {
                continue;
            }
            let found: Option<ExperimentAnswer> =
                api.get("experiments/get-by-name", &[("experiment_name", name)]).await?;
            if let Some(id) = found
                .map(|f| f.experiment)
                .filter(|e| e.lifecycle_stage != "deleted")
                .map(|e| e.experiment_id)
            {
                self.experiments.insert(name.to_owned(), id);
                // It may have models older than the cursor.
                self.cursor = 0;
            }
        }
        Ok(())
    }

    async fn look(&mut self, api: &Api) -> Result<(), Trouble> {
        let ids: BTreeSet<String> = self.experiments.values().cloned().collect();
        let (since, mut token) = (self.cursor - OVERLAP, String::new());
        let mut newest = self.cursor;
        for _ in 0..PAGES {
            let mut question = json!({
                "experiment_ids": ids, "max_results": PAGE,
                "order_by": [{"field_name": "creation_timestamp", "ascending": true}],
            });
            if since > 0 {
                question["filter"] = json!(format!("last_updated_timestamp > {since}"));
            }
            if !token.is_empty() {
                question["page_token"] = json!(token);
            }
            let page: Option<LoggedModels> = api.ask("logged-models/search", &question).await?;
            let page = page.ok_or_else(|| {
                Trouble::new(
                    Kind::Unreachable,
                    "The MLflow server does not know logged models: it needs MLflow 3.",
                )
            })?;
            for model in page.models {
                newest = newest.max(model.info.last_updated_timestamp_ms);
                self.take(model);
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        self.cursor = newest;
        Ok(())
    }

    fn take(&mut self, model: Logged) {
        let info = model.info;
        let made = time(info.creation_timestamp_ms);
        let candidate = Candidate {
            version: record::time_version(made, &info.model_id),
            model: info.name.clone(),
            there: info.model_id.clone(),
            id: Some(info.model_id.clone()),
            time: made,
            fits: true,
            waits: match info.status.as_str() {
                "LOGGED_MODEL_READY" => None,
                _ => Some("NotReady"),
            },
            key: info.experiment_id,
            run: info.source_run_id,
            ..Candidate::default()
        };
        self.tags.insert(
            info.model_id.clone(),
            info.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
        );
        self.models.insert(info.model_id, candidate);
    }

    fn found(&self, rule: &ModelRule, wanted: &Wanted) -> Found {
        let experiment = self.experiments.get(&wanted.experiment);
        let has = |id: &String| {
            let tags = self.tags.get(id);
            wanted
                .tags
                .iter()
                .all(|(key, value)| tags.is_some_and(|tags| tags.get(key) == Some(value)))
        };
        let ours: Vec<&Candidate> = self
            .models
            .iter()
            .filter(|(id, c)| Some(&c.key) == experiment && has(id))
            .map(|(_, c)| c)
            .collect();
        let mut by_run: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
        for candidate in ours.iter().filter(|c| c.waits.is_none()) {
            by_run.entry((&candidate.run, &candidate.model)).or_default().push(&candidate.there);
        }
        let siblings = |c: &Candidate| {
            let all = by_run
                .get(&(c.run.as_str(), c.model.as_str()))
                .map(Vec::as_slice)
                .unwrap_or_default();
            all.iter().filter(|id| **id != c.there).map(|id| (*id).to_owned()).collect()
        };
        let candidates =
            ours.into_iter().map(|c| Candidate { siblings: siblings(c), ..c.clone() }).collect();
        Found {
            name: rule.name.clone(),
            upstream: format!("experiment {}", wanted.experiment),
            candidates,
            ..Found::default()
        }
    }
}

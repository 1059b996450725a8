//! A scenario: read, planned, compared, and rewritten where that is asked for.

use std::{fs, path::Path};

use jiff::Timestamp;
use rollmodel::run::case::Case;
use serde::Deserialize;
use serde_yaml::Value;

use crate::{
    describe::{self, Status},
    observed,
};

/// What stands in a file; see `main.rs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    title: String,
    rule: String,
    given: String,
    #[serde(default)]
    change: Value,
    now: Option<Timestamp>,
    /// Read of `actions` and `status`.
    #[serde(skip)]
    expected: Expected,
    actions: Option<Vec<String>>,
    status: Option<Status>,
}

/// What a file says that follows; it stands at the end of the file.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    actions: Option<Vec<String>>,
    status: Option<Status>,
}

/// The command that writes what is planned now into the files.
const ACCEPT: &str = "ACCEPT=1 cargo test --test scenarios";

/// Plans a scenario, and compares; with `accept` its file is rewritten where it differs.
///
/// # Errors
/// What is wrong with the file, or what differs and what to do about it.
pub fn check(path: &Path, accept: bool) -> Result<(), String> {
    let name = path.strip_prefix(crate::root()).unwrap_or(path).display().to_string();
    let raw = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    let said = |what: String| format!("{name}: {what}");
    let text = observed::fill_numbers(&raw).map_err(said)?;
    let mut scenario: Scenario = serde_yaml::from_str(&text).map_err(|e| said(e.to_string()))?;
    scenario.expected =
        Expected { actions: scenario.actions.take(), status: scenario.status.take() };
    scenario.complaint().map_or(Ok(()), |what| Err(said(what)))?;
    let base = observed::base(&scenario.given).map_err(said)?;
    let case = observed::case(&scenario.title, base, &scenario.change, scenario.now);
    let case = case.map_err(said)?;
    let plan = case.plan().ok_or_else(|| said("it is a case of nothing".into()))?;
    let planned = Expected {
        actions: Some(describe::actions(&case, &plan)),
        status: Some(describe::status(&case, &plan)),
    };
    if planned == scenario.expected {
        return Ok(());
    }
    let contradiction = scenario.contradiction(&planned);
    if !accept || contradiction.is_some() {
        let right = || format!("If the new plan is right, accept it: {ACCEPT}");
        let next = contradiction.unwrap_or_else(right);
        return Err(failure(&name, &scenario, &planned, &dumped(path, &case), &next));
    }
    fs::write(path, rewritten(&raw, &planned)).map_err(|e| said(e.to_string()))
}

impl Scenario {
    fn complaint(&self) -> Option<String> {
        if !self.title.ends_with('.') || self.title.len() <= 20 {
            return Some("`title` is a sentence".into());
        }
        let path = crate::root().join(&self.rule);
        (!path.is_file()).then(|| format!("`rule`: there is no file {}", self.rule))
    }

    /// What the title cannot say both before and after.
    fn contradiction(&self, planned: &Expected) -> Option<String> {
        let acts = |expected: &Expected| {
            let actions = expected.actions.as_ref()?;
            Some(actions.iter().any(|line| describe::acts(line)))
        };
        let state = |expected: &Expected| expected.status.as_ref()?.state.clone();
        let (was, is) = (acts(&self.expected), acts(planned));
        let (old, new) = (state(&self.expected), state(planned));
        let what = match (was, is) {
            (Some(true), Some(false)) => "the plan does nothing any more".into(),
            (Some(false), Some(true)) => "the plan does something now".into(),
            _ if old.is_some() && old != new => {
                format!("the state is {} now", new.unwrap_or_else(|| "absent".into()))
            }
            _ => return None,
        };
        Some(format!(
            "ACCEPT=1 does not accept this, because the title says something else: {what}.\n\
             Fix the rule or the scenario. If the rule changed, correct the title, delete `actions` \
             and `status` from the file, and run: {ACCEPT}"
        ))
    }
}

impl Expected {
    /// What a failure compares, a line each.
    fn lines(&self) -> Vec<String> {
        let fields = self.status.iter().flat_map(Status::fields);
        let status = fields.filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
        self.actions.iter().flatten().cloned().chain(status).collect()
    }
}

/// Where the whole of it stands, for `rollmodel plan`.
fn dumped(path: &Path, case: &Case) -> String {
    let folder = crate::root().join("target/scenarios");
    let file = folder.join(path.file_name().unwrap_or_default());
    let text = serde_yaml::to_string(case).unwrap_or_default();
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&file, text)) {
        Ok(()) => file.strip_prefix(crate::root()).unwrap_or(&file).display().to_string(),
        Err(error) => error.to_string(),
    }
}

/// What a failing scenario says: the rule, what differs, and what to do.
fn failure(name: &str, scenario: &Scenario, planned: &Expected, whole: &str, next: &str) -> String {
    let (was, is) = (scenario.expected.lines(), planned.lines());
    let mut differs: Vec<String> = Vec::new();
    differs.extend(was.iter().filter(|line| !is.contains(line)).map(|line| format!("  - {line}")));
    differs.extend(is.iter().filter(|line| !was.contains(line)).map(|line| format!("  + {line}")));
    if differs.is_empty() {
        // The same lines in another order.
        differs.extend(is.iter().map(|line| format!("  + {line}")));
    }
    format!(
        "{name}: {}\nIt shows a rule of {}. What differs (- in the file, + in the plan):\n{}\n{next}\n\
         The whole plan: cargo run --bin rollmodel -- plan -f {whole}",
        scenario.title,
        scenario.rule,
        differs.join("\n"),
    )
}

/// A file with what is planned at its end; all before is as it was, and numbers that had a name
/// keep it.
fn rewritten(raw: &str, planned: &Expected) -> String {
    let starts = |line: &str| line.starts_with("actions:") || line.starts_with("status:");
    let kept: Vec<&str> = raw.lines().take_while(|line| !starts(line)).collect();
    let old = raw.get(kept.join("\n").len()..).unwrap_or_default();
    format!("{}\n{}", kept.join("\n"), block(&named(planned, old)))
}

/// What is planned, with the names of numbers where the file had them.
fn named(planned: &Expected, old: &str) -> Expected {
    let status = planned.status.as_ref().map(|status| Status {
        state: status.state.clone(),
        message: status.message.as_deref().map(|message| name_numbers(message, old)),
        conditions: status.conditions.clone(),
    });
    let actions = planned.actions.as_ref();
    let actions = actions.map(|all| all.iter().map(|line| name_numbers(line, old)).collect());
    Expected { actions, status }
}

/// A text in which a number has its name, where it stands before or after the same word as in the
/// file.
fn name_numbers(text: &str, old: &str) -> String {
    let (mut words, old): (Vec<&str>, Vec<&str>) =
        (text.split(' ').collect(), old.split_whitespace().collect());
    for (at, word) in old.iter().enumerate().filter(|(_, word)| word.contains("{{")) {
        let filled = observed::fill_numbers(word).unwrap_or_default();
        let beside = |words: &[&str], n: usize| {
            let before = n.checked_sub(1).zip(at.checked_sub(1));
            let before = before.is_some_and(|(n, at)| words[n] == old[at]);
            before || words.get(n + 1).is_some_and(|next| old.get(at + 1) == Some(next))
        };
        for n in 0..words.len() {
            if words[n] == filled && beside(&words, n) {
                words[n] = word;
            }
        }
    }
    words.join(" ")
}

/// `actions` and `status` as they stand in a file.
fn block(expected: &Expected) -> String {
    let mut out = String::new();
    match expected.actions.as_deref() {
        Some([]) => out.push_str("actions: []\n"),
        Some(lines) => {
            out.push_str("actions:\n");
            lines.iter().for_each(|line| out.push_str(&entry("- ", line)));
        }
        None => {}
    }
    if let Some(status) = &expected.status {
        out.push_str("status:\n");
        for (key, value) in status.fields() {
            if let Some(value) = value {
                out.push_str(&entry(&format!("  {key}: "), value));
            }
        }
    }
    out
}

const WIDTH: usize = 100;

/// A text behind `head`: as it is where YAML reads it so, in quotes, or folded over lines.
fn entry(head: &str, text: &str) -> String {
    let plain = serde_yaml::from_str::<Value>(text).is_ok_and(|value| value == text);
    let short = if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) };
    if head.chars().count() + short.chars().count() <= WIDTH {
        return format!("{head}{short}\n");
    }
    let indent = " ".repeat(head.len() - head.trim_start().len() + 2);
    let (mut out, mut line) = (format!("{head}>-\n"), indent.clone());
    for word in text.split(' ') {
        if line.len() > indent.len() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                out.push_str(&format!("{line}\n"));
                line.clone_from(&indent);
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    format!("{out}{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(actions: &[&str], state: &str) -> Expected {
        let status = Status { state: Some(state.into()), ..Status::default() };
        let actions = actions.iter().map(|line| (*line).to_owned()).collect();
        Expected { actions: Some(actions), status: Some(status) }
    }

    #[test]
    fn a_file_keeps_everything_above_its_actions_and_the_names_of_its_numbers() {
        let raw = "title: T.\n# Why.\nchange: {restarts: {{restart_limit}}}\nactions:\n\
                   - crashed {{restart_limit}} times\nstatus:\n  state: Rolling\n";
        let limit = rollmodel::api::deployment::RESTART_LIMIT;
        let line = format!("it crashed {limit} times, in rollout {limit}");
        let planned = expected(&[&line, "write status"], "Rolling");
        let want = "title: T.\n# Why.\nchange: {restarts: {{restart_limit}}}\nactions:\n\
                    - it crashed {{restart_limit}} times, in rollout LIMIT\n- write status\n\
                    status:\n  state: Rolling\n";
        assert_eq!(rewritten(raw, &planned), want.replace("LIMIT", &limit.to_string()));
    }

    #[test]
    fn long_lines_are_folded_and_read_back() {
        for text in ["a: b", "it's", &"word: ".repeat(40), "x", "[a", "- b", "2", "true"] {
            let text = text.trim();
            let yaml = entry("- ", text);
            assert!(yaml.lines().all(|line| line.chars().count() <= WIDTH), "{yaml}");
            assert_eq!(serde_yaml::from_str::<Vec<String>>(&yaml).unwrap(), [text]);
        }
    }

    #[test]
    fn a_plan_that_no_longer_acts_or_has_another_state_is_not_accepted() {
        let scenario = |was: Option<Expected>| Scenario {
            title: "T.".into(),
            rule: "src/plan/health.rs".into(),
            given: "serving-6".into(),
            change: Value::Null,
            now: None,
            expected: was.unwrap_or_default(),
            actions: None,
            status: None,
        };
        let goes_back = || Some(expected(&["create record 3", "write status"], "Rolling"));
        let refused = |was, is: &Expected| scenario(was).contradiction(is).is_some();
        assert!(refused(goes_back(), &expected(&["write status"], "Rolling")));
        assert!(refused(goes_back(), &expected(&["create record 3"], "Waiting")));
        assert!(!refused(goes_back(), &expected(&["create record 4"], "Rolling")));
        assert!(!refused(None, &expected(&[], "Rolling")));
    }
}

//! One look: survey, decide, describe and write down what is new, and say what came of it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use tracing::{debug, info};

use super::{
    cluster::{Cluster, Error, Versions, Written},
    decide::{self, Existing, Later, Seen, Trouble, Verdict, Which},
    recheck::{self, Rechecks},
    status::Look,
    system::{self, About, Candidate, Described, Found, Means, Outcome, System},
};
use crate::{
    api::{ModelRegistry, condition::truncate_text, names::version_name},
    fetch::credentials::Credentials,
    plan::facts::version::SPEC_MAX,
};

/// After how many looks everything is read again, for what no timestamp tells.
const WHOLE_EVERY: u64 = 60;

/// What is remembered between two looks. Forgetting it costs requests, never a wrong act.
pub struct Work {
    means: Means,
    /// Where the Secret is mounted, which the kubelet changes when it is changed.
    credentials: Option<PathBuf>,
    system: Option<(i64, Box<dyn System>)>,
    looks: u64,
    verdicts: HashMap<Which, Verdict>,
    missing: BTreeMap<String, u32>,
    rechecks: Rechecks,
}

/// What a look came to, and what is here after it.
pub struct Looked {
    /// What it came to.
    pub look: Look,
    /// The ModelVersions of the namespace.
    pub existing: BTreeMap<String, Existing>,
}

impl Work {
    /// With nothing remembered; the credentials of `means` are read anew at each look.
    #[must_use]
    pub fn new(means: Means, credentials: Option<PathBuf>, recheck_seconds: i64) -> Self {
        let (verdicts, missing, rechecks) =
            (HashMap::new(), BTreeMap::new(), Rechecks::new(recheck_seconds));
        Self { means, credentials, system: None, looks: 0, verdicts, missing, rechecks }
    }

    /// One look.
    ///
    /// # Errors
    /// When the API server does not do its part. What is wrong with the system is in the answer.
    pub async fn look(
        &mut self,
        cluster: &Cluster,
        registry: &ModelRegistry,
        versions: &Versions,
    ) -> Result<Looked, Error> {
        let mut existing = versions.read().unwrap_or_else(PoisonError::into_inner).clone();
        let look = match self.survey(registry).await {
            Ok(survey) => self.carry_out(cluster, registry, survey, &mut existing).await?,
            Err(trouble) => Look { trouble: Some(trouble), ..Look::default() },
        };
        Ok(Looked { look, existing })
    }

    async fn survey(
        &mut self,
        registry: &ModelRegistry,
    ) -> Result<system::Survey, system::Trouble> {
        self.read_credentials()?;
        let generation = registry.metadata.generation.unwrap_or_default();
        if self.system.as_ref().is_none_or(|(of, _)| *of != generation) {
            self.system = Some((generation, system::open(&registry.spec, &self.means)?));
            (self.looks, self.verdicts, self.missing) = (0, HashMap::new(), BTreeMap::new());
        }
        let whole = self.looks.is_multiple_of(WHOLE_EVERY);
        if whole {
            // What could not be imported may have been mended.
            self.verdicts.retain(|_, verdict| matches!(verdict, Verdict::Same | Verdict::Later(_)));
        }
        let Some((_, system)) = self.system.as_mut() else {
            return Err(system::Trouble::new(
                system::Kind::Misconfigured,
                "There is no system to look at.",
            ));
        };
        let survey = system.survey(&registry.spec, whole).await?;
        self.looks += 1;
        Ok(survey)
    }

    fn read_credentials(&mut self) -> Result<(), system::Trouble> {
        let wrong = |error: crate::fetch::error::Error| {
            system::Trouble::new(system::Kind::Misconfigured, error.sentence)
        };
        let credentials =
            Credentials::read(self.credentials.as_deref(), std::env::vars()).map_err(wrong)?;
        if *self.means.credentials != credentials {
            (self.means.credentials, self.system) = (Arc::new(credentials), None);
        }
        Ok(())
    }

    async fn carry_out(
        &mut self,
        cluster: &Cluster,
        registry: &ModelRegistry,
        survey: system::Survey,
        existing: &mut BTreeMap<String, Existing>,
    ) -> Result<Look, Error> {
        let gone = self.decide(cluster, registry, &survey, existing).gone;
        self.missing = decide::count_missing(&self.missing, &gone);
        let decision = self.decide(cluster, registry, &survey, existing);
        debug!(
            imports = decision.imports.len(),
            compares = decision.compares.len(),
            problems = decision.problems.len(),
            "decided"
        );
        let tasks: Vec<(usize, usize)> =
            decision.imports.iter().chain(&decision.compares).copied().collect();
        let mut look = Look { decision, ..Look::default() };
        for (rule, place) in tasks {
            let Some((found, candidate)) =
                survey.models.get(rule).and_then(|f| Some((f, f.candidates.get(place)?)))
            else {
                continue;
            };
            if let Err(trouble) =
                self.one(cluster, registry, (rule, found, candidate), existing, &mut look).await?
            {
                // What was imported before it stays; the rest waits for the next look.
                look.trouble = Some(trouble);
                break;
            }
        }
        if look.trouble.is_none() {
            look.trouble = self
                .recheck(cluster, registry, &survey, existing, &mut look.decision.problems)
                .await?
                .err();
        }
        look.survey = Some(survey);
        Ok(look)
    }

    async fn recheck(
        &mut self,
        cluster: &Cluster,
        registry: &ModelRegistry,
        survey: &system::Survey,
        existing: &BTreeMap<String, Existing>,
        problems: &mut Vec<Trouble>,
    ) -> Result<Result<(), system::Trouble>, Error> {
        let Some((_, system)) = self.system.as_ref() else { return Ok(Ok(())) };
        self.rechecks
            .look(
                &recheck::Seen { cluster, registry, system: system.as_ref(), survey, existing },
                problems,
            )
            .await
    }

    fn decide(
        &self,
        cluster: &Cluster,
        registry: &ModelRegistry,
        survey: &system::Survey,
        existing: &BTreeMap<String, Existing>,
    ) -> decide::Decision {
        decide::decide(&Seen {
            registry: &cluster.name,
            created: registry.metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
            spec: &registry.spec,
            found: &survey.models,
            existing,
            verdicts: &self.verdicts,
            look: self.looks,
            missing: &self.missing,
        })
    }

    async fn one(
        &mut self,
        cluster: &Cluster,
        registry: &ModelRegistry,
        (index, found, candidate): (usize, &Found, &Candidate),
        existing: &mut BTreeMap<String, Existing>,
        look: &mut Look,
    ) -> Result<Result<(), system::Trouble>, Error> {
        let (Some(rule), Some((_, system))) =
            (registry.spec.models.get(index), self.system.as_ref())
        else {
            return Ok(Ok(()));
        };
        let which = (found.name.clone(), candidate.version.clone(), candidate.time);
        let about = About {
            rule,
            candidate,
            settle: registry.spec.settle_seconds(),
            now: Timestamp::now(),
        };
        let outcome = match system.describe(&about).await {
            Ok(outcome) => outcome,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let verdict = match outcome {
            Outcome::Waits { reason, message } => {
                look.decision.waits.push((found.name.clone(), candidate.version.clone(), reason));
                if let Some(message) = message {
                    look.decision.problems.push(trouble(found, candidate, reason, message.clone()));
                    let later = self.later(&which, reason, message);
                    self.verdicts.insert(which, Verdict::Later(later));
                }
                return Ok(Ok(()));
            }
            Outcome::Passed => Verdict::Passed,
            Outcome::Problem { reason, message } => Verdict::Problem(reason, message),
            Outcome::Record(described) => {
                match write(cluster, registry, &described, existing).await? {
                    Some(verdict) => verdict,
                    None => return Ok(Ok(())),
                }
            }
        };
        if let Verdict::Problem(reason, message) = &verdict {
            look.decision.problems.push(trouble(found, candidate, reason, message.clone()));
        }
        self.verdicts.insert(which, verdict);
        Ok(Ok(()))
    }

    /// When it is tried again: after twice as many looks each time.
    fn later(&self, which: &Which, reason: &'static str, message: String) -> Later {
        let tries = match self.verdicts.get(which) {
            Some(Verdict::Later(later)) => later.tries.saturating_add(1),
            _ => 1,
        };
        Later { tries, until: self.looks + WHOLE_EVERY.min(1 << tries.min(10)), reason, message }
    }
}

fn trouble(found: &Found, candidate: &Candidate, reason: &'static str, message: String) -> Trouble {
    Trouble { model: found.name.clone(), version: Some(candidate.version.clone()), reason, message }
}

/// Writes a record down, or compares it with what another wrote; a verdict where that is not to be
/// done again.
async fn write(
    cluster: &Cluster,
    registry: &ModelRegistry,
    described: &Described,
    existing: &mut BTreeMap<String, Existing>,
) -> Result<Option<Verdict>, Error> {
    let spec = &described.spec;
    let name = version_name(&spec.model, &spec.version);
    let digest = spec.artifact.as_ref().and_then(|artifact| artifact.digest.clone());
    if let Some(other) = existing.get(&name) {
        let same = other.digest == digest && other.image == spec.image;
        let message = format!(
            "{name} was registered here by other hands, with another artifact or image: it stays as it is."
        );
        return Ok(Some(if same { Verdict::Same } else { Verdict::Problem("Conflict", message) }));
    }
    let size = serde_json::to_vec(spec).map_err(|source| Error::Json(name.clone(), source))?.len();
    if size > SPEC_MAX {
        let message = format!(
            "Its record would have {} KiB, and {} at most are stored safely: log fewer parameters and metrics.",
            size.div_ceil(1024),
            SPEC_MAX / 1024
        );
        return Ok(Some(Verdict::Problem("Refused", message)));
    }
    let record = Cluster::digest_of(spec)?;
    if cluster.bound(&spec.model, &spec.version).await?.iter().any(|bound| *bound != record) {
        let message = format!(
            "{name} was rolled out as another record, which was deleted since: it is not written again with other contents."
        );
        return Ok(Some(Verdict::Problem("Conflict", message)));
    }
    match cluster.create(spec, &described.left_out).await? {
        Written::Refused(says) => {
            let message =
                format!("The API server does not take its record: {}", truncate_text(&says, 400));
            Ok(Some(Verdict::Problem("Refused", message)))
        }
        // The watch shows it by the next look.
        Written::Taken => Ok(None),
        Written::Created => {
            let artifact = spec.artifact.as_ref();
            let here = Existing {
                model: spec.model.clone(),
                version: spec.version.clone(),
                image: spec.image.clone(),
                digest,
                size: artifact.and_then(|a| a.size),
                origin: spec.origin.clone(),
                goes_on: spec.run.as_ref().is_some_and(|run| run.end_time.is_none()),
            };
            existing.insert(name.clone(), here);
            let upstream =
                spec.origin.as_ref().and_then(|o| o.model.as_deref()).unwrap_or_default();
            let uid = registry.metadata.uid.as_deref().unwrap_or_default();
            let says = format!("Imported {name} from {}.", crate::fetch::name::escaped(upstream));
            cluster
                .tell(uid, false, ("Imported", &says, &format!("imported-{name}-{record}")))
                .await;
            info!(name, "written down");
            Ok(None)
        }
    }
}
